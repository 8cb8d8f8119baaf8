"""Read FITS mosaics in parts: their headers, and the pixels of a section.

A tile is a FITS file that shows a piece of the sky. Only the header and the pixels of a cut-out are
read, from a disk or an object store.
"""

from __future__ import annotations

import functools
import warnings
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from fsspec.implementations.local import LocalFileSystem

from raydistill.errors import CatalogError, is_storage_error
from raydistill.galaxies.pictures.archives import file_version
from raydistill.galaxies.pictures.fits import AmbiguousExtension, find_extension
from raydistill.galaxies.pictures.images import RejectedImage, is_truncated
from raydistill.storage import error_message, resolve_uri

Channel = int | str | None

PACKED = (".gz", ".bz2", ".xz", ".zip", ".Z", ".zst")  # such a file has to be unpacked from its start
_NUM_OPEN = 12  # files that a process keeps open
_BLOCK = 2**18  # bytes of a request to an object store; the rows of a cut-out are some 10 kB apart


class Band:
    """One image of a tile.

    Parameters
    ----------
    file
        The file, which stays open as long as the band is used.
    hdu
        The extension.
    plane
        Index into its cube, or None for an image with two axes.

    Attributes
    ----------
    wcs : astropy.wcs.WCS
        World coordinates of the two axes of the sky.
    unit : str
        BUNIT, or "".
    shape : (int, int)
        Rows and columns.
    dtype : numpy.dtype
        float32, or float64 where float32 would lose digits.

    Raises
    ------
    CatalogError
        If the header has no world coordinates.
    """

    ndim = 2

    def __init__(self, file: TileFile, hdu: Any, plane: int | None) -> None:
        self._file, self._hdu, self._plane = file, hdu, plane
        self.shape: tuple[int, int] = hdu.shape[-2:]
        self.unit = str(hdu.header.get("BUNIT", "")).strip()
        self.dtype = np.dtype(np.float32 if hdu.header["BITPIX"] in (8, 16, -32) else np.float64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # astropy reports each deviation from the standard that it corrects
            try:
                self.wcs = WCS(hdu.header, naxis=2)
            except Exception as error:  # wcslib has a dozen types
                what = f"its world coordinates cannot be read ({' '.join(str(error).split())})"
                raise CatalogError(what, file.uri, "correct the header, or leave the file out") from error
        if not self.wcs.has_celestial:
            what = "the header has no world coordinates (CTYPE1, CTYPE2)"
            raise CatalogError(what, file.uri, "add them, as astrometry.net does, or leave the file out")

    def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
        """Return pixels; only these are read, or the compressed tiles around them.

        Raises
        ------
        RejectedImage
            With the reason truncated or corrupt.
        CatalogError
            If a remote storage fails.
        """
        leading = (0,) * (len(self._hdu.shape) - 3)
        key = index if self._plane is None and len(self._hdu.shape) == 2 else (*leading, self._plane or 0, *index)
        with _reading(self._file.uri):
            return np.asarray(self._hdu.section[key], dtype=self.dtype)


class TileFile:
    """An open FITS file.

    Parameters
    ----------
    uri
        Path or URI.

    Attributes
    ----------
    close
        Closes the file; else it is closed when the object is deleted.

    Raises
    ------
    RejectedImage
        If it is missing or no FITS file.
    CatalogError
        If a remote storage fails.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        system, path = resolve_uri(uri, CatalogError)
        with _reading(uri):
            is_local = isinstance(system, LocalFileSystem)
            stream: Any = path if is_local else system.open(path, "rb", block_size=_BLOCK, cache_type="readahead")
            # A memory map would count every page that was read as memory of the process. Astropy
            # sets BLANK to NaN, except in the unsigned integers that uint=True gives.
            self._hdus = fits.open(stream, memmap=False, lazy_load_hdus=True, uint=False)
        self.close = weakref.finalize(self, _close, self._hdus, None if is_local else stream)
        self._bands: dict[Channel, Band] = {}

    def band(self, channel: Channel) -> Band:
        """Return an image: of a name, of a number, or the first one.

        A number is an index into the cube if the first image is a cube, else into the extensions.

        Raises
        ------
        CatalogError
            If there is none, or it has no world coordinates.
        """
        if channel not in self._bands:
            with _reading(self.uri):
                hdu, plane = self._find(channel)
            self._bands[channel] = Band(self, hdu, plane)
        return self._bands[channel]

    def _find(self, channel: Channel) -> tuple[Any, int | None]:
        first = next((hdu for hdu in self._hdus if hdu.is_image and hdu.shape), None)
        is_cube = first is not None and len(first.shape) > 2
        if channel is None or (is_cube and isinstance(channel, int)):
            hdu, plane = first, channel
        else:
            with _no_such(self._hdus, channel, self.uri):
                hdu, plane = self._hdus[find_extension(self._hdus, channel)], None
        if hdu is None or not hdu.is_image or len(hdu.shape or ()) < 2:
            what = "the file has no image" if channel is None else f"'{channel}' is not an image"
            raise CatalogError(what, self.uri, "check survey.images.files and survey.images.channels")
        planes = hdu.shape[-3] if len(hdu.shape) > 2 else 1
        if not -planes <= (plane or 0) < planes or any(length > 1 for length in hdu.shape[:-3]) or (
            plane is None and planes > 1
        ):  # fmt: skip
            what = f"there is no plane {channel} in an image of {' x '.join(map(str, hdu.shape[::-1]))}"
            raise CatalogError(what, self.uri, "set survey.images.channels to planes for red, green and blue")
        return hdu, plane


@functools.lru_cache(maxsize=_NUM_OPEN)
def _open(uri: str, version: object) -> TileFile:
    return TileFile(uri)


def open_tile(uri: str) -> TileFile:
    """Return a file, which stays open until others were used more recently."""
    return _open(uri, file_version(uri))


def check_packed(names: Sequence[str], root: str) -> None:
    """Raise CatalogError for a file that has to be unpacked as a whole."""
    packed = next((name for name in names if name.endswith(PACKED)), None)
    if packed is not None:
        what = f"'{packed}' is compressed as a whole, so no part of it can be read"
        raise CatalogError(what, root, "unpack it, or compress it with fpack (.fits.fz)")


def _close(hdus: Any, stream: Any) -> None:
    hdus.close()
    if stream is not None:
        stream.close()


@contextmanager
def _no_such(hdus: Any, channel: Channel, where: str) -> Iterator[None]:
    try:
        yield
    except AmbiguousExtension as error:
        raise CatalogError(str(error), where, "set survey.images.channels") from error
    except (KeyError, IndexError) as error:
        names = ", ".join(hdu.name or str(number) for number, hdu in enumerate(hdus))
        what = f"there is no extension '{channel}', but {names}"
        raise CatalogError(what, where, "set survey.images.channels") from error


@contextmanager
def _reading(where: str) -> Iterator[None]:
    """Turn errors of damaged files into RejectedImage, of storages into CatalogError."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        except CatalogError:
            raise
        except FileNotFoundError as error:
            raise RejectedImage("missing", where, "no such file") from error
        except Exception as error:  # astropy raises a dozen types for damaged files
            is_of_system = isinstance(error, OSError) and error.errno is not None
            if "://" in where and (is_of_system or is_storage_error(error)):
                what = f"cannot be read ({error_message(error)})"
                raise CatalogError(what, where, "run the command again") from error
            if isinstance(error, PermissionError):
                raise RejectedImage("unreadable", where, error_message(error)) from error
            reason = "truncated" if is_truncated([error, *(w.message for w in caught)]) else "corrupt"
            raise RejectedImage(reason, where, " ".join(str(error).split())) from error
