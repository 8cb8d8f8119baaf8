"""Labels beside the pictures: metadata.csv, .jsonl or .parquet."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raydistill.datasets.folder import ImageFolder
from raydistill.errors import CatalogError

Rows = list[dict[str, Any]]


def write(path: Path, rows: Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    else:
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"png")


def read(root: Path, **options: Any) -> tuple[list[str], dict[str, tuple[str | None, str | None]]]:
    """Return the class names, and the split and the label of each path."""
    data = ImageFolder(root=str(root), **options)
    names, rows = data.index()
    assert rows["object_id"] == rows["path"]
    assert set(data.files()) >= set(rows["path"].to_pylist())
    return names, {row["path"]: (row["part"], row["label"]) for row in rows.to_pylist()}


LABELS = {"a.png": "round", "sub/b.png": "spiral", "é c.png": "round"}
FORMS = pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])


@FORMS
@pytest.mark.parametrize("parts", [("",), ("train/",), ("train/", "test/"), ("data/train/", "data/validation/")])
def test_labels_and_splits_are_those_of_the_metadata(tmp_path: Path, form: str, parts: tuple[str, ...]) -> None:
    for part in parts:
        touch(tmp_path, *(part + name for name in LABELS))
        rows = [{"file_name": name, "label": label, "text": "a galaxy"} for name, label in LABELS.items()]
        write(tmp_path / part / f"metadata.{form}", rows)
    expected = {
        f"{part}{name}": (part.strip("/").rpartition("/")[2] or None, label)
        for part in parts
        for name, label in LABELS.items()
    }
    assert read(tmp_path) == (["round", "spiral"], expected)
    archive = shutil.make_archive(str(tmp_path / "zipped"), "zip", tmp_path)
    assert read(Path(archive)) == (["round", "spiral"], expected)


@FORMS
def test_whole_numbers_are_classes_and_empty_cells_are_none(tmp_path: Path, form: str) -> None:
    values = {"a.png": 10, "b.png": 9, "c.png": None}
    touch(tmp_path, *values)
    write(tmp_path / f"metadata.{form}", [{"file_name": name, "kind": value} for name, value in values.items()])
    expected = {"a.png": (None, "10"), "b.png": (None, "9"), "c.png": (None, None)}
    assert read(tmp_path, label_column="kind") == (["9", "10"], expected)


def test_what_rows_and_pictures_lack_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path / "set", "a.png", "b.png")
    touch(tmp_path, "outside.png")
    names = ["./a.png", "no.png", "../outside.png", str(tmp_path / "outside.png")]
    write(tmp_path / "set" / "metadata.csv", [{"file_name": name, "label": "x"} for name in names])
    assert read(tmp_path / "set")[1] == {"a.png": (None, "x")}
    assert "rows of the metadata whose picture is not there are left out: 3 (first: 'no.png')" in caplog.text
    assert "pictures that the metadata lack are left out: 1 (first: 'b.png')" in caplog.text


@FORMS
def test_metadata_without_labels_leave_the_folders_of_classes(tmp_path: Path, form: str) -> None:
    touch(tmp_path, "train/a/0.png", "train/b/1.png")
    write(tmp_path / "train" / f"metadata.{form}", [{"file_name": "a/0.png", "text": "a galaxy"}])
    assert read(tmp_path)[1] == {"train/a/0.png": ("train", "a"), "train/b/1.png": ("train", "b")}


def test_test_split_without_labels_has_none(tmp_path: Path) -> None:
    touch(tmp_path, "train/0.png", "test/1.png")
    write(tmp_path / "train" / "metadata.csv", [{"file_name": "0.png", "label": "x"}])
    write(tmp_path / "test" / "metadata.csv", [{"file_name": "1.png"}])
    assert read(tmp_path)[1] == {"train/0.png": ("train", "x"), "test/1.png": ("test", None)}


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_delimiter_of_the_metadata_is_found(tmp_path: Path, delimiter: str) -> None:
    touch(tmp_path, "a.png", "b.png")
    (tmp_path / "metadata.csv").write_text("file_name,label\na.png,x\nb.png,y\n".replace(",", delimiter))
    assert read(tmp_path)[1] == {"a.png": (None, "x"), "b.png": (None, "y")}


BAD: list[tuple[str, str | bytes, str]] = [
    ("metadata.csv", "file_name,kind\na.png,x\n", "metadata.csv: has no column 'label'; set survey.label_column; known are: kind"),
    ("metadata.csv", "file_name\na.png\n", "metadata.csv: has no column 'label'; add the column"),
    ("metadata.csv", "file_name,label\na.png,x\na.png,y\n", "metadata.csv: 'a.png' has the labels 'x' and 'y'; correct or remove"),
    ("metadata.csv", "file_name,label,label\na.png,x,y\n", "metadata.csv: has 2 columns 'label'; rename or remove one of them"),
    ("metadata.csv", "file_name,label\nimages/a.png,x\n", "metadata.csv: none of its 1 files is there (first: 'images/a.png'); paths in"),
    ("metadata.csv", "file_name,label\n", "metadata.csv: has no rows; paths in column"),
    ("metadata.csv", b"file_name,label\na.png,\xe9\n", "metadata.csv: cannot be read as metadata (invalid continuation byte)"),
    ("metadata.csv", 'file_name,label\na.png,"x\n', "metadata.csv: cannot be read as metadata (unexpected end of data)"),
    ("metadata.jsonl", '{"file_name": "a.png", "label": [1]}', "metadata.jsonl: column 'label' has the value [1], which is not a label"),
    ("metadata.jsonl", '{"file_name": "a.png", "label": 0.5}', "metadata.jsonl: column 'label' has the value 0.5, which is not a label"),
    ("metadata.jsonl", '{"file_name": "a.png", "label": "\\ud800"}', r"metadata.jsonl: column 'label' has the value \ud800, which"),
    ("metadata.jsonl", '{"file_name": "a.png"', "metadata.jsonl: cannot be read as metadata ("),
    ("metadata.jsonl", '{"file_name": "a.png", "label": 1, "label": 2}',
     "metadata.jsonl: cannot be read as metadata (a line has the key 'label' twice)"),
    ("metadata.jsonl", "[1]", "metadata.jsonl: cannot be read as metadata (a line is not an object)"),
    ("metadata.parquet", "PAR1", "metadata.parquet: cannot be read as metadata ("),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "sentence"), BAD)
def test_wrong_metadata_are_rejected(tmp_path: Path, name: str, content: str | bytes, sentence: str) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CatalogError) as caught:
        read(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/{sentence}")
