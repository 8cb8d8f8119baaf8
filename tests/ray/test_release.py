"""Released sets open, and their figures are found again.

Sets of other projects are read.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from ray_tools import SILENT, below, copy_of, tiny

import raydistill as rd
from raydistill import shipped
from raydistill.artifacts.manifest import Parent, commit
from raydistill.errors import (
    ArtifactError,
    ArtifactIncompatible,
    ArtifactMissing,
    CatalogError,
    ConfigError,
    NotRepeated,
)
from raydistill.exporting.foreign import opened_set
from raydistill.exporting.provenance import Provenance
from raydistill.exporting.release import check_pictures, release
from raydistill.exporting.verify import verify
from raydistill.pipeline.plan import Plan
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.stages.distill.card import CARD, Figure
from raydistill.stages.evaluate.stage import evaluate
from raydistill.storage import Folder
from tests.private_ray import training_here

CONFIG = "tiny"


@pytest.fixture(scope="module", autouse=True)
def _shipped() -> Iterator[None]:
    """Let the tiny config be one that comes with raydistill."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shipped, "FOLDERS", (*shipped.FOLDERS, Path(__file__).parents[1] / "configs"))
        yield


@pytest.fixture(scope="module")
def root(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny run up to its evaluation."""
    copied = copy_of(tiny_root, tmp_path_factory.mktemp("evaluated"), "survey", "curated", "trajectories", "distilled")
    evaluate(Plan(tiny(copied)), SILENT)
    return copied


@pytest.fixture(scope="module")
def released(root: Path) -> Path:
    folder = root / "released"
    release(CONFIG, [f"output={root}", "tracking.enabled=false"], Folder(str(folder)))
    return folder


def test_released_set_is_the_selected_one(root: Path, released: Path) -> None:
    made, opened = DistilledSet.open(str(below(tiny(root), "distilled"))), rd.open(released)
    assert torch.equal(opened.normalised_images, made.normalised_images)
    assert opened.last is opened.selected
    assert opened.seen().equals(made.seen())
    assert len(opened.to_torch()) == len(made.to_torch())
    assert not any(parent.uri for parent in opened.manifest.parents.values())
    assert str(root) not in "".join(path.read_text(errors="ignore") for path in released.iterdir())
    for call in (lambda: opened.initial, opened.to_fits):
        with pytest.raises(ArtifactMissing, match="no part of a released set"):
            call()
    with pytest.raises(ArtifactError, match="not empty"):
        release(CONFIG, [f"output={root}"], Folder(str(released)))


def test_pictures_of_a_survey_are_not_released(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raydistill.exporting.release.provenance_of", lambda _: Provenance("sky", False, "", "", ""))
    with pytest.raises(ArtifactIncompatible, match="5 of its 5 images still are pictures of the survey"):
        release(CONFIG, [f"output={root}"], Folder(str(tmp_path / "released")))


@pytest.mark.parametrize(
    ("init", "galaxies", "sentence"),
    [
        ("dm", 9, "distill.init=dm begins with pictures of the survey"),
        ("mean", 2, None),
        ("mean", 1, "5 of its 5 images still are pictures"),  # the mean of one galaxy
        ("clusters", 2, None),
        ("clusters", 1, "5 of its 5 images still are pictures"),
        ("noise", 1, None),
    ],
)
def test_start_decides_what_is_a_picture(root: Path, init: str, galaxies: int, sentence: str | None) -> None:
    distilled, curated = (opened.open(str(below(tiny(root), opened.kind))) for opened in (DistilledSet, CuratedSet))
    began = replace(distilled, manifest=replace(distilled.manifest, config={"distill": {"init": init}}))
    classes = tuple(replace(one, train=galaxies) for one in curated.summary.classes)
    survey = replace(curated, summary=replace(curated.summary, classes=classes))
    with nullcontext() if sentence is None else pytest.raises(ArtifactIncompatible, match=sentence):
        check_pictures(began, survey)


def test_figure_says_what_diverged() -> None:
    of = {"mean": 0.2, "std": 0.01, "ci95": 0.02, "n": 5}
    assert str(Figure.of({"balanced_accuracy": of})) == "0.200 ± 0.020 (5 networks)"
    assert str(Figure.of({"balanced_accuracy": of, "diverged": 2})) == "0.200 ± 0.020 (5 networks, 2 of them diverged)"
    assert str(Figure.of({"balanced_accuracy": of, "diverged": 5})) == "none (5 networks diverged)"


def test_card_has_the_figures_of_the_evaluation(root: Path, released: Path) -> None:
    card = rd.open(released).card
    assert card is not None
    summary = rd.open(below(tiny(root), "evaluation")).summary
    assert card.balanced_accuracy.mean == pytest.approx(summary["distilled"]["balanced_accuracy"]["mean"], abs=1e-4)
    assert {"random_real", "class_mean", "experts"} <= set(card.others)
    assert card.galaxies == len(CuratedSet.open(str(below(tiny(root), "curated"))).load("test").labels_N)
    assert not [word for word in card.overrides if "output" in word or "tracking" in word]


def test_figure_is_found_again(root: Path, released: Path, tmp_path: Path) -> None:
    fresh = copy_of(root, tmp_path, "survey", "curated")
    words = [f"output={fresh}", "tracking.enabled=false"]
    with training_here():
        verified = verify(str(released), None, words)
    assert verified.published is not None
    assert verified.found.mean == pytest.approx(verified.published.mean, abs=1e-4)
    verified.check()
    assert verify(str(released), CONFIG, words).published is None  # its protocol may be another
    with training_here():
        assert verify(str(released), None, [*words, "evaluate.num_networks=1"]).published is None

    figure = {"mean": 0.99, "std": None, "ci95": None}  # of one network: equal as shown, or not
    wrong = with_card(released, tmp_path / "wrong", balanced_accuracy=figure | {"n": 1})
    with training_here(), pytest.raises(NotRepeated, match=r"0\.990 \(1 networks\) was published"):
        verify(wrong, None, words).check()
    with training_here(), pytest.raises(ConfigError, match="its config has no protocol 'gone' for the network"):
        verify(with_card(released, tmp_path / "gone", protocol="gone"), None, words)


def with_card(released: Path, folder: Path, **changed: object) -> str:
    """Copy a released set, with another card."""
    for name in ("images.safetensors", "seen.parquet", "summary.json"):
        Folder(str(folder)).write(name, (released / name).read_bytes())
    card = json.loads((released / CARD).read_text()) | changed
    Folder(str(folder)).write(CARD, json.dumps(card).encode())
    manifest = rd.open(released).manifest
    commit(
        Folder(str(folder)), kind="distilled", identity=folder.name, config=manifest.config, seed=manifest.seed,
        parents={role: Parent(one.identity, one.content, "") for role, one in manifest.parents.items()},
        uris=dict.fromkeys(manifest.parents, ""),
    )  # fmt: skip
    return str(folder)


def foreign(folder: Path, **values: object) -> str:
    path = folder / "set.yaml"
    path.write_text(yaml.safe_dump(values))
    return str(path)


def test_tensors_of_another_project_have_the_figure_of_the_set(root: Path, released: Path, tmp_path: Path) -> None:
    made = rd.open(released)
    mean, std = (list(values) for values in made.selected.normalisation)
    order = torch.randperm(len(made.images), generator=torch.Generator().manual_seed(0))
    labels = made.labels[order]
    torch.save({"data": [[made.normalised_images[order], labels]]}, tmp_path / "res.pt")
    np.savez(tmp_path / "set.npz", x=made.normalised_images[order].numpy(), y=labels.numpy())
    words = [f"output={copy_of(root, tmp_path / 'runs', 'survey', 'curated')}", "tracking.enabled=false"]
    never = "evaluate.protocols.paper.learned_lr=never"
    found = []
    with training_here():
        found.append(verify(str(released), None, [*words, never]).found)
        for images, of in (("res.pt:data.0.0", "res.pt:data.0.1"), ("set.npz:x", "set.npz:y")):
            path = foreign(tmp_path, images=images, labels=of, mean=mean, std=std)
            verified = verify(path, CONFIG, [*words, never])
            assert verified.published is None
            found.append(verified.found)
    assert found[1].mean == found[2].mean == pytest.approx(found[0].mean)


@pytest.mark.parametrize(
    ("targets", "counts"),
    [
        ([0, 1, 0, 2, 0, 3, 1, 4, 0, 1], (4, 3, 1, 1, 1)),
        (torch.eye(5)[[0, 1, 0, 2, 0, 3, 1, 4, 0, 1]], (4, 3, 1, 1, 1)),
        (
            torch.eye(5)[[0, 1, 1, 1, 2, 2, 3, 3, 4, 4]] * 0.8 + 0.04,
            (2, 2, 2, 2, 2),
        ),  # a likely class is not always its own
    ],
)
def test_classes_of_other_projects_may_differ_in_size(
    root: Path, tmp_path: Path, targets: list[int] | torch.Tensor, counts: tuple[int, ...]
) -> None:
    images, labels = torch.randn(10, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.as_tensor(targets)
    torch.save(images, tmp_path / "x.pt")
    torch.save(labels, tmp_path / "y.pt")
    path = foreign(tmp_path, images="x.pt", labels="y.pt", mean=[0, 0, 0], std=[1, 1, 1])
    words = [f"output={copy_of(root, tmp_path / 'runs', 'survey', 'curated')}", "tracking.enabled=false"]
    opened = opened_set(path, Plan(rd.load_config(CONFIG, *words)))
    assert opened.counts == counts
    if len(set(counts)) > 1:
        assert opened.selected.targets_SK.argmax(dim=1).tolist() == opened.labels.tolist()
    else:
        assert torch.equal(opened.normalised_images, images), "soft labels keep the order of the file"


def test_folder_of_pictures_is_a_set(root: Path, released: Path, tmp_path: Path) -> None:
    made = rd.open(released)
    for number, (picture, label) in enumerate(zip(made.selected.levels(), made.labels.tolist(), strict=True)):
        folder = tmp_path / "pictures" / f"{label:05d}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{number:05d}.png")
    words = [f"output={copy_of(root, tmp_path / 'runs', 'survey', 'curated')}", "tracking.enabled=false"]
    with training_here():
        verified = verify(foreign(tmp_path, images="pictures", normalised=False), CONFIG, words)
    (opened,) = (tmp_path / "runs" / "tiny").glob("foreign-*")
    difference = rd.open(opened).images - made.images
    assert difference.abs().max() < 1 / 255
    assert 0 <= verified.found.mean <= 1


NORMALISED = {"images": "x.pt", "labels": "y.pt", "mean": [0, 0, 0], "std": [1, 1, 1]}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"images": "missing.pt", "labels": "y.pt"}, "there is no file 'missing.pt'"),
        ({"images": "x.pt"}, "it names no labels"),
        ({"images": "x.pt", "labels": "y.pt"}, "does not say how its images were normalised"),
        ({"images": "x.pt", "labels": "y.pt", "normalised": False}, "so they are no pictures"),
        ({"images": "x.pt", "labels": "few.pt", "mean": [0, 0, 0], "std": [1, 1, 1]}, "its classes have 4, 3, 2, 1, 0"),
        ({"images": "x.pt", "labels": "x.pt", "mean": [0, 0, 0], "std": [1, 1, 1]}, "do not fit 5 classes"),
        ({"images": "x.pt", "labels": "short.pt", "mean": [0, 0, 0], "std": [1, 1, 1]}, "labels [S] or [S, K]"),
        ({"images": "code.pt", "labels": "y.pt"}, "'code.pt' is no tensor"),
        ({"images": "x.pt:data.0", "labels": "y.pt"}, "has no tensor at 'data.0'"),
        ({"images": "nan.pt", "labels": "y.pt", "mean": [0, 0, 0], "std": [1, 1, 1]}, "not finite"),
        ({"images": "empty"}, "the folders of its pictures are"),
        ({"images": "x.pt", "labels": "y.pt", "mean": [0, 0, 0], "std": [1, -1, 1]}, "a std of 0.001 to 1"),
        ({"images": "x.pt", "labels": "y.pt", "mean": [0, 0, 0], "std": [1, 1, 1], "lr": -1}, "its learned rate is -1"),
        ({"images": "x.pt", "labels": "y.pt", "mean": [25, 25, 25], "std": [9, 9, 9]}, "a mean of 0 to 1"),
        ({"images": "bytes.pt", "labels": "y.pt", "mean": [0, 0, 0], "std": [1, 1, 1]}, "its images are whole numbers"),
        ({"images": "x.pt", "labels": "votes.pt", "mean": [0, 0, 0], "std": [1, 1, 1]}, "neither probabilities"),
        ({"images": "grey.pt", "labels": "y.pt", "normalised": False}, "its images have the shape (10, 1, 16, 16)"),
        ({"images": "pipe", "labels": "y.pt"}, "this is a pipe"),
        ({"pictures": "x.pt"}, "it does not describe a set of images"),
        (NORMALISED | {"learned_lr": 0.1}, "learned_lr: Unexpected keyword argument"),
        (NORMALISED | {"images": "shares.pt"}, "its images lie in [0, 1], as pictures do"),
        (NORMALISED | {"images": "levels.pt"}, "the median of its pixels is 101 times white"),
        ({"images": "halves.pt", "labels": "y.pt", "normalised": False}, "divide them by white"),
        (NORMALISED | {"labels": "from_1.pt"}, "its labels are 1 to 5, and its 5 classes 0 to 4"),
        (NORMALISED | {"labels": "mixed.pt"}, "neither probabilities"),
        (NORMALISED | {"images": "sparse.pt"}, "is no dense tensor of real numbers"),
        (NORMALISED | {"images": "huge.pt"}, "not finite"),
        (
            NORMALISED | {"images": "set.npz"},
            "'set.npz' holds x, y; name one of them after a colon, such as set.npz:x",
        ),
    ],
)
def test_wrong_sets_have_one_sentence(root: Path, tmp_path: Path, values: dict[str, object], sentence: str) -> None:
    images = torch.randn(10, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    tensors = {
        "x": images, "y": torch.arange(10) % 5, "few": torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 3]),
        "short": torch.arange(5), "nan": images.where(images < 2, torch.nan), "code": Code(),
        "bytes": torch.zeros(10, 3, 16, 16, dtype=torch.uint8), "votes": torch.full((10, 5), 8),
        "shares": images.sigmoid(), "levels": images.abs() + 100, "halves": images.abs() + 1.5,
        "from_1": torch.arange(10) % 5 + 1, "mixed": torch.cat([torch.eye(5), -torch.ones(5, 5)]),
        "sparse": images.to_sparse(), "huge": images.double() * 1e300,
    }  # fmt: skip
    for name, value in tensors.items():
        torch.save(value, tmp_path / f"{name}.pt")
    torch.save(images[:, :1], tmp_path / "grey.pt")
    np.savez(tmp_path / "set.npz", x=images, y=tensors["y"])
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CatalogError, match=re.escape(sentence)):
        verify(foreign(tmp_path, **values), CONFIG, [f"output={root}", "tracking.enabled=false"])
    assert not (tmp_path / "ran").exists()


class Code:
    """An object whose pickle would write a file."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (str(Path("ran")),)


@pytest.mark.parametrize(
    ("config", "overrides", "sentence"),
    [
        ("/data/mine.yaml", [], "no config that comes with raydistill"),
        ("../tests/configs/tiny", [], "no config that comes with raydistill"),
        ("tiny", ["survey.catalog=/data/x.csv"], "names a file or code"),
        ("tiny", ["network={kind: custom, factory: os:system}"], "names a file or code"),
        ("tiny", ["extends=../evil"], "names a file or code"),
        ("tiny", ["survey.catalog=x.csv"], "names a file or code"),
        ("tiny", ["survey.images.root=x"], "names a file or code"),
        ("tiny", ["curate.filter.labels=x"], "names a file or code"),
    ],
)
def test_card_names_no_file_and_no_code(
    released: Path, tmp_path: Path, config: str, overrides: list[str], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        release(config, overrides, Folder(str(tmp_path / "mine")))
    hostile = tmp_path / "hostile"
    for name in ("images.safetensors", "seen.parquet"):
        Folder(str(hostile)).write(name, (released / name).read_bytes())
    card = json.loads((released / CARD).read_text()) | {"config": config, "overrides": overrides}
    Folder(str(hostile)).write(CARD, json.dumps(card).encode())
    commit(Folder(str(hostile)), kind="distilled", identity="a", config={}, parents={}, seed=0, uris={})
    with pytest.raises(ConfigError, match=sentence):
        verify(str(hostile))


def test_set_without_a_card_needs_a_config(root: Path) -> None:
    with pytest.raises(ConfigError, match="verify SET CONFIG"):
        verify(str(below(tiny(root), "distilled")))


def test_shipped_set_opens_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    opened = rd.open("demo")
    assert opened.images.shape == (9, 3, 32, 32)
    assert len(opened.to_huggingface()) == 9
    (tmp_path / "demo").mkdir()  # a folder of the user comes first
    with pytest.raises(ArtifactMissing):
        rd.open("demo")
