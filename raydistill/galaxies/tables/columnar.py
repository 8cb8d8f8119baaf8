"""Read Parquet files, Feather (Arrow) files, and folders of tables."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from raydistill.errors import CatalogError, nearest
from raydistill.galaxies.folders import list_folder
from raydistill.galaxies.tables.columns import MAX_ROWS, check_columns, check_parquet, distinct_names, reject_twins
from raydistill.galaxies.tables.content import Content, is_ignored, is_table_name, suffix_format
from raydistill.log import get_logger
from raydistill.storage import arrow_filesystem, kind_of
from raydistill.storage.yaml_limits import check_yaml

if TYPE_CHECKING:
    import pyarrow.dataset as ds


STREAM_MAGIC = b"\xff\xff\xff\xff"  # of Arrow's stream format
_PARQUET = (".parquet", ".pq")


class ParquetTable:
    """A Parquet file, or a folder of them.

    Attributes
    ----------
    names : list of str
        Names of the columns, in order.
    """

    def __init__(self, source: Content | str) -> None:
        self._dataset = parquet_dataset(source) if isinstance(source, str) else _dataset_of_file(source)
        self.names = list(self._dataset.schema.names)
        self.units = _units(self._dataset.schema)

    def read(self, columns: list[str], text: Collection[str]) -> pa.Table:
        if (rows := self._dataset.count_rows()) > MAX_ROWS:
            raise _too_many_rows(rows)
        return _validated(self._dataset.to_table(columns=columns))

    def head(self, columns: list[str], count: int) -> pa.Table:
        return _validated(self._dataset.head(count, columns=columns))


class FeatherTable:
    """A Feather 2 (Arrow IPC) file, or an Arrow stream as Hugging Face stores it.

    Attributes
    ----------
    names : list of str
        Names of the columns, in order.
    """

    def __init__(self, content: Content) -> None:
        from pyarrow import feather, ipc

        data = content.read()
        source = pa.BufferReader(data)
        is_stream = data.startswith(STREAM_MAGIC)
        check_columns(len((ipc.open_stream if is_stream else ipc.open_file)(source).schema), content.uri)
        source.seek(0)
        table = ipc.open_stream(source).read_all() if is_stream else feather.read_table(source)
        self._table = table.rename_columns(distinct_names(table.column_names))
        self.names = list(self._table.column_names)
        self.units = _units(self._table.schema)

    def read(self, columns: list[str], text: Collection[str]) -> pa.Table:
        return _validated(self._table.select(columns))


def _units(schema: pa.Schema) -> dict[str, str]:
    """Return the units in the metadata of columns, or of a table that astropy wrote."""
    units = {}
    if header := (schema.metadata or {}).get(b"table_meta_yaml"):
        from astropy.table import meta

        check_yaml(header)
        stored = meta.get_header_from_yaml(header.decode().split("\n"))["datatype"]
        units = {column["name"]: str(column["unit"]) for column in stored if column.get("unit")}
    in_fields = {field.name: (field.metadata or {}).get(b"unit", b"").decode() for field in schema}
    return units | {name: unit for name, unit in in_fields.items() if unit}


def _validated(table: pa.Table) -> pa.Table:
    """Return the table if it is valid.

    ArrowInvalid is raised if damage gave it offsets out of range or text that is not UTF-8.
    """
    table.validate(full=True)
    return table


def parquet_dataset(uri: str) -> ds.Dataset:
    """Open a Parquet file or a folder of Parquet files, without reading rows.

    Files of a folder with other suffixes, such as README.md, are left out.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `uri`.
    CatalogError
        If it is a folder without files.
    """
    import pyarrow.dataset as ds  # it imports pandas, and configs import this module

    system, path = arrow_filesystem(uri)
    kind = system.get_file_info(path).type
    if kind == pafs.FileType.NotFound:
        raise FileNotFoundError(uri)
    source: Any = path
    files = [path]
    if kind == pafs.FileType.Directory:
        start = path.rstrip("/")
        files = [f"{start}/{name}" for name in list_folder(uri).files_once(uri) if not is_ignored(name)]
        files = [file for file in files if file.lower().endswith(_PARQUET)] or files
        source = files
    if not files:
        raise CatalogError("there is no file in the folder", uri, "check the path, or download the table first")
    with system.open_input_file(files[0]) as stream:
        check_parquet(stream, uri)
    try:
        return ds.dataset(source, filesystem=system, format="parquet")
    except pa.ArrowInvalid:
        reject_twins(pq.read_schema(files[0], filesystem=system).names, uri)
        raise


def _dataset_of_file(content: Content) -> ds.Dataset:
    """Open a file; one that is packed, or has columns of one name, is read at once."""
    import pyarrow.dataset as ds

    stream = pa.BufferReader(content.read()) if content.path is None else content.open()
    check_parquet(stream, content.uri)
    with pq.ParquetFile(stream) as file:
        stored = file.schema_arrow.names
        names = distinct_names(stored)
        if content.path is not None and names == stored:
            return parquet_dataset(content.uri)
        if file.metadata.num_rows > MAX_ROWS:
            raise _too_many_rows(file.metadata.num_rows)
        return ds.dataset(file.read().rename_columns(names))


def _too_many_rows(rows: int) -> ValueError:
    return ValueError(f"it has {rows} rows, and at most {MAX_ROWS} are read")


# Read a folder of files of one format as one table.

log = get_logger(__name__)

_NOTES = (".txt", ".dat", ".xml")  # read only if the folder has no table with another suffix


def list_tables(uri: str) -> list[tuple[str, str]] | None:
    """Return a folder's tables by name, with their formats; None if not a folder."""
    kind = kind_of(uri)
    if kind == pafs.FileType.NotFound:
        raise FileNotFoundError(uri)
    if kind != pafs.FileType.Directory:
        return None
    files = list_folder(uri).files_once(uri)
    tables = [name for name in files if is_table_name(name) and not is_ignored(name)]
    tables = [name for name in tables if not name.lower().endswith(_NOTES)] or tables
    return [(f"{uri.rstrip('/')}/{name}", suffix_format(name) or "text") for name in tables]


