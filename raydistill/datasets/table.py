"""Parquet files of encoded pictures and labels, as on the Hugging Face Hub."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from raydistill.datasets.base import EncodedDataSet, PackedDataSet, list_files, pick_rows, to_class_names
from raydistill.datasets.folder import saved_to_disk
from raydistill.datasets.layout import are_splits
from raydistill.errors import CatalogError, describe_arrow_error, nearest
from raydistill.galaxies.pictures.cells import check_chunks, is_picture_type, is_text_type, read_cell
from raydistill.galaxies.pictures.files import ALLOW_DATA_SET, Source, check_source
from raydistill.galaxies.tables import object_ids
from raydistill.galaxies.tables.columns import check_parquet, reject_twins
from raydistill.galaxies.tables.ids import Duplicates, check_repeated, find_repeated, first_of_each
from raydistill.storage import arrow_filesystem, open_stream
from raydistill.storage.yaml_limits import read_yaml

ROWS_AT_ONCE = 128

_USUAL_SPLIT_COLUMN = "split"
_LARGEST = 2**63 - 1  # label; names are found by int64
_SHARD = re.compile(r"(.+?)-\d+-of-\d+.*")


@dataclass(frozen=True, kw_only=True)
class ImageTable(EncodedDataSet, PackedDataSet):
    """A Parquet file, or a folder of them, with a picture and a label in each row.

    Parameters
    ----------
    image_column
        JPEG, PNG, … as bytes, or Hugging Face's struct of bytes and path. A relative path begins
        at the folder of the Parquet file. Or arrays, H x W x 3 or 3 x H x W.
    label_column
        Integers or text. Names of integers are `class_names`, or the ClassLabel that Hugging Face
        stores in the file's schema. Null, a negative number and "" mean no label.
    split_column
        The official split. Without this column it is taken from file names, such as
        train-00000-of-00002.parquet, test.parquet and train/0000.parquet, if they name splits.
    id_columns
        Columns that together identify a picture, joined by "/". Without them a picture is numbered
        in its split.
    config_name
        Configuration of a Hugging Face data set with several: the name in its README.md, or the
        folder. "all" reads the folders as parts of one data set.
    duplicates
        An id in several rows. "reject": an error. "first": its first row is taken, with a warning.
    """

    image_column: str = "image"
    label_column: str = "label"
    split_column: str = _USUAL_SPLIT_COLUMN
    id_columns: tuple[str, ...] = ()
    config_name: str | None = None
    duplicates: Duplicates = "reject"
    kind: Literal["image-parquet"] = "image-parquet"

    def files(self) -> dict[str, int]:
        listed = list_files(self.root)
        files = {name: size for name, size in listed.items() if name.lower().endswith((".parquet", ".pq"))}
        if not files:
            default = "there is no Parquet file in it", "check survey.root; its files end in .parquet"
            what, fix = saved_to_disk(self.root, listed) or default
            raise CatalogError(what, self.root, fix)
        readme = next((name for name in listed if name.lower() == "readme.md"), None)
        text = "" if readme is None else _read_text(f"{self.root}/{readme}")
        names = files_of_config(list(files), self.config_name, text, self._split_in_path, self.root)
        return {name: files[name] for name in names}

    def _split_in_path(self, name: str) -> str | None:
        """Return the split that a file's path names, or None."""
        part = self._file_part(name)
        return part if are_splits([part], self.splits) else None

    def _rows(self) -> tuple[Sequence[str], pa.Table]:
        names: Sequence[str] = self.class_names
        parts = {name: self._file_part(name) for name in self.files()}
        named_by_split = are_splits(set(parts.values()), self.splits)
        tables: list[pa.Table] = []
        for name, part in parts.items():
            with self._open(name) as parquet:
                class_names = self.class_names or _class_label_names(parquet.schema_arrow, self.label_column)
                if class_names and tables and not names:
                    what = "its labels have names, unlike those of the files before it"
                    raise CatalogError(what, self._at(name), "set survey.class_names")
                tables.append(self._table(parquet, name, part if named_by_split else None, class_names or names))
                names = [*names, *(label for label in class_names if label not in names)]
        rows = pa.concat_tables(tables)
        if self.id_columns and (repeated := find_repeated(rows["object_id"])):
            fix = "add columns to survey.id_columns, set it to [] to number the pictures"
            check_repeated(repeated, "occur in several rows", self.root, self.duplicates, fix)
            rows = first_of_each(rows, "object_id")
        return names, rows

    def read(self, path: str, row_group: int, rows: Sequence[int]) -> Iterator[Source]:
        """Yield the pictures of these rows of a row group."""
        at = self._at(path)
        folder = at.rpartition("/")[0] or "."
        root = folder if at == self.root else self.root
        with self._open(path) as parquet:
            batches = parquet.iter_batches(ROWS_AT_ONCE, row_groups=[row_group], columns=[self.image_column])
            for cell in pick_rows((batch.column(0) for batch in batches), rows):
                source = read_cell(cell, folder)
                yield source if self.allow_outside else check_source(source, root, at, ALLOW_DATA_SET)

    @contextmanager
    def _open(self, name: str) -> Iterator[pq.ParquetFile]:
        """Open a file. Its read errors become a CatalogError."""
        at = self._at(name)
        system, path = arrow_filesystem(at)
        try:
            with system.open_input_file(path) as stream:
                check_parquet(stream, at)
                yield pq.ParquetFile(stream)
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            what = f"cannot be read as a Parquet file ({describe_arrow_error(error)})"
            raise CatalogError(what, at, "download it again") from error

    def _file_part(self, name: str) -> str:
        """Return the part of a file's path that may name a split."""
        *above, last = name.split("/")
        stem = last.rpartition(".")[0]
        shard = _SHARD.fullmatch(stem)
        return above[-1] if above and are_splits(above[-1:], self.splits) else shard[1] if shard else stem

    def _table(self, parquet: pq.ParquetFile, name: str, part: str | None, names: Sequence[str]) -> pa.Table:
        """Return `Index.rows` of a file."""
        at = self._at(name)
        has_split = self._check_columns(parquet.schema_arrow, at)
        kind = parquet.schema_arrow.field(self.image_column).type
        system, path = arrow_filesystem(at)
        check_chunks(kind, [system.open_input_file(path)], self.image_column, at)
        columns_to_read = [self.label_column, *self.id_columns, *([self.split_column] if has_split else [])]
        table = parquet.read(columns=list(dict.fromkeys(columns_to_read)))
        groups = [np.arange(parquet.metadata.row_group(group).num_rows) for group in range(parquet.num_row_groups)]
        columns = {
            "label": _labels(table[self.label_column].combine_chunks(), names, self.label_column, at),
            "part": pc.cast(table[self.split_column], pa.string())
            if has_split
            else pa.array([part] * len(table), pa.string()),
            "path": pa.array([name] * len(table), pa.string()),
            "row_group": pa.array(np.repeat(np.arange(len(groups)), [len(group) for group in groups])),
            "row": pa.array(np.concatenate([np.arange(0), *groups])),
        }
        if self.id_columns:
            ids = [object_ids(table[column], column, at) for column in self.id_columns]
            columns["object_id"] = pc.binary_join_element_wise(*ids, "/")
        return pa.table(columns)

    def _check_columns(self, schema: pa.Schema, at: str) -> bool:
        """Return whether there is a split column.

        CatalogError if another column is missing or has the wrong type.
        """
        required = [("image_column", self.image_column), ("label_column", self.label_column)]
        required += [("id_columns", column) for column in self.id_columns]
        if self.split_column != _USUAL_SPLIT_COLUMN:
            required.append(("split_column", self.split_column))
        for role, column in required:
            if column not in schema.names:
                fix = f"set survey.{role}; {nearest(column, tuple(schema.names))}"
                raise CatalogError(f"has no column '{column}'", at, fix)
        used = [self.split_column, *(column for _, column in required)]
        reject_twins([name for name in schema.names if name in used], at)
        kind = schema.field(self.image_column).type
        if not is_picture_type(kind) or is_text_type(kind):
            fix = "set survey.image_column to a column of encoded pictures"
            raise CatalogError(f"column '{self.image_column}' has the type {kind}, not bytes of pictures", at, fix)
        return self.split_column in schema.names


