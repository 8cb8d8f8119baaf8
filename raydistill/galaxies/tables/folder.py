"""Read a folder of files of one format as one table."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from raydistill.errors import CatalogError, nearest
from raydistill.galaxies.folders import list_folder
from raydistill.galaxies.tables.content import is_ignored, is_table_name, suffix_format
from raydistill.log import get_logger
from raydistill.storage import kind_of

log = get_logger(__name__)

_NOTES = (".txt", ".dat", ".xml")  # read only if the folder has no table with another suffix


def list_tables(uri: str) -> list[tuple[str, str]] | None:
    """Return a folder's tables by name, each with its format; None if it is no folder."""
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
        self.units = {  # "deg / h" for files that differ, which is no angle
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
        alike = [own for own in dict.fromkeys(table.names) if own.lower() == name.lower()]
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
