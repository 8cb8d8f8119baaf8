"""Exports are read correctly by the code of the other program."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from raydistill.artifacts.manifest import commit
from raydistill.distillation.initial import hard_labels
from raydistill.errors import ArtifactError
from raydistill.exporting.export import export
from raydistill.learning.normalise import Normalisation
from raydistill.stages.distill.artifact import KIND, LAST, SELECTED, DistilledSet, SyntheticImages, write_images
from raydistill.storage import Folder
from tests import zoo

NAMES, IPC, SIZE = ["round, smooth", "edge_on", "spiral"], 2, 8
NORMALISATION = Normalisation((0.1, 0.2, 0.3), (0.05, 0.1, 0.2))


def distilled(folder: Folder, soft: bool, lrs: list[float]) -> DistilledSet:
    targets = zoo.normal(1, 6, 3, dtype=torch.float32).softmax(dim=1) if soft else hard_labels([IPC] * 3)
    pixels = zoo.normal(0, 6, 3, SIZE, SIZE, dtype=torch.float32)
    images = SyntheticImages(pixels, targets, torch.tensor(lrs), NORMALISATION, iteration=7)
    for name in (SELECTED, LAST):
        write_images(folder, name, images, {"class_names": NAMES, "images_per_class": IPC})
    commit(folder, kind=KIND, identity="i", config={}, parents={}, seed=0, uris={})
    return DistilledSet.open(folder)


class TensorDataset(torch.utils.data.Dataset[Any]):
    """Copy of the class in ddranking/utils/data.py (v0.2.0)."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.images = images
        self.targets = labels
        self.imgs = [(image, label) for image, label in zip(images, labels)]  # noqa: B905

    def __getitem__(self, index: int) -> Any:
        return self.images[index], self.targets[index]

    def __len__(self) -> int:
        return len(self.images)


def loaded(to: Path) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Load as demo_soft.py and the start of `compute_metrics` do, with weights_only."""
    syn_images, labels, syn_lr = (
        torch.load(to / f"{name}.pt", map_location="cpu", weights_only=True) for name in ("images", "labels", "lr")
    )
    if torch.is_tensor(syn_lr):
        syn_lr = syn_lr.item()
    return syn_images, labels, syn_lr


def batch(images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return its first training batch: `DataLoader` over `TensorDataset`, unshuffled."""
    batch: tuple[torch.Tensor, torch.Tensor] = next(
        iter(torch.utils.data.DataLoader(TensorDataset(images, labels), batch_size=256))
    )
    return batch


def test_dd_ranking_reads_a_hard_labelled_set(folder: Folder, tmp_path: Path) -> None:
    original = distilled(folder, soft=False, lrs=[0.01])
    export(original, Folder(tmp_path / "out"), "dd-ranking")
    images, labels, lr = loaded(tmp_path / "out")
    assert images.shape == (len(NAMES) * IPC, 3, SIZE, SIZE)
    assert images.dtype == torch.float32
    assert torch.equal(images, original.selected.images_SCHW)
    assert lr == pytest.approx(0.01)
    # LabelRobustScoreHard.compute_metrics without hard labels:
    default = torch.tensor(np.array([np.ones(IPC) * i for i in range(len(NAMES))]), dtype=torch.long).view(-1)
    assert labels.dtype == torch.long
    assert torch.equal(labels, default)
    seen, targets = batch(images, labels)
    logits = zoo.normal(3, len(seen), len(NAMES), dtype=torch.float32)
    assert torch.isfinite(torch.nn.CrossEntropyLoss()(logits, targets))


