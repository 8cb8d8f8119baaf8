"""Read the positions and sizes of galaxies, whatever the unit of their columns.

The unit is that of the table's format (FITS, VOTable, ECSV, CDS, VizieR), or stands behind the name
of a column: `ra [h]`. Without a unit, positions are in degrees, and sizes in arcseconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from raydistill.galaxies.angles import HOUR
from raydistill.galaxies.numbers import Kind, NotANumber, to_numbers
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
_PARTS = {"ra": ("rah", "ram", "ras"), "dec": ("ded", "dem", "des")}  # of the CDS
_HOURS = re.compile(r"[\"'\[\s]*(h|hrs?|hours?|hourangle|h+:m+:s+|hms)[\"'\]\s]*", re.IGNORECASE)
_DEGREES = re.compile(r"[\"'\[\s]*(d|°|deg\w*\.?|decimal degrees?|d+:m+:s+|dms)[\"'\]\s]*", re.IGNORECASE)
_SEXAGESIMAL = re.compile(r"[\"'\[\s]*([hd]+:m+:s+|[hd]ms)[\"'\]\s]*", re.IGNORECASE)
_UNIT_IN_NAME = re.compile(r".*[\[(]([^\[\]()]+)[\])]\s*")
_NAME_OF_HOURS = re.compile(r"(.*[\W_])?(h|hrs?|hours?)|rah|.*hours", re.IGNORECASE)


def read_measurement(column: pa.Array, role: str, name: str, unit: str) -> np.ndarray:
    """Return a column as float64: degrees, arcseconds, or numbers without a unit; NaN if unknown.

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
    A column with another text than numbers, or with a unit that is no angle, is all NaN. Positions out
    of range are NaN. A warning says so once.
    """
    if _SEXAGESIMAL.fullmatch(unit) and (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        unit = ""  # decimal numbers below h:m:s
    scale = _scale(unit, role, name) if role in _TARGETS else None
    if scale is not None and np.isnan(scale):
        return np.full(len(column), np.nan)
    try:
        values = to_numbers(column, KINDS[role], scale)
    except NotANumber as error:
        log.warning(
            "curate: column '%s' holds '%s' in row %d, which is not a number; no galaxy has a %s. "
            "survey.columns.%s=null leaves it out",
            name, error.value, error.row, role, role,
        )  # fmt: skip
        return np.full(len(column), np.nan)
    absent = (values <= 0) if role == "petro_r90" else (values == -9999 * (scale or 1))  # of SDSS: not measured
    values = np.where(absent | np.isinf(values), np.nan, values)
    known = values[np.isfinite(values)]
    if role == "ra" and scale is None and _NAME_OF_HOURS.fullmatch(name) and len(known) and known.max() <= 24:
        what = "curate: column '%s' has no unit and is read in degrees; call it '%s [h]' if it is in hours"
        log.warning(what, name, name)
    return _within_range(values, role, name)


def part_columns(role: str, name: str, present: Sequence[str]) -> list[str]:
    """Return the columns of an angle in parts, RAh, RAm and RAs or DE-, DEd, DEm and DEs, else nothing."""
    if role not in _PARTS or name.lower() != _PARTS[role][0]:
        return []
    first, *others = _PARTS[role]
    by_lower = {one.lower(): one for one in reversed(present)}
    if others[0] not in by_lower:
        return []
    return [by_lower[part] for part in ("de-", first, *others) if part in by_lower and (part != "de-" or role == "dec")]


def read_parts(columns: Mapping[str, pa.Array], role: str) -> np.ndarray:
    """Return an angle in degrees from columns of its parts; missing minutes and seconds are 0."""
    log.info("curate: %s is in the columns %s", role, ", ".join(columns))
    parts = {name.lower()[-1]: column for name, column in columns.items()}
    sign = parts.pop("-", None)
    numbers = {part: read_measurement(column, "redshift", part, "") for part, column in parts.items()}
    whole = numbers["h" if role == "ra" else "d"]
    is_negative = np.signbit(whole)
    if sign is not None:
        is_negative |= np.array([str(mark).strip() in ("-", "−", "–") for mark in sign.to_pylist()], bool)
    degrees = np.abs(whole) + np.nan_to_num(numbers["m"]) / 60 + np.nan_to_num(numbers.get("s", np.zeros(1))) / 3600
    degrees = np.where(is_negative, -degrees, degrees) * (HOUR if role == "ra" else 1)
    return _within_range(degrees, role, ", ".join(columns))


def _scale(unit: str, role: str, name: str) -> float | None:
    """Return degrees or arcseconds in the unit of a column; None if it has none, NaN if it is no angle."""
    if not unit.strip("- "):
        inside = _UNIT_IN_NAME.fullmatch(name)
        scale = _convert(inside[1], role) if inside else None
        return None if scale is None or np.isnan(scale) else scale
    scale = _convert(unit, role)
    if scale is None:
        log.warning("curate: column '%s' has the unknown unit '%s'; it is read in %s", name, unit, _TARGETS[role])
    elif np.isnan(scale):
        what = "curate: column '%s' has the unit '%s', which is no angle; no galaxy has a %s"
        log.warning(what, name, unit, role)
    elif scale != 1:
        log.info("curate: column '%s' has the unit %s, and is converted to %s", name, unit, _TARGETS[role])
    return scale


def _convert(unit: str, role: str) -> float | None:
    """Return the target units in a unit; None if astropy does not know it, NaN if it is no angle."""
    from astropy import units

    if role in _RANGES and (_HOURS.fullmatch(unit) or _DEGREES.fullmatch(unit)):
        return HOUR if _HOURS.fullmatch(unit) else 1.0
    for word in (unit, unit.lower(), unit.lower().removesuffix("s")):
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
