"""Read Parquet files, folders of Parquet files, and Feather (Arrow) files."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from raydistill.errors import CatalogError
from raydistill.galaxies.folders import list_folder
from raydistill.galaxies.tables.content import Content, is_ignored
from raydistill.galaxies.tables.twins import distinct_names, refuse_twins
from raydistill.galaxies.tables.widths import MAX_ROWS, check_columns, check_parquet
from raydistill.storage import arrow_filesystem
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
    own = {field.name: (field.metadata or {}).get(b"unit", b"").decode() for field in schema}
    return units | {name: unit for name, unit in own.items() if unit}


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
        refuse_twins(pq.read_schema(files[0], filesystem=system).names, uri)
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
