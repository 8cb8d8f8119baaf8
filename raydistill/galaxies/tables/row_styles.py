"""Split the lines of a text table into fields.

The fields have delimiters, quotes, escapes or fixed widths.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

SPACES = " "  # stands for any number of spaces and tabs
DELIMITERS = (",", "\t", ";", "|", SPACES)
MARKS = ("#", "%", "//", "!")  # of comment lines above a header

_SINGLE_QUOTES = re.compile(r"(?:^|[,;\t|])[ ]*'[^']*'[ ]*(?:[,;\t|]|$)")
_RULE = re.compile(r"[\s|+:=-]*(?:--|==)[\s|+:=-]*")
_PROBES = 50  # lines that show which quotes a table has


@dataclass(frozen=True)
class RowStyle:
    """How rows are split into fields.

    Attributes
    ----------
    delimiter
        One character; `SPACES` stands for any number of spaces and tabs.
    quote
        The character around fields.
    escape
        The character before a quote that belongs to a field, if quotes are not doubled.
    blanks
        Whether blanks stand between a delimiter and a quote.
    columns
        First characters of the columns of a table with fixed widths.
    """

    delimiter: str
    quote: str = '"'
    escape: str | None = None
    blanks: bool = False
    columns: tuple[int, ...] = ()

    @property
    def is_csv(self) -> bool:
        """Return whether Arrow can split the rows."""
        return self.delimiter != SPACES and not self.blanks


def list_styles(text: str, default: str) -> list[RowStyle]:
    """Return the styles to try, the likely ones first."""
    quote = "'" if _has_single_quotes(text) else '"'
    plain = [RowStyle(delimiter, quote) for delimiter in dict.fromkeys((default, *DELIMITERS))]
    escaped = [replace(style, escape="\\") for style in plain if style.delimiter != SPACES]
    return [*plain, *(escaped if f"\\{quote}" in text else [])]


def _has_single_quotes(text: str) -> bool:
    """Return whether every row has a field in single quotes, as in some databases."""
    lines = text.splitlines()[:_PROBES]
    rows = [line for line in lines if line.strip(",;|\t +:=-") and not line.startswith(MARKS)]
    return len(rows) > 1 and all(_SINGLE_QUOTES.search(row) for row in rows[1:-1] or rows[1:])


def split_rows(lines: Iterable[str], style: RowStyle) -> Iterator[tuple[int, list[str]]]:
    """Yield each row's last line, from 1, and its fields."""
    if style.columns:
        for number, line in enumerate(lines, 1):
            yield number, _split_at(line, style.columns)
        return
    if style.delimiter == SPACES:
        lines = (line.replace("\t", " ").strip() for line in lines)
    reader = csv.reader(
        lines, delimiter=style.delimiter, quotechar=style.quote, escapechar=style.escape,
        skipinitialspace=style.blanks or style.delimiter == SPACES,
    )  # fmt: skip
    for row in reader:
        yield reader.line_num, row


def is_rule(text: str) -> bool:
    """Return whether a line, or a row without its delimiters, is a drawn rule.

    Such are |---|---|, +====+ and -----.
    """
    return bool(_RULE.fullmatch(text.strip()))


# ---- fixed widths ----


def find_columns(lines: Sequence[str]) -> tuple[int, ...]:
    """Return the first characters of columns that blanks separate in every line.

    A column without a name in the first line belongs to the one before it.
    """
    width = max(map(len, lines), default=0)
    is_used = [False] * (width + 1)
    for line in lines:
        for position, character in enumerate(line.rstrip("\r\n")):
            is_used[position] |= character != " "
    starts = [i for i in range(width) if is_used[i] and (i == 0 or not is_used[i - 1])]
    ends = [is_used.index(False, start) for start in starts]
    named = [lines[0][start:end].strip() != "" for start, end in zip(starts, ends, strict=True)]
    return tuple(start for start, has_name in zip(starts, named, strict=True) if has_name)


def _split_at(line: str, starts: Sequence[int]) -> list[str]:
    """Return the fields of a line. ValueError if a field reaches into the next column."""
    line = line.rstrip("\r\n")
    crossed = next((start for start in starts[1:] if line[start - 1 : start].strip()), None)
    if crossed is not None:
        raise ValueError(f"a field reaches beyond its column: {line[:80]}")
    return [line[start:end].strip() for start, end in pairwise((*starts, None))]


# Recognise a row of units or types below a header.
#
# TOPCAT, CasJobs and rdb write such rows.

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
