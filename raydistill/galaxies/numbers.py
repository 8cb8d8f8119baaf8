"""Read numbers from text as people write them: 12:34:56.7, 87 %, 0,10, --."""

from __future__ import annotations

import re
from typing import Literal, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydistill.galaxies.angles import to_degrees

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
        _refuse(column, np.arange(len(column)) == 0)
    encoded = column.dictionary_encode()
    words = [(word or "").strip().replace("−", "-") for word in encoded.dictionary.to_pylist()]
    parsed, wrong = _parse(words, kind, scale)
    indices = encoded.indices.fill_null(len(words)).to_numpy(zero_copy_only=False)
    if wrong.any():
        _refuse(column, np.append(wrong, False)[indices])
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


def _refuse(column: pa.Array, rows: np.ndarray) -> NoReturn:
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
            None if _DEGREES_AND_MINUTES.fullmatch(text) else one for text, one in zip(texts, numbers, strict=True)
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
