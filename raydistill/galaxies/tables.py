"""Read tables at any URI: CSV (also compressed), Parquet (a file or a folder of files) and FITS.

A catalogue has hundreds of columns and only a few are needed, so every reader takes column names.
Object ids are read as text: SDSS ids have 18 digits, and float64 holds fewer than 16.
"""

from __future__ import annotations

import csv
import io
import os
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from raydistill.errors import CatalogError
from raydistill.storage import arrow_filesystem, open_stream

_FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".fits": "fits",
    ".fit": "fits",
    ".fts": "fits",
}


def column_names(uri: str) -> list[str]:
    """Return the names of the table's columns, in order.

    Raises
    ------
    CatalogError
        If there is no table at `uri`, if it cannot be read, or if it is empty.
    """
    names: list[str] = _call_reader(uri, _name_readers[_format(uri)])
    if not names:
        raise CatalogError("the file is empty", uri, "download or export it again")
    return names


def read_columns(uri: str, columns: Sequence[str], text: Collection[str] = ()) -> pa.Table:
    """Return some columns of a table, in its row order.

    Parameters
    ----------
    uri : str
        A .csv, .tsv, .parquet or .fits file, or a folder of Parquet files.
    columns : sequence of str
        Names of the columns. Repeated names are read once.
    text : collection of str
        Columns that a CSV reader must not parse as numbers, such as ids.

    Raises
    ------
    CatalogError
        If the table is missing or cannot be read.
    """
    reader = _readers[_format(uri)]
    return _call_reader(uri, lambda uri: reader(uri, list(dict.fromkeys(columns)), text))


def _format(uri: str) -> str:
    name = uri.lower().rstrip("/")
    for suffix in (".gz", ".bz2", ".zst"):
        name = name.removesuffix(suffix)
    extension = os.path.splitext(name)[1]
    if extension in _FORMATS:
        return _FORMATS[extension]
    system, path = arrow_filesystem(uri)
    if system.get_file_info(path).type == pafs.FileType.Directory:
        return "parquet"
    raise CatalogError(
        "unknown table format", uri, "give a .csv, .tsv, .parquet or .fits file, or a folder of Parquet files"
    )


def _call_reader(uri: str, read: Any) -> Any:
    """Return `read(uri)`; its failures become a CatalogError."""
    try:
        return read(uri)
    except FileNotFoundError as error:
        raise CatalogError("no such file", uri, "check the path, or fetch the catalogue first") from error
    except (OSError, pa.ArrowException, ValueError, TypeError, csv.Error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if _format(uri) == "parquet":
            reason = reason.rpartition(": ")[2].rstrip(".")  # Arrow puts the cause last
        raise CatalogError(
            f"cannot be read as a {_format(uri)} table ({reason})", uri, "download it again or convert it"
        ) from error


def _delimiter(uri: str) -> str:
    return "\t" if ".tsv" in uri.lower() else ","


def _csv_names(uri: str) -> list[str]:
    with open_stream(uri) as stream:
        head = stream.read(1 << 20).decode("utf-8-sig", errors="replace")
    rows = csv.reader(io.StringIO(head), delimiter=_delimiter(uri))
    return [name.strip() for name in next(rows, [])]


def _read_csv(uri: str, columns: list[str], text: Collection[str]) -> pa.Table:
    names = _csv_names(uri)  # stripped, unlike the names that Arrow reads from the header
    with open_stream(uri) as stream:
        return pacsv.read_csv(
            stream,
            read_options=pacsv.ReadOptions(column_names=names, skip_rows=1),
            parse_options=pacsv.ParseOptions(delimiter=_delimiter(uri)),
            convert_options=pacsv.ConvertOptions(
                include_columns=columns, column_types={name: pa.string() for name in columns if name in text}
            ),
        )


def _parquet_names(uri: str) -> list[str]:
    return list(parquet_dataset(uri).schema.names)


def _read_parquet(uri: str, columns: list[str], text: Collection[str]) -> pa.Table:
    return parquet_dataset(uri).to_table(columns=columns)


def parquet_dataset(uri: str) -> ds.Dataset:
    """Open a Parquet file or a folder of Parquet files, without reading rows.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `uri`.
    """
    system, path = arrow_filesystem(uri)
    if system.get_file_info(path).type == pafs.FileType.NotFound:
        raise FileNotFoundError(uri)
    return ds.dataset(path, filesystem=system, format="parquet")


@contextmanager
def _open_fits_table(uri: str) -> Iterator[Any]:
    """Yield the first table HDU, and close the file afterwards.

    OSError if there is none, or if the file is truncated.
    """
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyUserWarning

    system, path = arrow_filesystem(uri)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "File may have been truncated", AstropyUserWarning)
        try:
            # A local file is memory-mapped: Table 5 of Willett et al. 2013 has 226 columns, and 40
            # of them are read.
            with fits.open(path) if isinstance(system, pafs.LocalFileSystem) else _open_remote_fits(uri) as hdus:
                tables = (hdu for hdu in hdus if isinstance(hdu, (fits.BinTableHDU, fits.TableHDU)))
                if (table := next(tables, None)) is None:
                    raise OSError("it has no table extension")
                yield table
        except AstropyUserWarning as warning:
            raise OSError("the file is truncated") from warning