def _class_label_names(schema: pa.Schema, column: str) -> Sequence[str]:
    """Return any ClassLabel names in the schema metadata of Hugging Face `datasets`."""
    info = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        return json.loads(info)["info"]["features"][column]["names"] or ()
    except (ValueError, LookupError, TypeError):  # no ClassLabel
        return ()


def _labels(column: pa.Array, names: Sequence[str], name: str, where: str) -> pa.Array:
    """Return labels as class names; null means no label."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_integer(column.type):
        if pa.types.is_uint64(column.type) and (pc.max(column).as_py() or 0) > _LARGEST:
            raise CatalogError(f"column '{name}' has the label {pc.max(column)}", where, "correct the labels")
        return to_class_names(pc.fill_null(column.cast(pa.int64()), -1).to_numpy(), names, where)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        text = pc.utf8_trim_whitespace(column.cast(pa.string()))
        return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
    fix = "set survey.label_column to a column of integers or text"
    raise CatalogError(f"column '{name}' has the type {column.type}, not labels", where, fix)


def _read_text(uri: str) -> str:
    with open_stream(uri) as stream:
        return str(stream.read().decode("utf-8", errors="replace"))


# Tell the configurations of a Hugging Face data set apart.
#
# A data set on the Hub may hold several versions of the same pictures, each in its own folder. Read as
# one set, a picture would be in two splits. The header of README.md lists the configurations; without
# it, folders with the same splits are configurations.

ALL = "all"  # value of `config_name`: the folders are parts of one data set
_HEADER = re.compile(r"---\s*\n(.*?\n)---\s*(\n|$)", re.DOTALL)
_DEFAULT, _DEFAULT_FOLDER = "default", "data"  # the Hub's names


def files_of_config(
    names: Sequence[str], config_name: str | None, readme: str, split_of: Callable[[str], str | None], where: str
) -> list[str]:
    """Return the files of a configuration.

    Parameters
    ----------
    names
        Files below the root.
    config_name
        The requested configuration; None: the only one.
    readme
        Text of the data set's README.md, or "".
    split_of
        Returns the split that the path of a file names, or None.
    where
        The data set, for error messages.

    Raises
    ------
    CatalogError
        If there are several configurations and none is requested, or if there is none of this name.
    """
    configs = _listed_configs(readme, names) or _folder_configs(names, split_of)
    if config_name in configs:
        return configs[config_name]
    if config_name == ALL:
        return list(names)
    known = ", ".join(sorted(configs))
    if config_name is not None:
        fix = nearest(config_name, sorted(configs)) if configs else "leave out survey.config_name"
        raise CatalogError(f"there is no configuration '{config_name}'", where, fix)
    if len(configs) > 1:
        fix = "choose one with survey.config_name=NAME, or all if they are parts of one data set"
        raise CatalogError(f"the data set has several configurations: {known}", where, fix)
    return list(names)


def _listed_configs(readme: str, names: Sequence[str]) -> dict[str, list[str]]:
    """Return the files of configurations in README.md's header that have files here."""
    header = _HEADER.match(readme.lstrip("\ufeff"))
    try:
        content = read_yaml(header[1]) if header else None
    except yaml.YAMLError:
        return {}
    entries = content.get("configs") if isinstance(content, dict) else None
    configs = {}
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and "config_name" in entry:
            name = str(entry["config_name"])
            patterns = _patterns(entry, name)
            files = [file for file in names if any(_matches(file, pattern) for pattern in patterns)]
            if files:
                configs[name] = files
    return configs


