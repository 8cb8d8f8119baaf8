"""Tests of Parquet files of encoded pictures, such as those of Hugging Face."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_files import read_all
from PIL import Image

from raydistill.datasets.table import ImageTable
from raydistill.errors import CatalogError
from raydistill.galaxies.pictures.sources import ParquetImages


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write(
    path: Path, pictures: np.ndarray, labels: Sequence[Any], group: int = 4, **columns: Sequence[Any]
) -> ImageTable:
    """Write a file of pictures as plain bytes."""
    path.parent.mkdir(exist_ok=True)
    columns = {"image": [png(pixels) for pixels in pictures[: len(labels)]], "label": labels, **columns}
    pq.write_table(pa.table(columns), path, row_group_size=group)
    return ImageTable(root=str(path))


def write_hugging_face(path: Path, pictures: np.ndarray, labels: Sequence[int], names: Sequence[str]) -> None:
    """Write a file as `datasets` does: pictures as structs of bytes and path.

    The features are in the schema metadata.
    """
    image = pa.array([{"bytes": png(p), "path": "x.png"} for p in pictures[: len(labels)]])
    table = pa.table({"image": image, "label": pa.array(labels, pa.int64())})
    features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=5)


def test_large_integer_is_a_valid_label(tmp_path: Path, pictures: np.ndarray) -> None:
    """A column of ids or dates must not create a name for every smaller number."""
    assert write(tmp_path / "mine.parquet", pictures, [3, 2**60, 3]).index().names == ["3", str(2**60)]


def test_file_without_a_split_numbers_its_pictures(tmp_path: Path, pictures: np.ndarray) -> None:
    data = write(tmp_path / "mine.parquet", pictures, [0, 2, -1, None, 2, 10, 2])
    names, rows = data.index()
    assert names == ["0", "2", "10"]
    assert rows["label"].to_pylist() == ["0", "2", None, None, "2", "10", "2"]
    assert rows["part"].to_pylist() == [None] * 7
    assert rows["object_id"].to_pylist() == [f"{n:07d}" for n in range(7)]
    np.testing.assert_array_equal(read_all(data), pictures[:7])
    some = [data.decode(source) for source in data.read("mine.parquet", 1, [0, 2])]
    np.testing.assert_array_equal(some, pictures[[4, 6]])


@pytest.mark.parametrize("metadata", ["{", '{"info": null}', '{"info": {"features": {"label": [{"names": ["a"]}]}}}'])
def test_metadata_without_a_class_label_give_no_names(tmp_path: Path, pictures: np.ndarray, metadata: str) -> None:
    write_hugging_face(tmp_path / "train.parquet", pictures, [0, 1, 0], ["a", "b"])
    table = pq.read_table(tmp_path / "train.parquet").replace_schema_metadata({"huggingface": metadata})
    pq.write_table(table, tmp_path / "train.parquet")
    assert ImageTable(root=str(tmp_path)).index().names == ["0", "1"]


def test_file_names_give_splits_and_hugging_face_gives_class_names(tmp_path: Path, pictures: np.ndarray) -> None:
    names = ["bird", "cat", "dog"]
    write_hugging_face(tmp_path / "test-00000-of-00001.parquet", pictures[20:], [2, 1], names)
    write_hugging_face(tmp_path / "train-00000-of-00002.parquet", pictures, [0, 1, 2, 1, 0, 1, 2], names)
    write_hugging_face(tmp_path / "train-00001-of-00002.parquet", pictures[7:], [0], names)
    result, rows = ImageTable(root=str(tmp_path)).index()
    assert result == names
    assert rows["part"].to_pylist() == ["test"] * 2 + ["train"] * 8
    assert rows["label"].to_pylist()[:3] == ["dog", "cat", "bird"]
    assert rows["object_id"].to_pylist() == ["test/0000000", "test/0000001", *(f"train/{n:07d}" for n in range(8))]
    np.testing.assert_array_equal(
        read_all(ImageTable(root=str(tmp_path))), np.concatenate([pictures[20:22], pictures[:8]])
    )


def test_folder_names_give_splits(tmp_path: Path, pictures: np.ndarray) -> None:
    write(tmp_path / "train" / "0000.parquet", pictures, ["cat", "dog", ""])
    write(tmp_path / "validation" / "0000.parquet", pictures, ["dog"])
    names, rows = ImageTable(root=str(tmp_path)).index()
    assert names == ["cat", "dog"]
    assert rows["part"].to_pylist() == ["train"] * 3 + ["validation"]
    assert rows["label"].to_pylist() == ["cat", "dog", None, "dog"]


def test_columns_give_the_split_and_the_ids(tmp_path: Path, pictures: np.ndarray) -> None:
    split, name = ["train", "train", "test", "extra"], ["a", "b", "a", "b"]
    write(tmp_path / "x.parquet", pictures, pa.array(["x", "y", "x", "y"]).dictionary_encode(), split=split, name=name)
    data = ImageTable(root=str(tmp_path / "x.parquet"), id_columns=("split", "name"), splits={"extra": None})
    names, rows = data.index()
    assert names == ["x", "y"]
    assert rows["object_id"].to_pylist() == ["train/a", "train/b", "test/a"]
    assert rows["part"].to_pylist() == ["train", "train", "test"]


def test_config_names_the_classes(tmp_path: Path, pictures: np.ndarray) -> None:
    write(tmp_path / "x.parquet", pictures, [1, 0, 1])
    root = str(tmp_path / "x.parquet")
    assert ImageTable(root=root, class_names=("cat", "dog")).index().rows["label"].to_pylist() == ["dog", "cat", "dog"]
    with pytest.raises(CatalogError, match="a picture has the label 1, but there are names for 1 classes"):
        ImageTable(root=root, class_names=("cat",)).index()


BAD: list[tuple[dict[str, Any], str]] = [
    ({"label_column": "labl"}, "x.parquet: has no column 'labl'; set survey.label_column; did you mean 'label'?"),
    ({"image_column": "img"}, "x.parquet: has no column 'img'; set survey.image_column; did you mean 'image'?"),
    ({"split_column": "part"}, "x.parquet: has no column 'part'; set survey.split_column; known are: image, label, name, split"),
    ({"id_columns": ("nam",)}, "x.parquet: has no column 'nam'; set survey.id_columns; did you mean 'name'?"),
    ({"image_column": "label"}, "column 'label' has the type int64, not bytes of pictures; set survey.image_column to"),
    ({"label_column": "image"}, "column 'image' has the type binary, not labels; set survey.label_column to a column of"),
    ({"id_columns": ("name",)}, "x.parquet: 1 ids occur in several rows (first: a); add columns to survey.id_columns, set it to []"),
    ({}, "x.parquet: unknown split 'odd'; set survey.splits.odd to train, validation or test, or to null to leave"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "sentence"), BAD)
def test_wrong_columns_give_a_fix(tmp_path: Path, pictures: np.ndarray, options: dict[str, Any], sentence: str) -> None:
    write(tmp_path / "x.parquet", pictures, [0, 1, 0], name=["a", "b", "a"], split=["train", "test", "odd"])
    with pytest.raises(CatalogError) as caught:
        ImageTable(root=str(tmp_path / "x.parquet"), **options).index()
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


LABELS = {
    "two columns": ([[0, 1], [1, 1]], "has 2 columns 'label'; rename or remove one of them"),
    "a large number": ([[0, 2**63]], "column 'label' has the label 9223372036854775808; correct the labels"),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_that_are_not_unique_or_too_large_are_rejected(tmp_path: Path, kind: str) -> None:
    labels, sentence = LABELS[kind]
    columns = [pa.array([b"x", b"y"]), *(pa.array(label, pa.uint64()) for label in labels)]
    pq.write_table(pa.Table.from_arrays(columns, ["image", *["label"] * len(labels)]), tmp_path / "x.parquet")
    with pytest.raises(CatalogError) as caught:
        ImageTable(root=str(tmp_path / "x.parquet")).index()
    assert str(caught.value).endswith(f"x.parquet: {sentence}")


def test_truncated_file_is_an_error(tmp_path: Path, pictures: np.ndarray) -> None:
    data = write(tmp_path / "x.parquet", pictures, [0] * 20)
    content = (tmp_path / "x.parquet").read_bytes()
    (tmp_path / "x.parquet").write_bytes(content[:-40])
    with pytest.raises(CatalogError, match=r"x.parquet: cannot be read as a Parquet file \(.+\); download it again"):
        data.index()


def test_row_groups_that_contradict_the_schema_are_an_error(tmp_path: Path, pictures: np.ndarray) -> None:
    """The schema allows no null picture, so the row groups' statistics are too long."""
    path = tmp_path / "x.parquet"
    write_hugging_face(path, pictures, [0, 1, 0], ["a", "b"])
    optional, required = bytes.fromhex("2502 1805") + b"bytes", bytes.fromhex("2500 1805") + b"bytes"
    assert path.read_bytes().count(optional) == 1
    path.write_bytes(path.read_bytes().replace(optional, required))
    for read in (ImageTable(root=str(path)).index, ParquetImages(str(path), "label", "image").rows):
        with pytest.raises(CatalogError, match=r"column 'image' cannot be read \(.+\); download it again"):
            read()


