"""Recognise a row of units or types below a header.

TOPCAT, CasJobs and rdb write such rows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_NUMBER = re.compile(r"[+-]?[\d.,:]*\d[\d.,:]*(?:[eEdD][+-]?\d+)?")
_BRACKETS = re.compile(r"\[.*\]|\(.*\)")
_TYPE = re.compile(
    r"(?:u?int|long|short|byte|float|double|real|char|str|string|text|bool|boolean|object|varchar|bigint|date)[\d()*]*"
    r"|\d*[NSM]",  # of rdb
    re.IGNORECASE,
)
_ANGLES = ("h:m:s", "d:m:s", "hms", "dms", "degrees", "hours")


def is_row_of_units(row: Sequence[str], data: Sequence[Sequence[str]]) -> bool:
    """Return whether the first row below a header names units or types.

    Every field is one or is empty, and at least one is above a column of numbers.
    """
    words = [field.strip() for field in row]
    above_numbers = [word for i, word in enumerate(words) if word.strip("-") and _is_numeric(data, i)]
    return bool(above_numbers) and all(_is_unit(word) for word in words if word.strip("-"))


def units_in(row: Sequence[str]) -> tuple[str, ...]:
    """Return the units in a row of units or types; "" for a column without one."""
    words = [field.strip() for field in row]
    return tuple("" if _TYPE.fullmatch(word) or not word.strip("-") else word for word in words)


def _is_numeric(data: Sequence[Sequence[str]], column: int) -> bool:
    values = [row[column].strip() for row in data if len(row) > column]
    values = [value for value in values if value]
    return bool(values) and all(_NUMBER.fullmatch(value) for value in values)


def _is_unit(word: str) -> bool:
    if _NUMBER.fullmatch(word):
        return False
    if _BRACKETS.fullmatch(word) or _TYPE.fullmatch(word) or word.lower() in _ANGLES:
        return True
    from astropy.units import Unit

    try:
        Unit(word)
    except (ValueError, TypeError):
        return False
    return True
