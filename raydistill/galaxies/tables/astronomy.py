"""Read text formats of astronomy and tables of FITS files with astropy."""

from __future__ import annotations

import io
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any
from xml.parsers import expat

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from raydistill.errors import CatalogError
from raydistill.galaxies.tables.columns import check_columns, check_fits, check_header, distinct_names, plain_name
from raydistill.galaxies.tables.content import Content, without_packing
from raydistill.log import get_logger
from raydistill.storage import arrow_filesystem, open_stream

# Read text formats of astronomy with astropy.
#
# They are VOTable, ECSV, CDS (also MRT), IPAC and SExtractor.


class AstropyTable:
    """A table that astropy reads as a whole.

    Parameters
    ----------
    content : Content
    kind : {"votable", "ecsv", "cds", "ipac", "sextractor"}
    hdu : int or str, optional
        Number, ID or name of a table in a VOTable that holds several.

    Attributes
    ----------
    names : list of str
        Names of the columns, in order.
    """

    def __init__(self, content: Content, kind: str, hdu: int | str | None = None) -> None:
        from astropy.table import Table

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about units and the letter of the VOTable standard
            if kind == "votable":
                self._table = _votable(content, hdu)
            elif kind == "cds":
                self._table = _cds(content)
            else:
                text = _text(content)
                check_header(text, kind, content.uri)
                self._table = Table.read(text, format=f"ascii.{kind}")
        _split_coordinates(self._table)
        self.names = list(self._table.colnames)
        self.units = {name: str(unit) for name in self.names if (unit := getattr(self._table[name], "unit", None))}

    def read(self, columns: list[str], text: Collection[str]) -> pa.Table:
        return pa.table({name: _to_arrow(self._table[name]) for name in columns})


def _split_coordinates(table: Any) -> None:
    """Replace each SkyCoord column by `NAME.ra` and `NAME.dec`, ICRS in degrees."""
    for name in [name for name in table.colnames if type(table[name]).__name__ == "SkyCoord"]:
        position = table[name].icrs
        table[f"{name}.ra"], table[f"{name}.dec"] = position.ra.deg, position.dec.deg
        table.remove_column(name)


def _votable(content: Content, hdu: int | str | None) -> Any:
    from astropy.io.votable import parse

    data = content.read()
    _check_xml(data, content.uri)
    tables = list(parse(io.BytesIO(data), verify="ignore").iter_tables())
    if not tables:
        raise ValueError("it has no table")
    chosen = [
        table
        for number, table in enumerate(tables)
        if str(hdu) in (str(number), table.ID, table.name) or (hdu is None and len(tables) == 1)
    ]
    if not chosen:
        listed = ", ".join(f"{number} {table.name or table.ID or ''}".strip() for number, table in enumerate(tables))
        raise CatalogError(
            "there are several tables", content.uri, f"name one with survey.hdu=NAME; tables are: {listed}"
        )
    table = chosen[0].to_table(use_names_over_ids=True)
    table.rename_columns(table.colnames, distinct_names(field.name or field.ID for field in chosen[0].fields))
    return table


def _check_xml(data: bytes, uri: str) -> None:
    """Raise CatalogError for XML that names another file, or declares entities.

    astropy would read rows from any file or address, and entities may grow to gigabytes.
    """
    columns = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal columns
        columns += name.rpartition(":")[2] == "FIELD"
        check_columns(columns, uri)
        if name.rpartition(":")[2] == "STREAM" and "href" in attributes:
            what = f"its rows are in another file, '{attributes['href']}', which is not opened"
            raise CatalogError(what, uri, "save the table with its rows")

    def declare(name: str, *_: object) -> None:
        raise CatalogError(f"it declares the entity '{name}'", uri, "save the table without entities")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EntityDeclHandler = start, declare
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise ValueError(str(error)) from error


def _cds(content: Content) -> Any:
    from astropy.io.ascii import Cds

    readme, text = _readme(content), _text(content)
    check_header(text if readme is None else readme, "cds", content.uri)
    reader = Cds(None if readme is None else io.BytesIO(readme.encode()))
    reader.data.table_name = _plain_name(content)
    return reader.read(text.splitlines())


def _text(content: Content) -> str:
    return content.read().decode("utf-8-sig", errors="replace")


def has_readme(content: Content) -> bool:
    """Return whether a CDS ReadMe beside the file describes it."""
    return _readme(content) is not None


def _readme(content: Content) -> str | None:
    """Return the CDS ReadMe beside a file, if it describes the file by its name."""
    at = content.uri.rpartition("/")[0]
    readme = f"{at}/ReadMe" if at else "ReadMe"
    system, path = arrow_filesystem(readme)
    if not system.get_file_info(path).is_file:
        return None
    with open_stream(readme) as stream:
        text = stream.read().decode("utf-8", errors="replace")
    return text if f"Byte-by-byte Description of file: {_plain_name(content)}" in text else None


def _plain_name(content: Content) -> str:
    """Return the name that a ReadMe uses: without the suffix of a compression."""
    return content.name[: len(without_packing(content.name))]


