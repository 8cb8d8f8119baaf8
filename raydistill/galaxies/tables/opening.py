"""Find the format of a table, and open it."""

from __future__ import annotations

import codecs
import csv
import lzma
import re
import zipfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import pyarrow as pa
import yaml

from raydistill.errors import CatalogError, RaydistillError, describe_arrow_error
from raydistill.galaxies.tables.astronomy import AstropyTable, FitsTable, has_readme
from raydistill.galaxies.tables.columnar import STREAM_MAGIC, FeatherTable, FolderTable, ParquetTable, list_tables
from raydistill.galaxies.tables.columns import Twins, check_columns, plain_name
from raydistill.galaxies.tables.content import Content, open_content, suffix_format, without_packing
from raydistill.galaxies.tables.text import TextTable

HEAD_OF_FORMAT = 1 << 16  # bytes that show the format of a file

_NAMES = {"text": "csv"}
_MAGIC = {
    b"PAR1": "parquet",
    b"SIMPLE  =": "fits",
    b"ARROW1": "feather",
    STREAM_MAGIC: "feather",
    b"# %ECSV": "ecsv",
}
# Kinds of files that are not tables, by their first bytes.
_NO_TABLES = {
    b"<!doctype html": ("this is a web page, not a table", "download the table itself"),
    b"<html": ("this is a web page, not a table", "download the table itself"),
    b"version https://git-lfs": ("this is a pointer of Git LFS, not the table", "run 'git lfs pull'"),
    b"<table": ("this is a web page, not a table", "download the table itself"),
    b'[{"': ("this is a JSON file", "save the table as CSV or Parquet"),
    b'{"': ("this is a JSON file", "save the table as CSV or Parquet"),
    b"\\begin{": ("this is a LaTeX table", "save it as CSV"),
    b"\x89hdf": ("this is an HDF5 file", "save the table as CSV, FITS or Parquet"),
    b"sqlite format 3": ("this is a SQLite database", "save the table as CSV or Parquet"),
    b"\xd0\xcf\x11\xe0": ("this is an Excel workbook", "save the sheet as CSV"),
    b"%pdf": ("this is a PDF file", "give the table as CSV, FITS or VOTable"),
    b"\x93numpy": ("this is a NumPy array", "save the table as CSV, FITS or Parquet"),
    b"fea1": ("this is a Feather file of version 1", "save it with version 2"),
    b"\x1f\x9d": ("this is a file of Unix 'compress'", "unpack it with 'uncompress'"),
}
_ASTROPY = ("fits", "votable", "ecsv", "cds", "ipac", "sextractor")
_SEXTRACTOR = re.compile(rb"#\s+1\s+[A-Za-z_]\w*(?:[ \t][^\n]*)?\r?\n#\s+\d+\s+[A-Za-z_]\w*")  # its header
_UNREADABLE = (OSError, EOFError, pa.ArrowException, ValueError, TypeError, csv.Error, lzma.LZMAError, zlib.error,
               zipfile.BadZipFile, NotImplementedError, yaml.YAMLError)  # fmt: skip
_USE = "give a .csv, .tsv, .parquet, .feather, .fits, .xml (VOTable) or .ecsv file, or a folder of such files"
_IPAC = re.compile(  # names, then types, between bars
    rb"(?:\\[^\n]*\n)*\|[^\n]*\|\s*\n\|\s*(?:i|int|integer|l|long|d|double|f|float|r|real|c|char|date)\s*\|",
    re.IGNORECASE,
)


class _Reader(Protocol):
    names: list[str]
    units: dict[str, str]

    def read(self, columns: list[str], text: Collection[str]) -> pa.Table: ...


class Table:
    """A table that is open for reading.

    Attributes
    ----------
    uri : str
    names : list of str
        Names of the columns, in order.
    units : dict of str to str
        Units of those columns for which the file gives one.
    """

    def __init__(self, uri: str, kind: str, reader: _Reader) -> None:
        check_columns(len(reader.names), uri)
        self.uri, self._kind, self._reader = uri, kind, reader
        self.names = [plain_name(name) for name in reader.names]
        self.units: dict[str, str] = reader.units

    def read(self, columns: Sequence[str], text: Collection[str] = (), *, similar: bool = True) -> pa.Table:
        """Return some columns, in the order of the rows.

        Parameters
        ----------
        columns : sequence of str
            Repeated names are read once.
        text : collection of str
            Columns that a reader of text must not parse as numbers.
        similar : bool
            Warn of columns with a similar name that differ.

        Raises
        ------
        CatalogError
            If the file has several columns of one name, and they differ.
        """
        columns = list(dict.fromkeys(columns))
        twins = Twins(columns, self._reader.names, self.uri, similar)
        others = list(dict.fromkeys(other for names in twins.of.values() for other in names))
        with _read_errors(self.uri, self._kind):
            table = self._reader.read(
                [*columns, *others], [*text, *(other for name in text for other in twins.of[name])]
            )
        twins.check(table)
        return table.select(columns)

    def head(self, columns: list[str], count: int) -> pa.Table:
        """Return the first rows. Parquet is read no further; others are read as text."""
        with _read_errors(self.uri, self._kind):
            if isinstance(self._reader, ParquetTable):
                return self._reader.head(columns, count)
            return self._reader.read(columns, columns).slice(0, count)


