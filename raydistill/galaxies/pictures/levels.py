"""Map pixels of more than 8 bits, and floats, to the 256 levels of a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from raydistill.errors import CatalogError, ConfigError

# A file does not say which part of its container the pixels fill: 8-bit pixels may be stored as
# uint16, and floats may end at 1 or at 255. One range serves the whole survey, so that pictures keep
# their relative brightness. `choose_range` finds it in a sample.

ValueRange = Literal["auto", "full"] | tuple[float, float]

# Files that do not fill 16 bits usually have 8, 10, 12 or 14: the bits of cameras and converters.
_BITS = (8, 10, 12, 14)
_DARKEST_FLOAT = 0.2  # a survey of floats in [0, 1] has a brighter pixel


def check_range(value_range: ValueRange, key: str) -> None:
    """Raise ConfigError unless low is below high."""
    if isinstance(value_range, tuple) and not value_range[0] < value_range[1]:
        raise ConfigError(f"the range is {list(value_range)}", key, "give the display range [low, high]")


class Extent(NamedTuple):
    """The lowest and highest value of a picture of more than 8 bits."""

    is_float: bool
    lowest: float
    highest: float
    is_signed: bool = False  # 16 bits of which one is the sign


def extent(values: np.ndarray) -> Extent | None:
    """Return the extent of pixels of more than 8 bits.

    None for 8 bits, and if no pixel is finite.
    """
    if values.dtype in (np.uint8, np.bool_):
        return None
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    is_float, is_signed = values.dtype.kind == "f", values.dtype == np.int16
    return Extent(is_float, float(finite.min()), float(finite.max()), is_signed)


def choose_range(extents: Sequence[Extent], where: str, key: str) -> ValueRange:
    """Return the range that the pixels of a sample fill, or "full" for 15 or 16 bits.

    Parameters
    ----------
    extents : sequence of Extent
        Of the pictures of more than 8 bits in the sample, at least one.
    where : str
        Path of the survey, for the error message.
    key : str
        Config key of the range, for the error message.

    Raises
    ------
    CatalogError
        If the range does not follow from the values.
    """
    low, high = min(extent.lowest for extent in extents), max(extent.highest for extent in extents)
    if any(extent.is_float for extent in extents):
        if low >= 0 and _DARKEST_FLOAT <= high <= 1:
            return (0.0, 1.0)
        if low >= 0 and 255 * _DARKEST_FLOAT <= high <= 255:
            return (0.0, 255.0)
    elif low >= 0:
        if high > 65535:
            return (0.0, float(2 ** int(high).bit_length() - 1))
        bits = next((bits for bits in _BITS if high < 2**bits), 16)
        if bits == 16 and all(extent.is_signed for extent in extents):
            bits = 15
        return (0.0, 2.0**bits - 1) if bits < 16 else "full"
    what = f"pixels reach from {low:.6g} to {high:.6g}, and no usual range fits them"
    raise CatalogError(what, where, f"give the display range: {key}: [low, high]")


def to_levels(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return uint8 levels: `low` becomes 0, `high` 255; values beyond are clipped."""
    return np.clip(np.rint((values.astype(np.float64) - low) * 255 / (high - low)), 0, 255).astype(np.uint8)


# Read every bit of picture files and arrays of more than 8 bits.
#
# Pillow keeps 16-bit grey and 32-bit floats, but drops the low byte of 16-bit colour. The raw mode of
# a file says which byte of a value Pillow takes, so a second reading with the bytes swapped gives the
# low one.

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

    None for another shape, and for values that are not real numbers.
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


# Choose one asinh stretch for all FITS files of a survey.
#
# It follows the noise and flux of a sample.

# SDSS pictures have a stretch of 0.35 nmgy and a noise of 0.015 nmgy in the mean of three bands.
_STRETCH_PER_NOISE = 24.0
# The level of the brightest 0.5 % of the pixels at Q = 10 is then 200 of 255.
_BRIGHT_PERCENTILE, _BRIGHT_PER_STRETCH = 99.5, 50.0
_MAX_PIXELS = 40_000  # of a file; more do not change the medians


class Stretch(NamedTuple):
    """The linear width, and each band's black level, in the unit of the scaled bands."""

    stretch: float
    minimum: tuple[float, float, float]


def choose_stretch(sample: Sequence[Sequence[np.ndarray]], where: str) -> Stretch:
    """Return a stretch that shows noise as dark grey and galaxies without saturation.

    Parameters
    ----------
    sample : sequence of three arrays `[H, W]`
        The scaled bands of some files, red first. NaN is ignored.
    where : str
        Path of the survey, for the error message.

    Raises
    ------
    CatalogError
        If no file of the sample has structure, or pixels that are finite in every band.

    Notes
    -----
    The sky of a band is the median of its sigma-clipped pixels, and black is one standard deviation
    below it. The stretch follows the noise of the bands' mean, or its brightest pixels where there
    is little noise. Files in another unit, or with another sky, give the same pictures.
    """
    files = [_subsample(np.stack(list(bands)).astype(np.float64)) for bands in sample]
    files = [file for file in files if file.size]
    if not files:
        what = "in the sampled files, no pixel is finite in all three bands"
        raise CatalogError(what, where, "check survey.images.channels")
    clipped = np.array([[clipped_sky(band) for band in file] for file in files])
    sky, deviation = np.median(clipped, axis=0).T
    light = [(file - sky[:, None]).mean(axis=0) for file in files]
    noise = float(np.median([clipped_sky(pixels)[1] for pixels in light]))
    bright = float(np.percentile(np.concatenate(light), _BRIGHT_PERCENTILE))
    stretch = max(_STRETCH_PER_NOISE * noise, bright / _BRIGHT_PER_STRETCH)
    if not stretch > 0:
        raise CatalogError("the sampled files have no structure", where, "check survey.images.channels")
    digits = 3 - int(np.floor(np.log10(stretch)))  # rounded: the last bits depend on the processor
    red, green, blue = (round(float(level), digits) for level in sky - deviation)
    return Stretch(round(stretch, digits - 1), (red, green, blue))


def _subsample(bands: np.ndarray) -> np.ndarray:
    """Return the pixels `[3, N]` that are finite in every band, at most `_MAX_PIXELS`."""
    pixels = bands.reshape(3, -1)
    pixels = pixels[:, np.isfinite(pixels).all(axis=0)]
    return pixels[:, :: max(1, pixels.shape[1] // _MAX_PIXELS)]


def clipped_sky(pixels: np.ndarray) -> tuple[float, float]:
    """Return median and standard deviation of the sky, without pixels beyond 3 sigma."""
    from astropy.stats import sigma_clipped_stats  # a slow import, which most processes do not need

    _, median, deviation = sigma_clipped_stats(pixels, sigma=3)
    return float(median), float(deviation)