def _to_arrow(column: Any) -> pa.Array:
    """Convert an astropy column to Arrow: text without padding, null where masked."""
    values = np.asarray(column)
    if values.ndim > 1:
        return pa.array(values.tolist())
    mask = np.ma.getmaskarray(column) if hasattr(column, "mask") else np.zeros(len(values), bool)
    if values.dtype.kind in "SU" or values.dtype == object:
        words = [None if absent else _word(word) for word, absent in zip(values.tolist(), mask.tolist(), strict=True)]
        return pa.array(words)
    return pa.array(values.astype(values.dtype.newbyteorder("=")), mask=mask)


def _word(value: Any) -> Any:
    value = value.decode("utf-8") if isinstance(value, bytes) else value
    return value.strip() if isinstance(value, str) else value


log = get_logger(__name__)


class FitsTable:
    """A table extension of a FITS file.

    Parameters
    ----------
    content : Content
    hdu : int or str, optional
        Number or name of the extension. By default the first table, or the first one with a name
        in `known`.
    known : collection of str
        Names that its columns may have, in lower case.

    Attributes
    ----------
    names : list of str
        Names of the columns, in order.
    """

    def __init__(self, content: Content, hdu: int | str | None = None, known: Collection[str] = ()) -> None:
        self._content = content
        with self._stream() as stream:
            check_fits(stream, content.uri)
        with self._open() as hdus:
            self._number = _find_table(hdus, hdu, known, content.uri)
            columns = list(hdus[self._number].columns)
        self._every = distinct_names(column.name or "" for column in columns)
        self._places = {name: place for place, name in enumerate(self._every) if plain_name(name)}
        self.names = list(self._places)
        self.units = {name: str(columns[place].unit) for name, place in self._places.items() if columns[place].unit}

    def read(self, columns: list[str], text: Collection[str]) -> pa.Table:
        with self._open() as hdus:
            hdu = hdus[self._number]
            for place, name in enumerate(self._every):
                if name != plain_name(name):  # astropy reads no two columns of one name
                    hdu.columns[place].name = f"{plain_name(name)} in column {place + 1}"
            places = [self._places[name] for name in columns]  # names may differ in case alone
            arrays = [_fits_to_arrow(np.asarray(hdu.data.field(place)), _null(hdu.columns[place])) for place in places]
            return pa.table(arrays, names=columns)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        """Yield the extensions, and close the file afterwards. OSError if it is truncated."""
        from astropy.io import fits
        from astropy.utils.exceptions import AstropyUserWarning

        with warnings.catch_warnings():
            warnings.filterwarnings("error", "File may have been truncated", AstropyUserWarning)
            try:
                with self._stream() as stream, fits.open(stream) as hdus:
                    yield hdus
            except AstropyUserWarning as warning:
                raise OSError("the file is truncated") from warning

    def _stream(self) -> IO[bytes]:
        """Open the file; a local one is memory-mapped.

        Memory-mapping is for wide tables: Table 5 of Willett et al. 2013 has 226 columns.
        """
        path = self._content.path
        if path is not None and isinstance(path[0], pafs.LocalFileSystem):
            return open(path[1], "rb")
        return io.BytesIO(self._content.read())


def _find_table(hdus: Sequence[Any], requested: int | str | None, known: Collection[str], uri: str) -> int:
    from astropy.io import fits

    tables = {i: hdu for i, hdu in enumerate(hdus) if isinstance(hdu, (fits.BinTableHDU, fits.TableHDU))}
    if not tables:
        raise OSError("it has no table extension")
    if requested is not None:
        for number, hdu in tables.items():
            if requested == number or str(requested).strip().lower() in (str(number), hdu.name.lower()):
                return number
        listed = ", ".join(f"{number} {hdu.name}".strip() for number, hdu in tables.items())
        raise CatalogError(
            f"there is no table in extension '{requested}'", uri, f"set survey.hdu; tables are: {listed}"
        )
    first = next(iter(tables))
    with_known = [i for i, hdu in tables.items() if any(name and name.lower() in known for name in hdu.columns.names)]
    number = with_known[0] if with_known else first
    if len(tables) > 1:
        log.info("curate: table in extension %d %s of %d", number, tables[number].name, len(hdus) - 1)
    return number


def _null(column: Any) -> float | None:
    """Return the value of TNULL, which the header gives before TSCAL and TZERO."""
    if column.null is None:
        return None
    return column.null * (column.bscale or 1) + (column.bzero or 0)


def _fits_to_arrow(values: np.ndarray, null: float | None) -> pa.Array:
    """Convert a FITS column to Arrow: native numbers, unpadded text, null for `null`."""
    if values.ndim > 1:
        return pa.array(values.tolist())
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8")
    if values.dtype.kind == "U":
        return pa.array([str(word).strip() for word in values], pa.string())
    return pa.array(values.astype(values.dtype.newbyteorder("=")), mask=None if null is None else values == null)
