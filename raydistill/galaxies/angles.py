"""Read sexagesimal angles: 12:34:56.7, 12h34m56.7s, -10°22'25", 12ʰ34ᵐ, 188.7 deg.

The usual spellings are read by one regular expression for the whole column, and others by astropy's
`Angle`, which takes 36 µs for each.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydistill.log import get_logger

log = get_logger(__name__)

HOUR = 15.0  # degrees

# Hours or degrees, minutes and seconds: 12:34:56.7, 12 34 56.7, 12h34m56.7s, -10d22m25.7s.
_PATTERN = (
    r"(?i)^(?P<sign>[+-]?)\s*(?P<whole>\d{1,3})\s*(?P<unit>[:hd°\s])\s*(?P<minutes>\d{1,2}(?:\.\d*)?)"
    r"(?:\s*[:m'′\s]\s*(?P<seconds>\d{1,2}(?:\.\d*)?)?)?\s*(?P<mark>s|\"|″|'')?$"
)
_GROUPS = ("sign", "whole", "unit", "minutes", "seconds", "mark")
_LATE_FRACTION = r"^([+-]?\s*\d+[^\d,.+-][^,.]*?)([sˢ\"″]|)\s*[,.](\d+)$"  # 12:34:56,7 and 12h34m56s.7


def to_degrees(
    texts: Sequence[str], numbers: Sequence[float | None], is_ra: bool, scale: float | None
) -> list[float | None]:
    """Return angles in degrees, None for texts that are no angles.

    Parameters
    ----------
    texts : sequence of str
        Angles, some of them sexagesimal.
    numbers : sequence of float or None
        The texts that are decimal numbers.
    is_ra : bool
        Whether they are right ascensions.
    scale : float, optional
        Degrees in the column's unit; None if it has none. Right ascensions without any unit are in
        hours, unless a value has 24 or more.

    Notes
    -----
    After the first text that is no angle, the spellings that need astropy are not read.
    """
    texts = pc.replace_substring_regex(pa.array(texts, pa.string()), _LATE_FRACTION, r"\1.\3\2").to_pylist()
    fields = pc.extract_regex(pa.array(texts, pa.string()), _PATTERN)
    sign, whole, unit, minutes, seconds, mark = (_column(fields, name) for name in _GROUPS)
    is_south = pc.and_(pc.equal(mark, "S"), pc.invert(pc.is_in(unit, pa.array(["H", "D"]))))
    matched = pc.and_(fields.is_valid(), pc.invert(is_south)).to_numpy(zero_copy_only=False)
    degrees = pc.cast(whole, pa.float64()).to_numpy(zero_copy_only=False)
    minutes, seconds = (pc.cast(one, pa.float64()).to_numpy(zero_copy_only=False) for one in (minutes, seconds))
    bare = matched & pc.is_in(unit, pa.array([":", " ", "\t"])).to_numpy(zero_copy_only=False)
    in_hours = is_ra and (scale == HOUR if scale is not None else bool((degrees[bare] < 24).all()))
    if is_ra and scale is None and bare.any():
        name = "hours" if in_hours else "degrees"
        log.info("curate: right ascensions such as '%s' are read in %s", texts[int(np.argmax(bare))], name)
    hours = pc.equal(pc.utf8_lower(unit), "h").to_numpy(zero_copy_only=False) | (bare & in_hours)
    values = degrees + minutes / 60 + seconds / 3600
    wrong = (
        (minutes >= 60) | (seconds > 60) | (values > np.where(hours, 24, 360 if is_ra else 90)) | (hours & (not is_ra))
    )
    values = np.where(pc.equal(sign, "-").to_numpy(zero_copy_only=False), -1, 1) * values * np.where(hours, HOUR, 1)
    result: list[float | None] = [
        None if bad else value for value, bad in zip(values.tolist(), wrong.tolist(), strict=True)
    ]
    for row in np.flatnonzero(~matched).tolist():
        number = numbers[row]
        result[row] = _by_astropy(texts[row], is_ra, in_hours) if number is None else number * (scale or 1)
        if result[row] is None:
            result[row + 1 :] = [None] * (len(result) - row - 1)
            break
    return result


def _column(fields: pa.StructArray, name: str) -> pa.Array:
    """Return a group of the pattern; "0" for an empty or missing number.

    An empty or missing sign, unit or mark stays "".
    """
    text = pc.fill_null(pc.struct_field(fields, name), "")
    return text if name in ("sign", "unit", "mark") else pc.if_else(pc.equal(text, ""), "0", text)


def _by_astropy(text: str, is_ra: bool, in_hours: bool) -> float | None:
    """Return an angle in degrees, or None if it is none or out of range."""
    from astropy import units
    from astropy.coordinates import Angle

    if not is_ra and "h" in text.lower():
        return None
    text = " ".join(text.replace("–", "-").split())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about 60 seconds
        try:
            degrees = float(Angle(text, unit=units.hourangle if in_hours else units.deg).degree)
        except (ValueError, TypeError, units.UnitsError):
            return None
    is_west = is_ra and degrees < 0 and "-" not in text
    return degrees if abs(degrees) <= (360 if is_ra else 90) and not is_west else None
