"""Read numbers from text as people write them: 12:34:56.7, 87 %, 0,10, --."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import Literal, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydistill.log import get_logger

Kind = Literal["number", "fraction", "right ascension", "declination"]

MISSING = {
    "", "-", "--", "---", "...", "…", "?", "n/a", "na", "#n/a", "none", "null", "nan", "unknown", "*", "\\n", "."
}  # fmt: skip
_DECIMAL = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][+-]?\d+)?"
_NUMBER = re.compile(_DECIMAL)
_DEGREES_AND_MINUTES = re.compile(r"[+-]?\d{1,3}[dD]\d{1,2}")  # no exponent of Fortran
_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eEdD][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+\.\d+")
_EUROPEAN = re.compile(r"[+-]?\d{1,3}(?:\.\d{3})+,\d+")


class NotANumber(ValueError):
    """Report the first value of a column that is not a number.

    Parameters
    ----------
    value
        The value.
    row
        Its row, from 1.
    """

    def __init__(self, value: object, row: int) -> None:
        super().__init__(value, row)
        self.value, self.row = value, row


def to_numbers(column: pa.Array, kind: Kind = "number", scale: float | None = None) -> np.ndarray:
    """Return a column as float64, NaN for missing values.

    Parameters
    ----------
    column : pyarrow.Array
        Numbers, or text.
    kind : {"number", "fraction", "right ascension", "declination"}
        A fraction may be a percentage. Right ascension and declination may be sexagesimal, and are
        returned in degrees. Right ascension without a unit is in hours, unless a value has 24 or
        more.
    scale : float, optional
        Factor on the numbers; None: 1. For a right ascension, 15 says that the column is in hours,
        and 1 that it is in degrees. It does not apply to sexagesimal angles, which are in degrees
        afterwards.

    Raises
    ------
    NotANumber
        For the first value that is neither a number nor a sign of a missing one. A decimal comma is
        read if the column leaves no doubt: "1,234" alone may also be 1234.
    """
    column = _plain(column)
    try:
        values: np.ndarray = pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)
        return values if scale in (None, 1) else values * scale
    except pa.ArrowException:
        pass
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        _reject(column, np.arange(len(column)) == 0)
    encoded = column.dictionary_encode()
    words = [(word or "").strip().replace("−", "-") for word in encoded.dictionary.to_pylist()]
    parsed, wrong = _parse(words, kind, scale)
    indices = encoded.indices.fill_null(len(words)).to_numpy(zero_copy_only=False)
    if wrong.any():
        _reject(column, np.append(wrong, False)[indices])
    return np.append(parsed, np.nan)[indices]


def _plain(column: pa.Array) -> pa.Array:
    """Return text for other text types and times of day, and a dictionary's values."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if (
        pa.types.is_time(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    ):
        try:
            return pc.cast(column, pa.string())
        except pa.ArrowInvalid:  # bytes that are not UTF-8
            return column
    return column


def _reject(column: pa.Array, rows: np.ndarray) -> NoReturn:
    row = int(np.argmax(rows))
    raise NotANumber(column[row].as_py(), row + 1)


def _parse(words: list[str], kind: Kind, scale: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of words, and a mask of those that are none."""
    values = np.full(len(words), np.nan)
    present = [i for i, word in enumerate(words) if word.lower() not in MISSING]
    texts = [words[i] for i in present]
    numbers = _percentages(texts) if kind == "fraction" and texts and texts[0].endswith("%") else _decimals(texts)
    if kind in ("right ascension", "declination"):
        numbers = [
            None if _DEGREES_AND_MINUTES.fullmatch(text) else value for text, value in zip(texts, numbers, strict=True)
        ]
    if kind in ("right ascension", "declination") and any(number is None for number in numbers):
        numbers = to_degrees(texts, numbers, kind == "right ascension", scale)
    elif scale is not None:
        numbers = [None if number is None else number * scale for number in numbers]
    wrong = np.zeros(len(words), bool)
    for i, number in zip(present, numbers, strict=True):
        wrong[i] = number is None
        values[i] = np.nan if number is None else number
    return values, wrong


def _percentages(texts: list[str]) -> list[float | None]:
    """Return fractions of percentages; each value needs its sign."""
    numbers = _decimals([text.removesuffix("%").strip() if text.endswith("%") else "no %" for text in texts])
    return [None if number is None else number / 100 for number in numbers]


def _decimals(texts: list[str]) -> list[float | None]:
    """Return numbers with a decimal point or comma, None for other texts."""
    if any("," in text for text in texts):
        texts = _with_points(texts)
    return [_to_float(text) for text in texts]


def _with_points(texts: list[str]) -> list[str]:
    """Return texts with points for decimal commas, if the column leaves no doubt."""
    if all(_THOUSANDS.fullmatch(text) or "," not in text for text in texts):
        return [text.replace(",", "") for text in texts]
    if all(_EUROPEAN.fullmatch(text) or _COMMA.fullmatch(text) or "." not in text for text in texts):
        commas = [text for text in texts if _COMMA.fullmatch(text)]
        sure = any(
            len(re.split("[eEdD]", text)[0].partition(",")[2]) != 3 or re.match(r"[+-]?0*,", text) for text in commas
        )
        if sure or len(commas) < sum("," in text for text in texts):
            return [text.replace(".", "").replace(",", ".") for text in texts]
    return texts


def _to_float(text: str) -> float | None:
    return float(re.sub("[dD]", "e", text)) if _NUMBER.fullmatch(text) else None


# Read sexagesimal angles: 12:34:56.7, 12h34m56.7s, -10°22'25", 12ʰ34ᵐ, 188.7 deg.
#
# The usual spellings are read by one regular expression for the whole column, and others by astropy's
# `Angle`, which takes 36 µs for each.

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
    """Return angles in degrees, None for texts that are not angles.

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
    After the first text that is not an angle, the spellings that need astropy are not read.
    """
    texts = pc.replace_substring_regex(pa.array(texts, pa.string()), _LATE_FRACTION, r"\1.\3\2").to_pylist()
    fields = pc.extract_regex(pa.array(texts, pa.string()), _PATTERN)
    sign, whole, unit, minutes, seconds, mark = (_column(fields, name) for name in _GROUPS)
    is_south = pc.and_(pc.equal(mark, "S"), pc.invert(pc.is_in(unit, pa.array(["H", "D"]))))
    matched = pc.and_(fields.is_valid(), pc.invert(is_south)).to_numpy(zero_copy_only=False)
    degrees = pc.cast(whole, pa.float64()).to_numpy(zero_copy_only=False)
    minutes, seconds = (pc.cast(part, pa.float64()).to_numpy(zero_copy_only=False) for part in (minutes, seconds))
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