def test_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"there is no Parquet file in it; check survey\.root"):
        ImageTable(root=str(tmp_path)).digest()


# ---- several configurations below one root ----


def write_configs(root: Path, pictures: np.ndarray, folders: Sequence[str], readme: str = "", name: str = "") -> None:
    """Write a training and a test file into each folder, most pictures into the first."""
    for number, folder in enumerate(folders):
        for split, count in (("train", 8 - number), ("test", 4)):
            path = root / folder / (name.format(split) or f"{split}-00000-of-00001.parquet")
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path, pictures, [n % 2 for n in range(count)])
    if readme:
        (root / "README.md").write_text(readme)


HEADER = "---\nlicense: mit\nconfigs:\n{}---\n# Galaxies\n"
NAMES_ONLY = HEADER.format("- config_name: default\n- config_name: tiny\n")
DATA_DIR = HEADER.format("- config_name: full\n  data_dir: data\n- config_name: tiny\n  data_dir: tiny/\n")
DATA_FILES = HEADER.format(
    "- config_name: full\n  data_files:\n  - split: train\n    path: data/train-*\n  - split: test\n    path: [data/test-*]\n"
    "- config_name: tiny\n  data_files: tiny/**/*.parquet\n"
)


@pytest.mark.parametrize(
    ("readme", "folders", "known"),
    [
        ("", ("data", "tiny"), {"data": 12, "tiny": 11}),
        (NAMES_ONLY, ("data", "tiny"), {"default": 12, "tiny": 11}),
        (DATA_DIR, ("data", "tiny"), {"full": 12, "tiny": 11}),
        (DATA_FILES, ("data", "tiny"), {"full": 12, "tiny": 11}),
        ("---\nconfigs: [broken\n---\n", ("data", "tiny"), {"data": 12, "tiny": 11}),
    ],
)
def test_one_of_several_configurations_must_be_chosen(
    tmp_path: Path, pictures: np.ndarray, readme: str, folders: Sequence[str], known: dict[str, int]
) -> None:
    write_configs(tmp_path, pictures, folders, readme)
    with pytest.raises(CatalogError) as caught:
        ImageTable(root=str(tmp_path)).index()
    assert str(caught.value) == (
        f"{tmp_path}: the data set has several configurations: {', '.join(sorted(known))}; "
        "choose one with survey.config_name=NAME, or all if they are parts of one data set"
    )
    digests = set()
    for name, count in known.items():
        data = ImageTable(root=str(tmp_path), config_name=name)
        assert data.index().rows.num_rows == count
        digests.add(data.digest())
    assert len(digests) == len(known)
    assert ImageTable(root=str(tmp_path), config_name="all").index().rows.num_rows == 23
    with pytest.raises(CatalogError, match=r"there is no configuration 'tiyn'; did you mean 'tiny'\?"):
        ImageTable(root=str(tmp_path), config_name="tiyn").index()


