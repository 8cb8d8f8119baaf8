"""Hugging Face's `datasets` gets a set's pictures, labels and network inputs.

It opens the export of a set offline.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from markdown_it import MarkdownIt

datasets = pytest.importorskip("datasets")

from raydistill.artifacts.manifest import Parent, commit  # noqa: E402
from raydistill.datasets.table import ImageTable  # noqa: E402
from raydistill.distillation.initial import hard_labels  # noqa: E402
from raydistill.errors import ArtifactIncompatible, ConfigError  # noqa: E402
from raydistill.exporting import export as exports  # noqa: E402
from raydistill.exporting.dataset_card import LICENCES  # noqa: E402
from raydistill.exporting.export import export, open_for_export  # noqa: E402
from raydistill.exporting.huggingface import ordered_batches  # noqa: E402
from raydistill.galaxies.selection import SPLITS  # noqa: E402
from raydistill.learning.architectures import ConvNet  # noqa: E402
from raydistill.learning.networks import build_network, initial_parameters  # noqa: E402
from raydistill.learning.normalise import AnyNormalisation, Normalisation, PixelSums  # noqa: E402
from raydistill.learning.options import Training  # noqa: E402
from raydistill.learning.training import train  # noqa: E402
from raydistill.stages.curate.artifact import CuratedSet  # noqa: E402
from raydistill.stages.curate.summary import ClassSummary  # noqa: E402
from raydistill.stages.distill.artifact import KIND, LAST, SELECTED, DistilledSet, SyntheticImages, write_images  # noqa: E402
from raydistill.stages.sample.artifact import SyntheticSet  # noqa: E402
from raydistill.storage import Folder  # noqa: E402
from tests import zoo  # noqa: E402
from tests.unit.stages.curate import test_curated  # noqa: E402
from tests.unit.stages.sample import test_synthetic  # noqa: E402

SIZE, IPC, NAMES = 8, 3, ["Er", "Sb"]
PLAIN = Normalisation((0.1, 0.2, 0.3), (0.05, 0.1, 0.2))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub_cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def curated_set(folder: Folder, rows: dict[str, tuple[str, int]] = test_curated.ROWS, **config: str) -> CuratedSet:
    """Write a curated set of these rows, whose summary counts them."""
    counts = Counter(rows.values())
    classes = tuple(
        ClassSummary(name, 9, 9, *(counts[split, label] for split in SPLITS), lowest_confidence=None)
        for label, name in enumerate(NAMES)
    )
    test_curated.write(folder, rows, replace(test_curated.SUMMARY, classes=classes), **config)
    return CuratedSet.open(folder)


@pytest.fixture
def curated(folder: Folder) -> CuratedSet:
    return curated_set(folder)


def many_galaxies(folder: Folder) -> CuratedSet:
    """Return a curated set of 60 training galaxies.

    Their classes alternate irregularly in the order of ids.
    """
    classes = np.random.default_rng(0).integers(0, 2, 60).tolist()
    rows = {f"{587722981741690000 + index}": ("train", label) for index, label in enumerate(classes)}
    return curated_set(folder, rows)


def whitening() -> AnyNormalisation:
    sums = PixelSums(3 * SIZE * SIZE)
    sums.add(torch.randint(0, 256, (40, SIZE, SIZE, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8))
    return sums.whitening(0.1)


def distilled(
    folder: Folder, normalisation: AnyNormalisation = PLAIN, *, soft: bool = False, **parents: Any
) -> DistilledSet:
    count = len(NAMES) * IPC
    targets = zoo.normal(1, count, 2, dtype=torch.float32).softmax(dim=1) if soft else hard_labels([IPC] * 2)
    pixels = zoo.normal(0, count, 3, SIZE, SIZE, dtype=torch.float32)
    images = SyntheticImages(pixels, targets, torch.tensor([0.02]), normalisation, iteration=7)
    for name in (SELECTED, LAST):
        write_images(folder, name, images, {"class_names": NAMES, "images_per_class": IPC})
    config = {"distill": {"iterations": 7}}
    uris = {role: parent.uri for role, parent in parents.items()}
    commit(folder, kind=KIND, identity="i", config=config, parents=parents, seed=0, uris=uris)
    return DistilledSet.open(folder)


def header_of(readme: Path) -> dict[str, Any]:
    _, header, _ = readme.read_text().split("---\n", 2)
    loaded: dict[str, Any] = yaml.safe_load(header)
    return loaded


def run_card(out: Path) -> dict[str, Any]:
    """Run the Python code of a card, which only prepares the data for training."""
    code = re.search(r"```python\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {}
    exec(code[1].replace('FOLDER = "."', f"FOLDER = {str(out)!r}"), names)
    return names


def trained(images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    network = build_network(ConvNet(depth=1, width=4), 2, SIZE)
    training = Training(epochs=2, batch_size=2, compile=False)
    return train(network, initial_parameters(network, 0), images, targets, training, seed=0)


# ---- in memory ----


def test_curated_set_keeps_pictures_labels_votes_and_order(curated: CuratedSet) -> None:
    hub = curated.to_huggingface()
    assert list(hub) == ["train", "validation", "test"]
    assert isinstance(hub["train"].features["image"], datasets.Image)
    assert hub["train"].features["label"].names == curated.class_names
    for split in hub:
        rows, expected = hub[split].with_format("torch")[:], curated.load(split)
        assert torch.equal(rows["image"].permute(0, 2, 3, 1), expected.images_NHWC)
        assert torch.equal(rows["label"], expected.labels_N)
        assert list(hub[split]["object_id"]) == expected.object_ids
        assert list(hub[split]["votes"]) == curated.table(split, ["votes"])["votes"].to_pylist()


def test_set_that_is_mapped_from_disk_is_the_same(curated: CuratedSet, tmp_path: Path) -> None:
    hub, mapped = curated.to_huggingface(), curated.to_huggingface(cache_dir=tmp_path / "arrow")
    again = curated.to_huggingface(cache_dir=tmp_path / "arrow")
    for split in hub:
        assert not hub[split].cache_files
        assert [Path(file["filename"]).parent for file in mapped[split].cache_files] == [tmp_path / "arrow"]
        assert mapped[split].data.to_pydict() == hub[split].data.to_pydict() == again[split].data.to_pydict()
        assert mapped[split]._fingerprint == hub[split]._fingerprint  # results of map() are found again


@pytest.mark.parametrize("rows", [1, 7, 1024])
def test_batches_of_any_size_have_the_order_of_the_table(folder: Folder, rows: int) -> None:
    curated = many_galaxies(folder)
    batches = list(ordered_batches(curated, "train", rows))
    assert max(map(len, batches)) == min(rows, 60)
    expected = curated.table("train").drop_columns(["class_name"])
    assert pa.concat_tables(batches).cast(expected.schema).equals(expected)


def test_synthetic_set_says_that_it_is_synthetic(folder: Folder) -> None:
    test_synthetic.write(folder)
    samples = SyntheticSet.open(folder)
    hub = samples.to_huggingface()
    assert list(hub["synthetic"]) == [True] * 3
    assert list(hub["label"]) == list(test_synthetic.LABELS.values())  # -1: no class
    assert list(hub["parameters"]) == [None, '{"depth": 0.5, "width": 2.0}', '{"depth": 0.5, "width": 3.0}']
    pictures = hub.with_format("torch")[:]["image"].permute(0, 2, 3, 1)
    assert torch.equal(pictures, samples.load().images_NHWC)


@pytest.mark.parametrize("soft", [False, True])
def test_network_trained_on_hugging_faces_rows_is_the_same(folder: Folder, soft: bool) -> None:
    original = distilled(folder, soft=soft)
    rows = original.to_huggingface().with_format("torch")[:]
    images, targets = original.to_torch().tensors
    assert torch.equal(rows["label"], original.labels)
    assert torch.equal(trained(rows["pixel_values"], rows["target"]), trained(images, targets))


def test_pictures_of_prototypes_are_those_on_display(folder: Folder) -> None:
    original = distilled(folder)
    shown = np.stack([np.asarray(picture) for picture in original.to_huggingface()["image"]])
    np.testing.assert_allclose(shown / 255, original.selected.display().numpy(), atol=0.5 / 255 + 1e-6)


def test_missing_package_is_one_sentence(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    original = distilled(folder)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"'datasets' is not installed; run pip install 'raydistill\[huggingface\]'"):
        original.to_huggingface()


# ---- exported folders ----


def test_exported_curated_set_opens_offline_with_equal_pixels(curated: CuratedSet, tmp_path: Path) -> None:
    export(curated, Folder(tmp_path / "out"), "huggingface")
    loaded = datasets.load_dataset(str(tmp_path / "out"))
    assert {split: rows.num_rows for split, rows in loaded.items()} == {"train": 4, "validation": 1, "test": 1}
    for split, data in curated.to_huggingface().items():
        assert loaded[split].features == data.features
        assert loaded[split].data.to_pydict() == data.data.to_pydict()


def test_code_of_a_card_normalises_as_to_torch(curated: CuratedSet, tmp_path: Path) -> None:
    export(curated, Folder(tmp_path / "out"), "huggingface")
    ran, (images, labels) = run_card(tmp_path / "out"), curated.to_torch("train").tensors
    assert torch.equal(ran["images"], images)
    assert torch.equal(ran["labels"], labels)


@pytest.mark.parametrize("whitened", [False, True])
def test_card_of_a_distilled_set_has_its_inputs_and_its_normalisation(tmp_path: Path, whitened: bool) -> None:
    original = distilled(Folder(tmp_path / "set"), whitening() if whitened else PLAIN)
    export(original, Folder(tmp_path / "out"), "huggingface")
    ran, (images, targets) = run_card(tmp_path / "out"), original.to_torch().tensors
    assert torch.equal(ran["images"], images)
    assert torch.equal(ran["targets"], targets)
    real = torch.randint(0, 256, (5, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    torch.testing.assert_close(ran["normalise"](real), original.selected.normalisation.apply(real.permute(0, 2, 3, 1)))
    assert ("whitened (ZCA)" in (tmp_path / "out" / "README.md").read_text()) == whitened


def test_header_is_one_that_the_hub_accepts(tmp_path: Path) -> None:
    provenance = {"licence": "CC-BY-NC-SA 4.0", "citation": "Willett et al. 2013"}
    curated = curated_set(Folder(tmp_path / "curated"), **provenance)
    original = distilled(Folder(tmp_path / "distilled"), curated=Parent("i", curated.manifest.content, "/gone/curated"))
    export(original, Folder(tmp_path / "out"), "huggingface")
    card = datasets.info.DatasetCard.load(tmp_path / "out" / "README.md")
    header = header_of(tmp_path / "out" / "README.md")
    assert card.data.to_dict() == header
    assert header["license"] == "cc-by-nc-sa-4.0"  # that of the curated set, which lies beside the distilled one
    assert header["license"] in LICENCES
    assert header["size_categories"] == ["n<1K"]
    assert header["task_categories"] == ["image-classification"]
    assert header["dataset_info"]["splits"] == [
        {"name": "train", "num_bytes": pytest.approx(5500, rel=0.5), "num_examples": 6}
    ]
    assert "Cite the data: Willett et al. 2013." in card.text
    assert "Prototypes are not galaxies" in card.text
    assert original.to_huggingface().info.license == "CC-BY-NC-SA 4.0"
    assert original.to_huggingface().info.citation == "Willett et al. 2013"


def test_card_of_a_set_of_unknown_licence_says_so(curated: CuratedSet, tmp_path: Path) -> None:
    export(curated, Folder(tmp_path / "out"), "huggingface")
    assert header_of(tmp_path / "out" / "README.md")["license"] == "unknown"


HOSTILE = "![x](http://a/b) <script>alert(1)</script> a | b ${oc.env:HOME} {{ 1 }}"


def test_card_shows_foreign_text_literally(folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "NAMES", [HOSTILE, "b\n```\n<script>"])
    curated = curated_set(folder, licence=HOSTILE, citation=f"# {HOSTILE}", note=f"{HOSTILE}\n```\n<script>")
    export(curated, Folder(tmp_path / "out"), "huggingface")
    text = (tmp_path / "out" / "README.md").read_text().split("---\n", 2)[2]
    rendered = MarkdownIt("gfm-like", {"linkify": False}).render(text)
    assert "<img" not in rendered
    assert "<script" not in rendered
    assert rendered.count("a | b ${oc.env:HOME} {{ 1 }}") >= 3


def test_equal_sets_give_equal_bytes(curated: CuratedSet, tmp_path: Path) -> None:
    for name in ("one", "other"):
        export(curated, Folder(tmp_path / name), "huggingface")
    files = Folder(tmp_path / "one").files()
    assert files == [
        "README.md", *(f"data/{split}-00000-of-00001.parquet" for split in ("test", "train", "validation")), "info.json"
    ]  # fmt: skip
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


def test_large_split_is_written_in_several_files(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curated = many_galaxies(folder)
    monkeypatch.setattr(exports, "ROWS", 16)
    monkeypatch.setattr(exports, "SHARD_BYTES", sum(file.bytes for file in curated.manifest.files.values()) // 2)
    export(curated, Folder(tmp_path / "out"), "huggingface")
    files = sorted((tmp_path / "out" / "data").iterdir())
    assert len(files) > 1
    assert all(pq.ParquetFile(file).metadata.num_rows for file in files)
    assert list(datasets.load_dataset(str(tmp_path / "out"))["train"]["object_id"]) == curated.load("train").object_ids


def test_raydistill_reads_its_own_export_as_a_survey(curated: CuratedSet, tmp_path: Path) -> None:
    export(curated, Folder(tmp_path / "out"), "huggingface")
    index = ImageTable(root=str(tmp_path / "out"), id_columns=("object_id",)).index()
    rows = index.rows.sort_by("object_id").to_pydict()
    expected = sorted(test_curated.ROWS.items())
    assert rows["object_id"] == [key for key, _ in expected]
    assert rows["part"] == [split for _, (split, _) in expected]
    assert rows["label"] == [test_curated.NAMES[label] for _, (_, label) in expected]


def test_other_formats_take_distilled_sets_only(curated: CuratedSet, tmp_path: Path) -> None:
    with pytest.raises(ArtifactIncompatible, match="the format png takes distilled sets only"):
        export(curated, Folder(tmp_path / "out"), "png")
    with pytest.raises(ArtifactIncompatible, match="this is a curated set, not a distilled set"):
        open_for_export(curated.folder.uri, "dd-ranking")


def test_exported_sources_name_no_folder_of_this_machine(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = iter(
        ["a/1.jpg", "/home/me/2.jpg", "s3://bucket/private/3.jpg", "C:/me/4.jpg", "5.jpg", "{i|r|g}/6.fits#ra=1"]
    )
    written = test_curated.row

    def row(object_id: str, label: int) -> dict[str, object]:
        return {**written(object_id, label), "source": {"path": next(paths), "sha256": "0"}}

    monkeypatch.setattr(test_curated, "row", row)
    curated = curated_set(folder, catalog="/home/me/table.csv", root="file:///home/me/images")
    export(curated, Folder(tmp_path / "out"), "huggingface")
    exported = datasets.load_dataset(str(tmp_path / "out"))
    names = sorted(source["path"] for split in exported.values() for source in split["source"])
    assert names == ["2.jpg", "3.jpg", "4.jpg", "5.jpg", "a/1.jpg", "{i|r|g}/6.fits#ra=1"]
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file() and b"/me/" in path.read_bytes()]