def _open_remote_fits(uri: str) -> Any:
    from astropy.io import fits

    with open_stream(uri) as stream:
        return fits.open(io.BytesIO(stream.read()))


def _fits_names(uri: str) -> list[str]:
    with _open_fits_table(uri) as hdu:
        return list(hdu.columns.names)


def _read_fits(uri: str, columns: list[str], text: Collection[str]) -> pa.Table:
    with _open_fits_table(uri) as hdu:
        return pa.table({name: _to_arrow(np.asarray(hdu.data[name]), hdu.columns[name].null) for name in columns})


def _to_arrow(values: np.ndarray, null: int | None) -> pa.Array:
    """Convert a FITS column to Arrow: native numbers, text without padding, null for `null`."""
    if values.dtype.kind == "S":
        values = np.char.decode(values, "ascii")
    if values.dtype.kind == "U":
        return pa.array([str(word).strip() for word in values], pa.string())
    return pa.array(values.astype(values.dtype.newbyteorder("=")), mask=None if null is None else values == null)


_name_readers = {"csv": _csv_names, "parquet": _parquet_names, "fits": _fits_names}
_readers = {"csv": _read_csv, "parquet": _read_parquet, "fits": _read_fits}


def object_ids(column: pa.ChunkedArray | pa.Array, name: str, where: str) -> pa.Array:
    """Return a column of ids as text, with every digit.

    Parameters
    ----------
    column : pyarrow array
        Ids as text, integers or floats.
    name, where : str
        The column and the file, for error messages.

    Raises
    ------
    CatalogError
        If ids are missing. If ids were floats too long for their type, so that the last digits are
        lost: such ids would match the wrong galaxies.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_floating(array.type):
        array = _ids_from_floats(array.to_numpy(zero_copy_only=False), name, where)
    text = pc.utf8_trim_whitespace(pc.cast(array, pa.string()))
    if _written_as_floats(text):
        floats = pc.cast(text, pa.float64()).to_numpy(zero_copy_only=False)
        text = pc.cast(_ids_from_floats(floats, name, where), pa.string())
    missing = text.null_count + (pc.sum(pc.equal(text, "")).as_py() or 0)
    if missing:
        raise CatalogError(f"column '{name}' has no id in {missing} rows", where, "remove these rows")
    return text


def _written_as_floats(text: pa.Array) -> bool:
    """Return whether all ids are numbers and some are written as floats: 5.877e+17 or 1002.0."""
    numbers = pc.match_substring_regex(text, r"^[+-]?\d+(\.\d*)?([eE][+-]?\d+)?$")
    as_floats = pc.match_substring_regex(text, r"[.eE]")
    return bool(pc.all(numbers).as_py() and pc.any(as_floats).as_py())


def _ids_from_floats(values: np.ndarray, name: str, where: str) -> pa.Array:
    if not np.isfinite(values).all():
        raise CatalogError(f"column '{name}' has rows without an id", where, "remove these rows")
    first_inexact = 2.0 ** (np.finfo(values.dtype).nmant + 1)  # every smaller integer is an exact float
    if (np.abs(values) >= first_inexact).any():
        raise CatalogError(
            f"the ids in '{name}' were stored as floats and lost their last digits",
            where,
            "export the table again with ids as integers or text",
        )
    if (values != np.round(values)).any():
        raise CatalogError(
            f"the ids in '{name}' are not whole numbers", where, "name the id column with survey.columns.id=NAME"
        )
    return pa.array(values.astype(np.int64))
