"""Read the labels of Hugging Face's image folders.

    train/metadata.csv      file_name,label         also metadata.jsonl and metadata.parquet
    train/0001.png

A file name begins at the folder of its metadata.
"""

from __future__ import annotations

import csv
import io
import json
import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.errors import CatalogError, describe_arrow_error, nearest
from raydistill.escaping import is_utf8
from raydistill.galaxies.pictures.files import read_source
from raydistill.galaxies.pictures.images import RejectedImage
from raydistill.galaxies.tables.columns import reject_twins
from raydistill.log import get_logger

log = get_logger(__name__)

NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE_NAME = "file_name"


@dataclass(frozen=True)
class Metadata:
    """The rows of a folder's metadata.

    Attributes
    ----------
    files
        Names of the files of metadata.
    columns
        Their columns.
    label_column
        The column of the classes.
    rows
        File of metadata, path of the picture, and value of its label, of each row.
    """

    files: list[str]
    columns: list[str]
    label_column: str
    rows: list[tuple[str, str, Any]]

    @property
    def has_labels(self) -> bool:
        return self.label_column in self.columns

    def labels_of(self, pictures: Sequence[str], root: str) -> dict[str, str | None]:
        """Return the class of each picture that has a row; None is not a label.

        Warns of pictures without a row and of rows without a picture. CatalogError if rows of one
        picture differ, or if no row has a picture.
        """
        log.info("curate: labels are from column '%s' of %s", self.label_column, ", ".join(self.files))
        present, labels = set(pictures), dict[str, str | None]()
        for file, path, value in self.rows:
            label = _label(value, f"{root}/{file}", self.label_column)
            if labels.setdefault(path, label) != label:
                what = f"'{path}' has the labels '{labels[path]}' and '{label}'"
                raise CatalogError(what, f"{root}/{file}", "correct or remove one of the rows")
        without_file = [path for path in labels if path not in present]
        without_row = [name for name in pictures if name not in labels]
        if len(without_file) == len(labels):
            what = f"none of its {len(labels)} files is there (first: '{without_file[0]}')" if labels else "has no rows"
            raise CatalogError(what, f"{root}/{self.files[0]}", f"paths in column '{FILE_NAME}' begin at its folder")
        for names, what in (
            (without_file, "curate: rows of the metadata whose picture is not there are left out: %d (first: '%s')"),
            (without_row, "curate: pictures that the metadata lack are left out: %d (first: '%s')"),
        ):
            if names:
                log.warning(what, len(names), names[0])
        return {path: label for path, label in labels.items() if path in present}

    def without_labels(self, root: str) -> CatalogError:
        """Return the error of metadata without the column of labels."""
        others = [column for column in self.columns if column != FILE_NAME]
        fix = f"set survey.label_column; {nearest(self.label_column, others)}" if others else "add the column"
        return CatalogError(f"has no column '{self.label_column}'", f"{root}/{self.files[0]}", fix)


def read_metadata(root: str, names: Iterable[str], label_column: str) -> Metadata | None:
    """Return the metadata among the files of a folder or zip; None if there is none.

    CatalogError if a file cannot be read.
    """
    files, columns, rows = [], [], []
    for name in names:
        folder, _, last = name.rpartition("/")
        if last not in NAMES:
            continue
        own_columns, own_rows = _read(f"{root}/{name}", (FILE_NAME, label_column))
        if FILE_NAME not in own_columns:
            continue
        files.append(name)
        columns += [column for column in own_columns if column not in columns]
        for row in own_rows:
            path = posixpath.normpath(posixpath.join(folder, str(row.get(FILE_NAME)).replace("\\", "/")))
            rows.append((name, path, row.get(label_column)))
    return Metadata(files, columns, label_column, rows) if files else None


def _read(uri: str, needed: Sequence[str]) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the columns of a file of metadata, and its rows.

    The rows have at least the `needed` columns.
    """
    try:
        content, _ = read_source(uri)
        if uri.endswith(".parquet"):
            file = pq.ParquetFile(pa.BufferReader(content))
            columns = list(file.schema_arrow.names)
            return columns, file.read(columns=[name for name in needed if name in columns]).to_pylist()
        text = content.decode("utf-8-sig")
        if uri.endswith(".csv"):
            header = text.partition("\n")[0]
            delimiter = max(",;\t", key=header.count)
            reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
            columns = list(reader.fieldnames or ())
            reject_twins([name for name in columns if name in needed], uri)
            return columns, list(reader)
        rows = [json.loads(line, object_pairs_hook=_object) for line in text.split("\n") if line.strip()]
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError("a line is not an object")
        return list(dict.fromkeys(key for row in rows for key in row)), rows
    except RejectedImage as error:
        raise CatalogError(f"cannot be read ({error.reason})", uri, "check it, or download it again") from error
    except (ValueError, csv.Error, pa.ArrowException, OSError, RecursionError) as error:
        what = f"cannot be read as metadata ({describe_arrow_error(error)})"
        raise CatalogError(what, uri, "correct it, or download it again") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; ValueError for a key that it has twice."""
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"a line has the key '{twice}' twice")
    return mapping


def _label(value: Any, where: str, column: str) -> str | None:
    """Return a class name; None for an empty value."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None or value == "" or value != value:
        return None
    if isinstance(value, str | int) and is_utf8(str(value)):
        return str(value).strip() or None
    what = f"column '{column}' has the value {str(value)[:40]}, which is not a label"
    raise CatalogError(what, where, "set survey.label_column to a column of integers or text")
