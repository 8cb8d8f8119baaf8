"""Read the positions and sizes of galaxies, whatever the unit of their columns.

The unit is that of the table's format (FITS, VOTable, ECSV, CDS, VizieR), or stands behind the name
of a column: `ra [h]`. Without a unit, positions are in degrees, and sizes in arcseconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from raydistill.galaxies.numbers import HOUR, Kind, NotANumber, to_numbers
from raydistill.log import get_logger

log = get_logger(__name__)

KINDS: Mapping[str, Kind] = {
    "ra": "right ascension",
    "dec": "declination",
    "petro_r90": "number",
    "redshift": "number",
    "total_votes": "number",
}
_TARGETS = {"ra": "deg", "dec": "deg", "petro_r90": "arcsec"}
_RANGES = {"ra": (-180.0, 360.0), "dec": (-90.0, 90.0)}
_PART = re.compile(
    r"(?P<axis>ra|de|dec|decl)(?:j2000)?"
    r"(?P<unit>h|hrs?|hours?|d|deg|degrees?|m|min|minutes?|s|secs?|seconds?)",
    re.IGNORECASE,
)
_SIGN = re.compile(r"(de|dec|decl)[_ ]?(-|sign|sgn)", re.IGNORECASE)
_MARKS = r"[\"'\[\s]*({})[\"'\]\s]*"  # around a unit
_HOURS = re.compile(_MARKS.format(r"h|hrs?|hours?|hour\s?angles?|h+[:\s.]*m+[:\s.]*s+"), re.IGNORECASE)
_DEGREES = re.compile(_MARKS.format(r"d|°|\\?deg\w*\.?|decimal degrees?|d+[:\s.]*m+[:\s.]*s+"), re.IGNORECASE)
_SEXAGESIMAL = re.compile(_MARKS.format(r"[hd]+[:\s.]*m+[:\s.]*s+"), re.IGNORECASE)
_EPOCH = re.compile(r"[\s(,]+([JB]\d{4}(\.\d*)?|ICRS|FK\d)\)?\s*$", re.IGNORECASE)
_NO_UNIT = ("", "none", "unitless", "dimensionless", "n/a", "1")
_UNIT_IN_NAME = re.compile(r".*[\[(]([^\[\]()]+)[\])]\s*")
_NAME_OF_HOURS = re.compile(r"(.*[\W_])?(h|hrs?|hours?)|rah|.*hours", re.IGNORECASE)


def read_measurement(column: pa.Array, role: str, name: str, unit: str) -> np.ndarray:
    """Return a column as float64: degrees, arcseconds or unitless; NaN if unknown.

    Parameters
    ----------
    column : pyarrow.Array
        Numbers or text.
    role : str
        One of `KINDS`.
    name, unit : str
        Of the column; "" if the table gives no unit.

    Notes
    -----
    A column with another text than numbers, or with a unit that is not an angle, is all NaN.
    Positions out of range are NaN. A warning says so once.
    """
    if _SEXAGESIMAL.fullmatch(unit) and (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        unit = ""  # decimal numbers below h:m:s
    scale = _scale(unit, role, name) if role in _TARGETS else None
    if scale is not None and np.isnan(scale):
        return np.full(len(column), np.nan)
    values = _numbers(column, KINDS[role], name, role, scale)
    if values is None:
        return np.full(len(column), np.nan)
    absent = (values <= 0) if role == "petro_r90" else (values == -9999 * (scale or 1))  # of SDSS: not measured
    values = np.where(absent | np.isinf(values), np.nan, values)
    known = values[np.isfinite(values)]
    if role == "ra" and scale is None and _NAME_OF_HOURS.fullmatch(name) and len(known) and known.max() <= 24:
        what = "curate: column '%s' has no unit and is read in degrees; call it '%s [h]' if it is in hours"
        log.warning(what, name, name)
    return _within_range(values, role, name)


def part_columns(role: str, name: str, present: Sequence[str]) -> dict[str, str]:
    """Return the columns of an angle in parts: sign, whole, m and s; {} if it is none.

    Such are the CDS's RAh, RAm and RAs, and DE-, DEd, DEm and DEs.
    """
    if role not in _RANGES or _part_of(name, role) != "whole":
        return {}
    columns = {part: column for column in reversed(present) if (part := _part_of(column, role))} | {"whole": name}
    return {part: columns[part] for part in ("sign", "whole", "m", "s") if part in columns} if "m" in columns else {}


def _part_of(name: str, role: str) -> str | None:
    """Return a column's part of a position: sign, whole (hours or degrees), m or s.

    None if the column is no such part.
    """
    if role == "dec" and _SIGN.fullmatch(name):
        return "sign"
    match = _PART.fullmatch(re.sub(r"[\W_]", "", name))
    if match is None or (match["axis"].lower() == "ra") != (role == "ra"):
        return None
    unit = match["unit"][0].lower()
    return unit if unit in "ms" else "whole" if unit == ("h" if role == "ra" else "d") else None


def read_parts(columns: Mapping[str, pa.Array], names: Mapping[str, str], role: str, unit: str) -> np.ndarray:
    """Return an angle in degrees from its parts; missing minutes and seconds are 0.

    With fractions of hours or degrees, this column alone is the angle, in `unit`.
    """
    numbers = {part: _numbers(columns[part], "number", names[part], role, None) for part in names if part != "sign"}
    if any(values is None for values in numbers.values()):
        return np.full(len(columns["whole"]), np.nan)
    whole_numbers = numbers["whole"]
    if whole_numbers is not None and (whole_numbers[np.isfinite(whole_numbers)] % 1).any():
        return read_measurement(columns["whole"], role, names["whole"], unit)
    log.info("curate: %s is in the columns %s", role, ", ".join(names.values()))
    whole, *smaller = (np.asarray(values) for values in numbers.values())
    is_negative = np.signbit(whole)
    if "sign" in columns:
        is_negative |= np.array([str(mark).strip() in ("-", "−", "–") for mark in columns["sign"].to_pylist()], bool)
    smaller = [np.where(np.isnan(part), 0, part) for part in smaller]
    degrees = np.abs(whole) + sum(part / 60**power for power, part in enumerate(smaller, start=1))
    degrees = np.where(is_negative, -degrees, degrees) * (HOUR if role == "ra" else 1)
    wrong = np.logical_or.reduce([(part < 0) | (part > 60) for part in smaller])
    return _within_range(np.where(wrong, np.inf, degrees), role, ", ".join(names.values()))


def _numbers(column: pa.Array, kind: Kind, name: str, role: str, scale: float | None) -> np.ndarray | None:
    """Return the numbers of a column; None, with a warning, if it holds other things."""
    try:
        return to_numbers(column, kind, scale)
    except NotANumber as error:
        log.warning(
            "curate: column '%s' holds '%s' in row %d, which is not a number; no galaxy has a %s. "
            "survey.columns.%s=null leaves it out",
            name, error.value, error.row, role, role,
        )  # fmt: skip
        return None


def _scale(unit: str, role: str, name: str) -> float | None:
    """Return degrees or arcseconds in the unit of a column.

    None if the column has no known unit, NaN if the unit is not an angle.
    """
    unit = _EPOCH.sub("", unit)
    if unit.strip("- ").lower() in _NO_UNIT:
        inside = _UNIT_IN_NAME.fullmatch(name)
        scale = _convert(inside[1], role) if inside else None
        return None if scale is None or np.isnan(scale) else scale
    scale = _convert(unit, role)
    if scale is None:
        log.warning("curate: column '%s' has the unknown unit '%s'; it is read in %s", name, unit, _TARGETS[role])
    elif np.isnan(scale):
        what = "curate: column '%s' has the unit '%s', which is not an angle; no galaxy has a %s"
        log.warning(what, name, unit, role)
    elif scale != 1:
        log.info("curate: column '%s' has the unit %s, and is converted to %s", name, unit, _TARGETS[role])
    return scale


def _convert(unit: str, role: str) -> float | None:
    """Return the number of target units in a unit.

    None if astropy does not know the unit, NaN if it is not an angle.
    """
    from astropy import units

    if role in _RANGES and (_HOURS.fullmatch(unit) or _DEGREES.fullmatch(unit)):
        return HOUR if _HOURS.fullmatch(unit) else 1.0
    for word in (unit, unit.lower(), unit.lower().replace(" ", "").removesuffix("s")):
        known = units.Unit(word, parse_strict="silent")
        if not isinstance(known, units.UnrecognizedUnit):
            target = units.Unit(_TARGETS[role])
            return float(known.to(target)) if known.is_equivalent(target) else np.nan
    return None


def _within_range(values: np.ndarray, role: str, name: str) -> np.ndarray:
    """Return positions with NaN for those out of range, of which a warning tells."""
    low, high = _RANGES.get(role, (-np.inf, np.inf))
    outside = (values < low) | (values > high)
    if role in _RANGES and outside.any():
        row = int(np.argmax(outside))
        what = "curate: %s is outside [%g, %g] in %d rows of column '%s' (row %d: %g); these galaxies have none"
        log.warning(what, role, low, high, int(outside.sum()), name, row + 1, values[row])
        return np.where(outside, np.nan, values)
    return values
