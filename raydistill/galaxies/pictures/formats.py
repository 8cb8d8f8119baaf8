"""Read picture formats that Pillow misreads, and name those that nobody reads."""

from __future__ import annotations

import io
import logging
import math
import re
import struct
import warnings
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from raydistill.galaxies.pictures.levels import MAX_PIXELS, DeepPixels, check_pixels

# Name files that are not pictures, and picture formats that Pillow does not read.

FITS_MAGIC = b"SIMPLE  ="

# Start of a file in lower case -> what it is.
_STARTS = {
    b"version https://git-lfs": "a pointer of Git LFS, not the picture",
    b"<!doctype html": "a web page, not the picture",
    b"<html": "a web page, not the picture",
    b"<?xml": "a text in XML, such as SVG",
    b"<svg": "a drawing in SVG",
    b"%pdf": "a PDF file",
    b"%!ps": "a drawing in PostScript",  # for which Pillow would start Ghostscript
    b"\xc5\xd0\xd3\xc6": "a drawing in PostScript",
    b"\x89hdf": "an HDF5 file",
    b"\0\0\0\x0cjxl ": "JPEG XL, which Pillow does not read",
    b"\xff\x0a": "JPEG XL, which Pillow does not read",
}
# From the fifth byte on (ISO/IEC 23008-12, brands of HEIF).
_HEIC = tuple(b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"))


def describe_foreign(content: bytes) -> str | None:
    """Return what a file is that Pillow cannot read; None if its start does not tell."""
    if content[4:12] in _HEIC:
        return "HEIC, which Pillow does not read"
    start = content[:64].lstrip().lower()
    return next((what for magic, what in _STARTS.items() if start.startswith(magic)), None)


# Read TIFF files of more than 8 bits that Pillow misreads, with tifffile.
#
# They hold 64-bit floats, floats in colour, 16-bit planes one after the other, grey with opacity,
# numbers below zero, or 0 for white. Pillow reads them wrongly or not at all. It also swaps the
# bytes of big-endian floats and signed integers if they are compressed.

_BITS, _COMPRESSION, _PHOTOMETRIC, _PLANAR, _SAMPLE_FORMAT = 258, 259, 262, 284, 339  # tags
_UNPACKED, _SEPARATE, _SIGNED, _WHITE_IS_ZERO, _BLACK_IS_ZERO, _OPACITY = 1, 2, 2, 0, 1, 2  # values of tags


def read_unusual_tiff(content: bytes) -> DeepPixels | None:
    """Return the pixels of a TIFF that Pillow misreads, or None for other files.

    Raises
    ------
    Image.DecompressionBombError
        If there are more pixels than Pillow accepts.
    ValueError
        If tifffile cannot read it either.
    """
    if not content.startswith(TIFF_MAGIC):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damage, which reading finds
            with Image.open(io.BytesIO(content)) as image:
                if not _is_misread(getattr(image, "tag_v2", {}), content.startswith(b"MM")):
                    return None
    except UnidentifiedImageError:
        pass
    from tifffile import TiffFile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # it logs what it then raises
    try:
        with TiffFile(io.BytesIO(content)) as file:
            return _pixels(file.pages[0])
    except Image.DecompressionBombError:
        raise
    except Exception as error:  # tifffile raises a dozen types for damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"a TIFF that cannot be read ({reason}); save it as 16-bit PNG or as .npy") from error


def _is_misread(tags: Any, is_big_endian: bool) -> bool:
    bits, formats = (
        set(np.atleast_1d(tags.get(tag, usual)).tolist()) for tag, usual in ((_BITS, 8), (_SAMPLE_FORMAT, 1))
    )
    if bits <= {8}:
        return _SIGNED in formats
    is_swapped = is_big_endian and formats != {1} and tags.get(_COMPRESSION, _UNPACKED) != _UNPACKED
    is_other = tags.get(_PLANAR) == _SEPARATE or tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    return bits <= {16, 32, 64} and (is_swapped or is_other)


def _pixels(page: Any) -> DeepPixels:
    """Return the colours and the opacity of the first picture of a TIFF."""
    if math.prod(page.shape) > 4 * MAX_PIXELS:
        raise Image.DecompressionBombError(f"{' x '.join(map(str, page.shape))} values in one picture")
    check_pixels(page.imagelength, page.imagewidth)
    values = np.moveaxis(page.asarray(), 0, 2) if page.axes == "SYX" else page.asarray()
    values = values[..., None] if values.ndim == 2 else values
    if values.ndim != 3:
        raise ValueError(f"axes {page.axes}")
    extra = [int(kind) for kind in page.extrasamples]
    if len(extra) == 2 and not any(extra):  # three planes without names, which are those of an array H x W x 3
        extra = []
    colours = values.shape[2] - len(extra)
    # Pillow reads every other sound file of 8 bits.
    is_new = values.dtype != np.uint8 or (values.shape[2] == 3 and page.photometric == _BLACK_IS_ZERO)
    if colours not in (1, 3) or len(extra) > 1 or values.dtype.kind not in "uif" or not is_new:
        raise ValueError(f"{values.shape[2]} values of type {values.dtype} in each pixel")
    full = float(np.iinfo(values.dtype).max) if values.dtype.kind in "iu" else 1.0
    opacity = values[..., colours : colours + 1] / full if extra[:1] == [_OPACITY] else None
    shown = values[..., :colours]
    if page.photometric == _WHITE_IS_ZERO and values.dtype.kind == "u":
        shown = np.iinfo(values.dtype).max - shown
    return DeepPixels(shown, opacity)


# Find the picture in a TIFF of several pages.
#
# Pages may be the picture, smaller copies of it, and masks. A copy or mask says so in its tag
# NewSubfileType; a smaller page of the same proportions is a copy too. Other pages are pictures of
# their own, such as the bands or the times of a stack.

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF

_MAX_PAGES = 10_000
_SUBFILE_TYPE, _COPY = 255, 2  # an older tag, and its value for a copy
_COPY_OR_MASK = 1 | 4  # bits of NewSubfileType
# A stack may have one page and its other planes behind it: of ImageJ, or of tifffile.
_STACK = re.compile(r'ImageJ=.*?\bimages=(\d+)|\{"shape": \[(\d+),.*"truncated": true', re.DOTALL)


class _Page(NamedTuple):
    offset: int
    width: int
    height: int
    is_copy: bool
    num_planes: int

    def is_copy_of(self, other: _Page) -> bool:
        """Return whether this is a smaller page of the same proportions.

        The proportions may differ by the rounding of a side.
        """
        difference = abs(self.width * other.height - self.height * other.width)
        return self.is_copy or (self.width < other.width and difference <= max(other.width, other.height))


def find_picture(content: bytes) -> tuple[bytes, int]:
    """Return a TIFF with the full-resolution picture first, and how many there are.

    Parameters
    ----------
    content : bytes
        The file. A damaged one is left to its reader: it is returned as it is.

    References
    ----------
    TIFF 6.0 (Adobe, 1992), tags NewSubfileType and SubfileType.
    """
    pages = list(islice(_pages(content), _MAX_PAGES))
    if not pages:
        return content, 1
    shown = [page for page in pages if not page.is_copy] or pages
    picture = max(shown, key=lambda page: page.width * page.height)
    others = [page for page in shown if page is not picture and not page.is_copy_of(picture)]
    first = content if picture is pages[0] else _beginning_at(content, picture.offset)
    return first, max(1 + len(others), picture.num_planes)


def _beginning_at(content: bytes, offset: int) -> bytes:
    """Return a TIFF that begins with the page at an offset."""
    order = "<" if content.startswith(b"II") else ">"
    start, code = (8, "Q") if b"+" in content[:4] else (4, "I")
    changed = bytearray(content)
    struct.pack_into(order + code, changed, start, offset)
    return bytes(changed)


def _pages(content: bytes) -> Iterator[_Page]:
    """Yield the pages of a TIFF up to a damaged one or a loop."""
    from tifffile import TiffFile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # of damage, which is left to the reader
    seen: set[int] = set()
    try:
        with TiffFile(io.BytesIO(content)) as file:
            pages: Iterable[Any] = file.pages
            for page in pages:
                if page.offset in seen:
                    return
                seen.add(page.offset)
                is_copy = bool(page.subfiletype & _COPY_OR_MASK) or page.tags.valueof(_SUBFILE_TYPE) == _COPY
                stack = _STACK.match(page.description)
                planes = max(1, int(stack[1] or stack[2]) if stack else 0, page.imagedepth)
                yield _Page(page.offset, int(page.imagewidth), int(page.imagelength), is_copy, planes)
    except Exception:  # tifffile raises a dozen types for damaged files
        return
