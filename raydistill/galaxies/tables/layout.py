"""Find how a text table is written: encoding, delimiter, and what stands above its header.

Above a header, tables of real archives have comment lines, blank lines, titles and SkyServer's
`#Table1`. VizieR puts units and dashes below it. Some headers are themselves a comment.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

SPACES = " "  # stands for any number of spaces and tabs
DELIMITERS = (",", "\t", ";", "|", SPACES)
MARKS = ("#", "%", "//", "!")  # of comment lines above a header
ROWS, LINES = 200, 1000  # rows and lines that are read to find the layout
TITLES = 30  # a header is among this many first rows

_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
         (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|$)")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Layout:
    """How a text table is written.

    Attributes
    ----------
    delimiter
        One character; `SPACES` stands for any number of spaces and tabs.
    names
        Names of the columns. A name is "" if each row ends with one more delimiter than the header.
    start
        Characters before the first row of data.
    header
        Line of the header, from 1.
    consistent
        Whether all rows that were read have as many fields as the header.
    known
        Whether the header has a name that the caller expects.
    """

    delimiter: str
    names: tuple[str, ...]
    start: int
    header: int
    consistent: bool
    known: bool


def find_encoding(head: bytes) -> str:
    """Return the encoding of a text: by its byte-order mark, its zeros, or as UTF-8 or cp1252."""
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return encoding
    if b"\0" in head:
        odd, even = head[1:400:2].count(0), head[0:400:2].count(0)
        return "utf-16-le" if odd > even else "utf-16-be"
    for encoding in ("utf-8", "cp1252"):
        try:
            codecs.getincrementaldecoder(encoding)().decode(head)
        except UnicodeDecodeError:
            continue
        return encoding
    return "latin-1"


def find_layout(text: str, default: str, known: Collection[str]) -> Layout:
    """Return the layout of a text table.

    Parameters
    ----------
    text : str
        The table's first characters.
    default : str
        Delimiter to use if several fit.
    known : collection of str
        Names that a header may have, in lower case.
    """
    declared = re.match(r'"?sep=(.)"?[ \t]*(\r\n|\r|\n)', text)  # Excel
    if declared:
        rest = text[declared.end() :]
        layout = _with_delimiter(rest, declared[1], known)
        return replace(layout, start=layout.start + declared.end(), header=layout.header + 1)
    layouts = [_with_delimiter(text, delimiter, known) for delimiter in (default, *DELIMITERS)]
    fitting = [
        one for one in layouts if len(one.names) > 1 and (one.delimiter != SPACES or (one.known and one.consistent))
    ]
    ranks = [(one.known, one.consistent, one.delimiter == default, len(one.names)) for one in fitting]
    return fitting[ranks.index(max(ranks))] if fitting else layouts[0]


def split_rows(lines: Iterator[str] | Sequence[str], delimiter: str) -> Iterator[list[str]]:
    """Yield the fields of each row."""
    if delimiter == SPACES:
        return csv.reader((line.replace("\t", " ").strip() for line in lines), delimiter=" ", skipinitialspace=True)
    return csv.reader(lines, delimiter=delimiter)


def _with_delimiter(text: str, delimiter: str, known: Collection[str]) -> Layout:
    lines = [match[0] for match in islice(_LINE.finditer(text), LINES) if match[0]] or [""]
    first = next((i for i, line in enumerate(lines) if not _is_above(line, delimiter)), len(lines))
    above, below = lines[:first], lines[first:]
    rows = _first_rows(below, delimiter)
    body = [row for _, row in rows if not row[0].startswith("#")]
    width = Counter(map(len, body[1:])).most_common(1)[0][0] if len(body) > 1 else len(body[0]) if body else 0

    comment = _commented_header(above, delimiter, width, known)
    index = _header_row([row for _, row in rows], width, known)
    names = _names(rows[index][1]) if rows else []
    if comment is not None and not _has_known(names, known) and (_has_known(comment[1], known) or _has_number(names)):
        header, names = comment
        start = sum(map(len, above))
        index = -1
    else:
        header = first + (rows[index - 1][0] if index else 0)
        start = sum(map(len, lines[: first + (rows[index][0] if rows else 0)]))
    units = _rows_of_units([row for _, row in rows[index + 1 :]])
    if units:
        start = sum(map(len, lines[: first + rows[index + units][0]]))
    data = [row for _, row in rows[index + 1 + units :] if not row[0].startswith("#")]
    if data and all(len(row) == len(names) + 1 and not row[-1].strip() for row in data):
        names = [*names, ""]
    return Layout(
        delimiter=delimiter,
        names=tuple(names),
        start=start,
        header=header + 1,
        consistent=all(len(row) == len(names) for row in data),
        known=_has_known(names, known),
    )


def _first_rows(lines: Sequence[str], delimiter: str) -> list[tuple[int, list[str]]]:
    """Return the first rows, each with the number of lines to its end. Blank rows are left out."""
    rows: list[tuple[int, list[str]]] = []
    reader = split_rows(lines, delimiter)
    try:
        for row in reader:
            if any(field.strip() for field in row):
                rows.append((reader.line_num, row))  # type: ignore[attr-defined]
            if len(rows) == ROWS:
                break
    except csv.Error:  # a field of more than 128 kB, after an unpaired quote
        pass
    return rows[:-1] if 1 < len(rows) < ROWS and len(lines) == LINES else rows  # the last one may go on


def _is_above(line: str, delimiter: str) -> bool:
    """Return whether a line is blank or a comment."""
    marks = line.strip().strip('"')
    return not marks.strip(delimiter + '" ') or marks.startswith(MARKS)


def _names(row: Sequence[str]) -> list[str]:
    return [name.strip() for name in row]


def _commented_header(
    above: Sequence[str], delimiter: str, width: int, known: Collection[str]
) -> tuple[int, list[str]] | None:
    """Return the line and names of the last comment that may be the header: without numbers, and as wide as the rows."""
    found = None
    for number, line in enumerate(above):
        words = line.strip()
        mark = next((mark for mark in MARKS if words.lstrip('"').startswith(mark)), None)
        names = _names(next(split_rows([words], delimiter), []))
        if mark and names:
            names[0] = names[0].lstrip(mark).strip().strip('"')
            names = names if names[0] else names[1:]
        fits = mark and len(names) == width > 1 and all(names) and not _has_number(names)
        if fits and (found is None or _has_known(names, known) or not _has_known(found[1], known)):
            found = number, names
    return found


def _header_row(rows: Sequence[list[str]], width: int, known: Collection[str]) -> int:
    """Return the index of the header: the first row, unless titles stand above a known header."""
    if not rows or _has_known(rows[0], known):
        return 0
    return next((i for i, row in enumerate(rows[:TITLES]) if len(row) == width and _has_known(row, known)), 0)


def _rows_of_units(rows: Sequence[list[str]]) -> int:
    """Return the number of rows below the header up to VizieR's row of dashes, or 0."""
    for count, row in enumerate(rows[:3], start=1):
        if all(field and not field.strip("-") for field in row):
            return count
    return 0


def _has_known(names: Sequence[str], known: Collection[str]) -> bool:
    return len(names) > 1 and any(name.strip().lower() in known for name in names)


def _has_number(names: Sequence[str]) -> bool:
    return any(_NUMBER.fullmatch(name.strip()) for name in names)
