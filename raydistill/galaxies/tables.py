"""Reading tables wherever they lie: CSV (also .gz), Parquet (a file or a folder of files) and FITS, local or remote.

A catalogue has hundreds of columns of which a few are wanted, so all readers take the names of those columns.
Object ids are text from the first byte on: SDSS ids have 18 digits and float64 holds fewer than 16.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Collection, Sequence
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
    """The names of the table's columns, in order. CatalogError if there is no table at `uri`."""
    names: list[str] = _guarded(uri, _names_of[_format(uri)])
    if not names:
        raise CatalogError("the file is empty", uri, "fetch or export it again")
    return names


def read_columns(uri: str, columns: Sequence[str], text: Collection[str] = ()) -> pa.Table:
    """The named columns; those also in `text` come from a CSV as they are written, without reading them as numbers."""
    reader = _readers[_format(uri)]
    return _guarded(uri, lambda uri: reader(uri, list(dict.fromkeys(columns)), text))


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
        "not a table that can be read",
        uri,
        "give a .csv, .tsv, .parquet or .fits file, by its name too, or a Parquet folder",
    )


def _guarded(uri: str, read: Any) -> Any:
    """What `read(uri)` returns; its failures as one sentence."""
    try:
        return read(uri)
    except FileNotFoundError as error:
        raise CatalogError("no such file", uri, "check the path, or fetch the catalogue first") from error
    except (OSError, pa.ArrowException, ValueError, TypeError, csv.Error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if _format(uri) == "parquet":
            reason = reason.rpartition(": ")[2].rstrip(".")  # the last of many links says it
        raise CatalogError(
            f"cannot be read as a {_format(uri)} table ({reason})", uri, "fetch it again or convert it"
        ) from error


def _delimiter(uri: str) -> str:
    return "\t" if ".tsv" in uri.lower() else ","


def _csv_names(uri: str) -> list[str]:
    with open_stream(uri) as stream:
        head = stream.read(1 << 20).decode("utf-8-sig", errors="replace")
    rows = csv.reader(io.StringIO(head), delimiter=_delimiter(uri))
    return [name.strip() for name in next(rows, [])]


def _read_csv(uri: str, columns: list[str], text: Collection[str]) -> pa.Table:
    names = _csv_names(uri)  # given, and the header skipped: blanks around the names do no harm
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
    """A Parquet file, or a folder of them, for reading column by column."""
    system, path = arrow_filesystem(uri)
    if system.get_file_info(path).type == pafs.FileType.NotFound:
        raise FileNotFoundError(uri)
    return ds.dataset(path, filesystem=system, format="parquet")


def _open_fits_table(uri: str) -> tuple[Any, Any]:
    from astropy.io import fits

    system, path = arrow_filesystem(uri)
    if isinstance(system, pafs.LocalFileSystem):
        content = fits.open(path)  # memory-mapped: Table 5 has 226 columns and we read 40
    else:
        with open_stream(uri) as stream:
            content = fits.open(io.BytesIO(stream.read()))
    for hdu in content:
        if isinstance(hdu, (fits.BinTableHDU, fits.TableHDU)):
            return content, hdu
    raise OSError("it has no table extension")


def _fits_names(uri: str) -> list[str]:
    content, hdu = _open_fits_table(uri)
    with content:
        return list(hdu.columns.names)


def _read_fits(uri: str, columns: list[str], text: Collection[str]) -> pa.Table:
    content, hdu = _open_fits_table(uri)
    with content:
        return pa.table({name: _native(np.asarray(hdu.data[name]), hdu.columns[name].null) for name in columns})


def _native(values: np.ndarray, null: int | None) -> pa.Array:
    """FITS numbers are big-endian, which Arrow does not take, and its text is padded bytes. null: the number that stands for none."""
    if values.dtype.kind == "S":
        values = np.char.decode(values, "ascii")
    if values.dtype.kind == "U":
        return pa.array([str(word).strip() for word in values], pa.string())
    return pa.array(values.astype(values.dtype.newbyteorder("=")), mask=None if null is None else values == null)


_names_of = {"csv": _csv_names, "parquet": _parquet_names, "fits": _fits_names}
_readers = {"csv": _read_csv, "parquet": _read_parquet, "fits": _read_fits}


def object_ids(column: pa.ChunkedArray | pa.Array, name: str, where: str) -> pa.Array:
    """A column of ids as text, digit for digit.

    Raises CatalogError for ids that are missing, and for ids that passed through floating point and were too long
    for it (their last digits are lost, so they would join with the wrong galaxies).
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
        raise CatalogError(f"column '{name}' lacks the id in {missing} rows", where, "remove those rows")
    return text


def _written_as_floats(text: pa.Array) -> bool:
    """Whether every id reads as a number and some have a point or an exponent: 5.877e+17, or 1002.0."""
    numbers = pc.match_substring_regex(text, r"^[+-]?\d+(\.\d*)?([eE][+-]?\d+)?$")
    pointed = pc.match_substring_regex(text, r"[.eE]")
    return bool(pc.all(numbers).as_py() and pc.any(pointed).as_py())


def _ids_from_floats(values: np.ndarray, name: str, where: str) -> pa.Array:
    if not np.isfinite(values).all():
        raise CatalogError(f"column '{name}' lacks some ids", where, "remove those rows")
    first_rounded = 2.0 ** (np.finfo(values.dtype).nmant + 1)  # below it every whole number has a float of its own
    if (np.abs(values) >= first_rounded).any():
        raise CatalogError(
            f"the ids in '{name}' passed through floating point and lost their last digits",
            where,
            "export the table again with the ids as integers or text",
        )
    if (values != np.round(values)).any():
        raise CatalogError(
            f"the ids in '{name}' are fractions", where, "name the id column with survey.columns.id=NAME"
        )
    return pa.array(values.astype(np.int64))