def _patterns(entry: dict[str, Any], name: str) -> list[str]:
    """Return the patterns of a configuration's files."""
    data_files = entry.get("data_files")
    if data_files is None:
        folder = str(entry.get("data_dir") or (_DEFAULT_FOLDER if name == _DEFAULT else name)).strip("/")
        return [f"{folder}/*"]
    patterns: list[str] = []
    for data_file in data_files if isinstance(data_files, list) else [data_files]:
        paths = data_file.get("path") if isinstance(data_file, dict) else data_file
        patterns += [str(path) for path in (paths if isinstance(paths, list) else [paths])]
    return patterns


def _matches(file: str, pattern: str) -> bool:
    """Return whether a path matches a Hub pattern; `**` stands for any folders."""
    pattern = pattern.removeprefix("./")
    return fnmatchcase(file, pattern) or fnmatchcase(file, pattern.replace("**/", ""))


def _folder_configs(names: Iterable[str], split_of: Callable[[str], str | None]) -> dict[str, list[str]]:
    """Return the files by top folder if two of these folders hold the same split."""
    folders: dict[str, list[str]] = {}
    for name in names:
        folder, _, inside = name.partition("/")
        if not inside or split_of(f"{folder}/0") is not None:
            return {}  # files beside the folders, or folders of splits
        folders.setdefault(folder, []).append(name)
    numbered = {re.sub(r"\d+", "", folder) for folder in folders}
    splits = [{split_of(name) for name in names} - {None} for names in folders.values()]
    repeated = any(a & b for i, a in enumerate(splits) for b in splits[:i])
    return folders if len(numbered) > 1 and repeated else {}