@pytest.mark.parametrize("loss", ["sce", "kl"])
def test_dd_ranking_softmax_returns_the_soft_labels(folder: Folder, tmp_path: Path, loss: str) -> None:
    original = distilled(folder, soft=True, lrs=[0.01, 0.03])
    export(original, Folder(tmp_path / "out"), "dd-ranking")
    images, labels, lr = loaded(tmp_path / "out")
    assert lr == pytest.approx(0.02), "one rate: the mean of those per start epoch"
    _, tea_outputs = batch(images, labels)
    p = original.selected.targets_SK
    stu_outputs = zoo.normal(3, *p.shape, dtype=torch.float32)
    log_q = F.log_softmax(stu_outputs, dim=1)
    if loss == "sce":  # SoftCrossEntropyLoss(temperature=1.0)
        theirs = torch.sum(-F.log_softmax(stu_outputs / 1.0, dim=1) * F.softmax(tea_outputs / 1.0, dim=1)) / len(p)
        ours = -(p * log_q).sum(dim=1).mean()
    else:  # KLDivergenceLoss(temperature=1.0)
        theirs = F.kl_div(
            F.log_softmax(stu_outputs / 1.0, dim=1), F.softmax(tea_outputs / 1.0, dim=1), reduction="batchmean"
        )
        ours = (p * (p.log() - log_q)).sum(dim=1).mean()
    torch.testing.assert_close(theirs, ours)
    # its `accuracy` takes the class of a soft label by its largest entry
    assert torch.equal(tea_outputs.max(dim=1)[1], p.argmax(dim=1))


def test_a_probability_of_zero_has_a_finite_logarithm(folder: Folder, tmp_path: Path) -> None:
    original = distilled(folder, soft=True, lrs=[0.01])
    original.selected.targets_SK[0] = torch.tensor([0.5, 0.5, 0.0])
    export(original, Folder(tmp_path / "out"), "dd-ranking")
    _, labels, _ = loaded(tmp_path / "out")
    assert torch.isfinite(labels).all()
    torch.testing.assert_close(labels.softmax(dim=1), original.selected.targets_SK)


@pytest.mark.parametrize("form", ["dd-ranking", "png"])
def test_an_export_includes_the_inverse_normalisation(folder: Folder, tmp_path: Path, form: Any) -> None:
    original = distilled(folder, soft=True, lrs=[0.01, 0.03])
    export(original, Folder(tmp_path / "out"), form)
    info = json.loads((tmp_path / "out" / "info.json").read_text())
    assert (info["class_names"], info["images_per_class"], info["labels"]) == (NAMES, IPC, "soft")
    assert info["student_lrs"] == pytest.approx([0.01, 0.03])
    assert info["distilled_set"] == original.manifest.content
    mean, std = (torch.tensor(info[key])[:, None, None] for key in ("mean", "std"))
    pictures = (original.selected.images_SCHW * std + mean).clamp(0, 1).permute(0, 2, 3, 1)
    torch.testing.assert_close(pictures, original.selected.display())


def test_image_folder_numbers_exported_pictures_correctly(folder: Folder, tmp_path: Path) -> None:
    original, out = distilled(folder, soft=True, lrs=[0.01]), tmp_path / "out"
    export(original, Folder(out), "png")
    rows = list(csv.DictReader(io.StringIO((out / "labels.csv").read_text())))
    # torchvision's ImageFolder: classes are the sorted folders, samples the sorted files of each
    classes = sorted(entry.name for entry in out.iterdir() if entry.is_dir())
    samples = [(path, label) for label, name in enumerate(classes) for path in sorted((out / name).iterdir())]
    assert [(path.relative_to(out).as_posix(), str(label)) for path, label in samples] == [
        (row["file"], row["label"]) for row in rows
    ]
    assert [row["class"] for row in rows] == [name for name in NAMES for _ in range(IPC)]
    for (path, _), row, shown, target in zip(
        samples, rows, original.selected.display().numpy(), original.selected.targets_SK.tolist(), strict=True
    ):
        np.testing.assert_allclose(np.asarray(Image.open(path)) / 255, shown, atol=0.5 / 255 + 1e-6)
        assert [float(row[f"p_{name}"]) for name in NAMES] == target


def test_equal_sets_give_equal_bytes(folder: Folder, tmp_path: Path) -> None:
    original = distilled(folder, soft=True, lrs=[0.01])
    for name in ("one", "other"):
        export(original, Folder(tmp_path / name), "dd-ranking")
    for file in ("images.pt", "labels.pt", "lr.pt", "info.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


def test_a_folder_with_files_is_rejected_and_unchanged(folder: Folder, tmp_path: Path) -> None:
    original = distilled(folder, soft=False, lrs=[0.01])
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ArtifactError, match=r"not empty; give a new folder"):
        export(original, Folder(tmp_path), "png")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["mine.txt"]
