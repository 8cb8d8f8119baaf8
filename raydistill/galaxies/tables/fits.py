"""Read a table extension of a FITS file."""

from __future__ import annotations

import io
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from raydistill.errors import CatalogError
from raydistill.galaxies.tables.content import Content
from raydistill.galaxies.tables.twins import distinct_names, plain_name
from raydistill.galaxies.tables.widths import check_fits
from raydistill.log import get_logger

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
            own = [_to_arrow(np.asarray(hdu.data.field(place)), _null(hdu.columns[place])) for place in places]
            return pa.table(own, names=columns)

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
    scaled: float = column.null * (column.bscale or 1) + (column.bzero or 0)
    return scaled


def _to_arrow(values: np.ndarray, null: float | None) -> pa.Array:
    """Convert a FITS column to Arrow: native numbers, unpadded text, null for `null`."""
    if values.ndim > 1:
        return pa.array(values.tolist())
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8")
    if values.dtype.kind == "U":
        return pa.array([str(word).strip() for word in values], pa.string())
    return pa.array(values.astype(values.dtype.newbyteorder("=")), mask=None if null is None else values == null)