def open_table(uri: str, known: Collection[str] = (), hdu: int | str | None = None) -> Table:
    """Open a table. Formats of columns are read no further than their names.

    Parameters
    ----------
    uri : str
        A file of any format, compressed or not, or a folder of files of one format.
    known : collection of str
        Names that its columns may have. They help to find a header; upper and lower case are the
        same.
    hdu : int or str, optional
        Which table of several: number or name of a FITS extension or of a VOTable's table, or name
        of a file in a zip.

    Raises
    ------
    CatalogError
        If there is no table at `uri`, if it cannot be read, or if it is empty.
    """
    known = frozenset(name.lower() for name in known)
    with _read_errors(uri, suffix_format(uri) or "text"):
        files = list_tables(uri)
    if files is None:
        table = _open_file(uri, known, hdu)
    elif {kind for _, kind in files} <= {"parquet"}:
        with _read_errors(uri, "parquet"):
            table = Table(uri, "parquet", ParquetTable(uri))
    else:
        table = _open_folder(uri, files, known, hdu)
    if not table.names:
        raise CatalogError("the file is empty", uri, "download or export it again")
    return table


def _open_folder(uri: str, files: list[tuple[str, str]], known: Collection[str], hdu: int | str | None) -> Table:
    kinds = sorted({kind for _, kind in files})
    if len(kinds) > 1:
        what = f"the folder holds tables of several formats ({', '.join(kinds)})"
        raise CatalogError(what, uri, f"give one file, for example {files[0][0]}")
    return Table(uri, kinds[0], FolderTable(uri, [_open_file(file, known, hdu) for file, _ in files]))


def _open_file(uri: str, known: Collection[str], hdu: int | str | None) -> Table:
    with _read_errors(uri, suffix_format(uri) or "text"):
        content = open_content(uri, None if hdu is None else str(hdu))
        kind = _find_format(content)
    with _read_errors(uri, kind):
        if kind == "parquet":
            return Table(uri, kind, ParquetTable(content))
        if kind == "feather":
            return Table(uri, kind, FeatherTable(content))
        if kind == "fits":
            return Table(uri, kind, FitsTable(content, hdu, known))
        if kind in _ASTROPY:
            return Table(uri, kind, AstropyTable(content, kind, hdu))
        table = TextTable(content, known)
    if not table.is_table and not without_packing(content.name).endswith((".csv", ".tsv")):
        raise CatalogError("unknown table format", uri, _USE)
    return Table(uri, kind, table)


def _find_format(content: Content) -> str:
    """Return the format by the first bytes, else by the suffix.

    CatalogError is raised if the content is not a table.
    """
    head = content.head(HEAD_OF_FORMAT)
    text = head.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    for start, (what, fix) in _NO_TABLES.items():
        if text.startswith(start):
            raise CatalogError(what, content.uri, fix)
    if head[257:262] == b"ustar":
        raise CatalogError("this is a tar archive", content.uri, "unpack it and give the table")
    if kind := next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None):
        return kind
    if text.startswith((b"<?xml", b"<votable")):
        return "votable"
    if _SEXTRACTOR.match(head):
        return "sextractor"
    if _IPAC.match(head):
        return "ipac"
    suffix = suffix_format(content.name) or "text"
    if suffix == "ipac":
        return "ipac" if text.startswith((b"\\", b"|")) else "text"
    if suffix == "text" and (b"byte-by-byte description of file" in text or has_readme(content)):
        return "cds"
    return suffix


@contextmanager
def _read_errors(uri: str, kind: str) -> Iterator[None]:
    """Turn the errors of readers into a CatalogError.

    Astropy raises a dozen types for damaged files.
    """
    try:
        yield
    except RaydistillError:
        raise
    except FileNotFoundError as error:
        raise CatalogError("no such file", uri, "check the path, or fetch the catalogue first") from error
    except Exception as error:
        if kind not in _ASTROPY and not isinstance(error, _UNREADABLE):
            raise
        if kind == "parquet":
            reason = describe_arrow_error(error)
        else:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        named = _NAMES.get(kind, kind)
        raise CatalogError(
            f"cannot be read as a {named} table ({reason})", uri, "download it again or convert it"
        ) from error


# Find the column of a table that holds paths of pictures.

_NAME = re.compile(r"file|path|loc|image|img|picture|cutout|jpe?g|png|fits|thumb", re.IGNORECASE)
_PATH = re.compile(r"[/\\]|\.[a-z]\w{1,4}(\.\w{2})?$", re.IGNORECASE)  # a folder, or a suffix
_ROWS = 100


def find_path_column(table: Table) -> str | None:
    """Return the first column whose name and first value look like picture paths.

    None if there is none.
    """
    for name in filter(_NAME.search, table.names):
        first = next((value for value in table.head([name], _ROWS)[name].to_pylist() if value), None)
        if isinstance(first, str) and _PATH.search(first.strip()):
            return name
    return None