def test_configurations_of_the_converted_branch_are_folders_of_splits(tmp_path: Path, pictures: np.ndarray) -> None:
    write_configs(tmp_path, pictures, ("default", "tiny"), name="{}/0000.parquet")
    with pytest.raises(CatalogError, match="several configurations: default, tiny"):
        ImageTable(root=str(tmp_path)).index()
    _, rows = ImageTable(root=str(tmp_path), config_name="tiny").index()
    assert rows["part"].to_pylist() == ["test"] * 4 + ["train"] * 7


@pytest.mark.parametrize("folders", [("part-1", "part-2"), ("shard0", "shard1"), ("data",)])
def test_numbered_folders_are_parts_of_one_data_set(
    tmp_path: Path, pictures: np.ndarray, folders: Sequence[str]
) -> None:
    write_configs(tmp_path, pictures, folders)
    assert ImageTable(root=str(tmp_path)).index().rows.num_rows == (23 if len(folders) == 2 else 12)


def test_files_may_name_their_integers_in_different_orders(tmp_path: Path, pictures: np.ndarray) -> None:
    write_hugging_face(tmp_path / "test-00000-of-00001.parquet", pictures, [0, 1], ["spiral", "round"])
    write_hugging_face(tmp_path / "train-00000-of-00001.parquet", pictures, [0, 1, 2], ["round", "spiral", "edge_on"])
    write(tmp_path / "validation-00000-of-00001.parquet", pictures, [0, 1])
    names, rows = ImageTable(root=str(tmp_path)).index()
    assert names == ["spiral", "round", "edge_on"]
    result = list(zip(rows["part"].to_pylist(), rows["label"].to_pylist(), strict=True))
    assert result[:5] == [
        ("test", "spiral"),
        ("test", "round"),
        ("train", "round"),
        ("train", "spiral"),
        ("train", "edge_on"),
    ]
    assert result[5:] == [("validation", "spiral"), ("validation", "round")], (
        "a file without names has the names before it"
    )


def test_names_in_later_files_only_are_rejected(tmp_path: Path, pictures: np.ndarray) -> None:
    write(tmp_path / "test-00000-of-00001.parquet", pictures, [0, 1])
    write_hugging_face(tmp_path / "train-00000-of-00001.parquet", pictures, [0, 1], ["round", "spiral"])
    with pytest.raises(CatalogError, match=r"train-.*: its labels have names, unlike those of the files before it"):
        ImageTable(root=str(tmp_path)).index()
    names, _ = ImageTable(root=str(tmp_path), class_names=("a", "b")).index()
    assert names == ["a", "b"]