class FolderTable:
    """The files of a folder, in the order of their names.

    Parameters
    ----------
    uri : str
        The folder.
    tables : sequence of Table
        Its files.
    """

    def __init__(self, uri: str, tables: Sequence[Any]) -> None:
        self._tables = tables
        self.names = list(dict.fromkeys(tables[0].names))
        self.units = {  # "deg / h" for files that differ, which is not an angle
            name: " / ".join(sorted({table.units.get(name, "none") for table in tables})) for name in tables[0].units
        }
        if len(tables) > 1:
            log.info("curate: %d files in %s are read as one table", len(tables), uri)

    def read(self, columns: list[str], text: Collection[str]) -> pa.Table:
        stored = [{name: self._find(name, table) for name in columns} for table in self._tables]
        parts = [
            table.read(list(names.values()), [names[name] for name in text], similar=False).rename_columns(columns)
            for table, names in zip(self._tables, stored, strict=True)
        ]
        return pa.concat_tables(_with_same_types(parts), promote_options="permissive")

    def _find(self, name: str, table: Any) -> str:
        """Return the name of a column in one of the files; its case may differ."""
        alike = [column for column in dict.fromkeys(table.names) if column.lower() == name.lower()]
        if name in alike or len(alike) == 1:
            return name if name in alike else str(alike[0])
        fix = f"give one file, or files with the same columns; {nearest(name, table.names)}"
        raise CatalogError(f"has no column '{name}', unlike {self._tables[0].uri}", table.uri, fix)


def _with_same_types(parts: list[pa.Table]) -> list[pa.Table]:
    """Cast columns to text that are text in some files only."""
    for name in parts[0].column_names:
        kinds = {part[name].type for part in parts}
        if len(kinds) > 1 and pa.string() in kinds:
            parts = [
                part.set_column(part.schema.get_field_index(name), name, part[name].cast(pa.string())) for part in parts
            ]
    return parts
