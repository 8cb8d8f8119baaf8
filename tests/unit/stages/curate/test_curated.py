"""A curated set is plain Parquet; reading returns written rows, sorted, by split."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from raydistill.artifacts.manifest import commit
from raydistill.errors import ArtifactCorrupt
from raydistill.galaxies.classes import ClassTree, GalaxyClass
from raydistill.stages.curate.artifact import KIND, SCHEMA, CuratedSet, partition
from raydistill.stages.curate.summary import ClassSummary, Summary
from raydistill.storage import Folder

SIZE = 8
NAMES = ("Er", "Sb")
SUMMARY = Summary(
    "a survey", True, SIZE, 0.5, (0.1, 0.2, 1 / 3), (0.4, 0.5, 0.6),
    (ClassSummary("Er", 9, 4, 3, 1, 0, 0.83), ClassSummary("Sb", 5, 3, 2, 0, 1, None)), {"too small": 2},
)  # fmt: skip
# object id -> (split, label); ids have the 18 digits of SDSS, in another order than the labels
ROWS = {
    "587722981741691055": ("train", 1),
    "587722981741691001": ("train", 0),
    "587722981741691099": ("train", 0),
    "587722981741691044": ("train", 1),
    "587722981741691002": ("validation", 0),
    "587722981741691003": ("test", 1),
}


def picture(object_id: str) -> np.ndarray:
    return np.random.default_rng(int(object_id)).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def row(object_id: str, label: int) -> dict[str, object]:
    return {
        "object_id": object_id, "class_name": NAMES[label], "ra": 180.0, "dec": -1.5, "petro_r90": None,
        "confidence": int(object_id[-2:]) / 100, "votes": [int(object_id[-2:]) / 100] * 37, "source": {"path": "a.jpg", "sha256": "00"},
        "image": png(picture(object_id)),
    }  # fmt: skip


def write(folder: Folder, rows: dict[str, tuple[str, int]] = ROWS, summary: Summary = SUMMARY, **config: str) -> None:
    for split, label in sorted(set(rows.values())):
        keys = sorted(key for key, partition_of_row in rows.items() if partition_of_row == (split, label))
        with folder.writing(partition(split, label)) as path:
            pq.write_table(pa.Table.from_pylist([row(key, label) for key in keys], SCHEMA), path)
    folder.write("summary.json", summary.to_json())
    commit(folder, kind=KIND, identity="i", config=config, parents={}, seed=0, uris={})


@pytest.fixture
def curated(folder: Folder) -> CuratedSet:
    write(folder)
    return CuratedSet.open(folder)


def test_the_summary_is_read_as_written(curated: CuratedSet) -> None:
    assert curated.summary == SUMMARY
    assert (curated.class_names, curated.num_classes) == (["Er", "Sb"], 2)
    assert curated.normalisation.mean_C == SUMMARY.mean
    assert curated.normalisation.std_C == SUMMARY.std


def test_split_is_sorted_by_object_id(curated: CuratedSet) -> None:
    train = curated.load("train")
    expected = sorted(key for key, (split, _) in ROWS.items() if split == "train")
    assert train.object_ids == expected
    assert train.labels_N.tolist() == [ROWS[key][1] for key in expected]
    assert train.images_NHWC.dtype == torch.uint8
    for pixels, key in zip(train.images_NHWC, expected, strict=True):
        np.testing.assert_array_equal(pixels.numpy(), picture(key))
    np.testing.assert_allclose(train.confidence_N, [0.01, 0.44, 0.55, 0.99])


def test_the_image_column_may_exceed_2_gb(curated: CuratedSet) -> None:
    assert curated.table("train").schema.field("image").type == pa.large_binary()


def test_probabilities_have_the_order_of_the_pictures(curated: CuratedSet) -> None:
    """With all fractions v, paths of one and of two steps: v : v^2, that is 1 : v."""
    tree = ClassTree(
        "t", (GalaxyClass("Er", (("smooth",),)), GalaxyClass("Sb", (("features_or_disk",), ("edgeon_no",))))
    )
    assert curated.has_votes
    v = torch.tensor([0.01, 0.44, 0.55, 0.99])
    expected = torch.stack([1 / (1 + v), v / (1 + v)], dim=1)
    torch.testing.assert_close(curated.probabilities("train", tree), expected)


def test_a_split_may_lack_a_class(curated: CuratedSet) -> None:
    assert curated.load("validation").labels_N.tolist() == [0]
    assert curated.load("test").object_ids == ["587722981741691003"]


def test_a_table_has_the_requested_columns_and_the_label(curated: CuratedSet) -> None:
    assert curated.table("train").column_names == [*SCHEMA.names, "label"]
    assert curated.table("train", ["object_id", "ra"]).column_names == ["object_id", "ra", "label"]


def test_columns_may_leave_out_the_object_id(curated: CuratedSet) -> None:
    table = curated.table("train", ["confidence"])
    assert table.column_names == ["confidence", "label"]
    assert table["confidence"].to_pylist() == [0.01, 0.44, 0.55, 0.99]  # still in order of object id


def test_an_empty_split_is_an_empty_table(folder: Folder) -> None:
    empty = tuple(replace(entry, kept=0, train=0, validation=0, test=0) for entry in SUMMARY.classes)
    folder.write("summary.json", replace(SUMMARY, classes=empty).to_json())
    commit(folder, kind=KIND, identity="i", config={}, parents={}, seed=0, uris={})
    curated = CuratedSet.open(folder)
    assert curated.table("train", ["object_id", "ra"]).column_names == ["object_id", "ra", "label"]
    empty = curated.load("test")
    assert empty.images_NHWC.shape == (0, SIZE, SIZE, 3)
    assert (empty.labels_N.tolist(), empty.object_ids, len(empty.confidence_N)) == ([], [], 0)


def test_a_summary_that_counts_missing_galaxies_is_corrupt(folder: Folder) -> None:
    write(folder)
    name = partition("train", 1)
    folder.remove(name)
    commit(folder, kind=KIND, identity="i", config={}, parents={}, seed=0, uris={})
    with pytest.raises(ArtifactCorrupt, match=f"its summary counts galaxies in '{name}'"):
        CuratedSet.open(folder)


def test_plain_pyarrow_and_pandas_read_the_same_galaxies(folder: Folder) -> None:
    if not folder.is_local:
        pytest.skip("pyarrow's own readers know disks and clouds, not fsspec's memory")
    write(folder)
    table = pq.read_table(f"{folder.uri}/data/split=train")  # pandas.read_parquet is this
    assert sorted(table["object_id"].to_pylist()) == CuratedSet.open(folder).load("train").object_ids
    assert set(zip(table["label"].to_pylist(), table["class_name"].to_pylist(), strict=True)) == {(0, "Er"), (1, "Sb")}


def test_pandas_gets_a_set_with_an_empty_split(folder: Folder) -> None:
    rows = {key: where for key, where in ROWS.items() if where[0] == "train"}
    classes = tuple(replace(entry, train=2, validation=0, test=0) for entry in SUMMARY.classes)
    write(folder, rows, replace(SUMMARY, classes=classes))
    frame = CuratedSet.open(folder).to_pandas()
    assert dict(zip(frame["object_id"], frame["split"], strict=True)) == dict.fromkeys(rows, "train")


def test_opening_detects_a_damaged_picture(curated: CuratedSet) -> None:
    name = partition("test", 1)
    data = bytearray(curated.folder.read(name))
    data[len(data) // 2] ^= 0xFF
    curated.folder.write(name, bytes(data))
    with pytest.raises(ArtifactCorrupt, match=name):
        CuratedSet.open(curated.folder)


def test_writing_twice_is_byte_identical(folder: Folder) -> None:
    write(folder / "one")
    write(folder / "other")
    assert (folder / "one").files() == (folder / "other").files()
    for name in (folder / "one").files():
        assert (folder / "one").read(name) == (folder / "other").read(name)


def test_the_summary_is_plain_json() -> None:
    raw = json.loads(SUMMARY.to_json())
    assert raw["classes"][0]["name"] == "Er"
    assert raw["rejected"] == {"too small": 2}
