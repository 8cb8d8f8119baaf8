"""Read every bit of picture files and arrays of more than 8 bits.

Pillow keeps 16-bit grey and 32-bit floats, but drops the low byte of 16-bit colour. The raw mode of
a file says which byte of a value Pillow takes, so a second reading with the bytes swapped gives the
low one.
"""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from raydistill.galaxies.pictures.levels import to_levels

MAX_PIXELS = 2**26  # of one picture, 8192 x 8192
_SIGNED = ("I;16S", "I;16BS")  # raw modes of 16 bits with a sign
_UNSIGNED_32 = "I;32N"  # Pillow returns it as signed


class DeepPixels(NamedTuple):
    """Colour values `[H, W, C]`, C = 1 or 3, and any opacity `[H, W, 1]` in [0, 1]."""

    values: np.ndarray
    opacity: np.ndarray | None = None

    def as_rgb(self, low: float, high: float) -> np.ndarray:
        """Return uint8 `[H, W, 3]`, on black where the picture is transparent."""
        levels = to_levels(self.values, low, high)
        if self.opacity is not None:
            levels = np.rint(levels * self.opacity).astype(np.uint8)
        return np.broadcast_to(levels, (*levels.shape[:2], 3)).copy()


def check_pixels(height: int, width: int) -> None:
    """Raise DecompressionBombError for a picture that takes gigabytes in memory."""
    if height * width > MAX_PIXELS:
        what = f"{width} x {height} px, and at most {MAX_PIXELS / 1e6:.0f} million pixels are read"
        raise Image.DecompressionBombError(what)


def read_deep(image: Image.Image, content: bytes) -> DeepPixels | None:
    """Return the pixels of an opened picture of more than 8 bits, or None for 8 bits."""
    raw_mode = _raw_mode(image)
    if image.mode == "F" or image.mode.startswith("I"):
        return _deep_grey(np.asarray(image)[..., None], raw_mode, image.info.get("transparency"))
    if not raw_mode.endswith((";16B", ";16L", ";16N")) or raw_mode.startswith("CMYK"):
        return None
    if raw_mode == "LA;16B":  # four bytes a pixel: grey and opacity, the high byte first
        bytes_HW4 = _read_as(content, "RGBA").astype(np.uint16)
        values = 256 * bytes_HW4[..., 0::2] + bytes_HW4[..., 1::2]
        return DeepPixels(values[..., :1], values[..., 1:] / 65535)
    swapped = raw_mode[:-1] + ("L" if raw_mode.endswith("B") else "B")  # N is L: hosts are little-endian
    values = 256 * np.asarray(image).astype(np.uint16) + _read_as(content, swapped)
    is_premultiplied = raw_mode.startswith("RGBa")
    opacity = values[..., 3:] / 65535 if values.shape[2] == 4 and not is_premultiplied else None
    return DeepPixels(values[..., :3], opacity)


def _deep_grey(values_HW1: np.ndarray, raw_mode: str, transparent: Any) -> DeepPixels:
    """Return grey values in the type of the file; the transparent value is black."""
    if raw_mode in _SIGNED:
        values_HW1 = values_HW1.astype(np.int16)
    elif raw_mode == _UNSIGNED_32:
        values_HW1 = values_HW1.view(np.uint32)
    return DeepPixels(values_HW1, (values_HW1 != transparent) * 1.0 if isinstance(transparent, int) else None)


def _raw_mode(image: Image.Image) -> str:
    """Return the layout of the stored pixels, such as "RGB;16B". "" if it is unknown."""
    tiles: list[Any] = getattr(image, "tile", [])
    arguments = tiles[0].args if tiles else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _read_as(content: bytes, raw_mode: str) -> np.ndarray:
    """Return the pixels of a file, unpacked in another way than its header says."""
    with Image.open(io.BytesIO(content)) as image:
        tiles: list[Any] = getattr(image, "tile", [])
        tiles[:] = [
            tile._replace(args=(raw_mode, *tile.args[1:]) if isinstance(tile.args, tuple) else raw_mode)
            for tile in tiles
        ]
        return np.asarray(image)


def array_pixels(array: np.ndarray) -> DeepPixels | None:
    """Return the pixels of an array `[H, W]`, `[H, W, C]` or `[C, H, W]`, C = 1 or 3.

    None for another shape, and for values that are no real numbers.
    """
    if array.dtype.kind not in "buif":
        return None
    if array.ndim == 2:
        return DeepPixels(array[..., None])
    if array.ndim != 3:
        return None
    if array.shape[2] in (1, 3):
        return DeepPixels(array)
    return DeepPixels(np.moveaxis(array, 0, 2)) if array.shape[0] in (1, 3) else None
