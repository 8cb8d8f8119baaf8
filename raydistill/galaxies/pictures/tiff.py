"""Read TIFF files of more than 8 bits that Pillow misreads, with tifffile.

They hold 64-bit floats, floats in colour, 16-bit planes one after the other, grey with opacity,
numbers below zero, or 0 for white. Pillow reads them wrongly or not at all. It also swaps the
bytes of big-endian floats and signed integers if they are compressed.
"""

from __future__ import annotations

import io
import logging
import math
import warnings
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from raydistill.galaxies.pictures.deep import MAX_PIXELS, DeepPixels, check_pixels
from raydistill.galaxies.pictures.tiff_pages import TIFF_MAGIC

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
