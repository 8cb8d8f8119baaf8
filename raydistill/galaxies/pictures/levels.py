"""Map pixels of more than 8 bits, and floats, to the 256 levels of a picture.

A file does not say which part of its container the pixels fill: 8-bit pixels may be stored as
uint16, and floats may end at 1 or at 255. One range serves the whole survey, so that pictures keep
their relative brightness. `choose_range` finds it in a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from raydistill.errors import CatalogError, ConfigError

ValueRange = Literal["auto", "full"] | tuple[float, float]

# Files that do not fill 16 bits usually have 8, 10, 12 or 14: the bits of cameras and converters.
_BITS = (8, 10, 12, 14)
_DARKEST_FLOAT = 0.2  # a survey of floats in [0, 1] has a brighter pixel


def check_range(value_range: ValueRange, key: str) -> None:
    """Raise ConfigError unless low is below high."""
    if isinstance(value_range, tuple) and not value_range[0] < value_range[1]:
        raise ConfigError(f"the range is {list(value_range)}", key, "give [low, high], the values of black and white")


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
    low, high = min(one.lowest for one in extents), max(one.highest for one in extents)
    if any(one.is_float for one in extents):
        if low >= 0 and _DARKEST_FLOAT <= high <= 1:
            return (0.0, 1.0)
        if low >= 0 and 255 * _DARKEST_FLOAT <= high <= 255:
            return (0.0, 255.0)
    elif low >= 0:
        if high > 65535:
            return (0.0, float(2 ** int(high).bit_length() - 1))
        bits = next((bits for bits in _BITS if high < 2**bits), 16)
        if bits == 16 and all(one.is_signed for one in extents):
            bits = 15
        return (0.0, 2.0**bits - 1) if bits < 16 else "full"
    what = f"pixels reach from {low:.6g} to {high:.6g}, and no usual range fits them"
    raise CatalogError(what, where, f"give the values of black and white: {key}: [low, high]")


def to_levels(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return uint8 levels: `low` becomes 0, `high` 255; values beyond are clipped."""
    return np.clip(np.rint((values.astype(np.float64) - low) * 255 / (high - low)), 0, 255).astype(np.uint8)
