"""Find how a text table is written: encoding, delimiter and lines above a header.

Above a header, tables of real archives have comment lines, blank lines, titles and SkyServer's
`#Table1`. VizieR puts units and dashes below it; others put units or types alone. Some headers are
themselves a comment.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from raydistill.galaxies.tables.row_styles import (
    MARKS,
    SPACES,
    RowStyle,
    find_columns,
    is_row_of_units,
    is_rule,
    list_styles,
    split_rows,
    units_in,
)

ROWS, LINES = 200, 1000  # rows and lines that are read to find the layout
TITLES = 30  # a header is among this many first rows

_BOMS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
         (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|$)")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Layout:
    """How a text table is written.

    Attributes
    ----------
    style
        How rows are split.
    names
        Names of the columns. A name is "" if rows have more fields than the header: delimiters at
        the end, or an index.
    start
        Characters before the first row of data.
    header
        Line of the header, from 1.
    consistent
        Whether all rows that were read have as many fields as the header.
    known
        Whether the header has a name that the caller expects.
    has_units
        Whether a row of units or types is below the header.
    is_ragged
        Whether some rows end with more delimiters than others.
    units
        Units of the columns, in a row below the header.
    has_index
        Whether the header lacks a name for the first column: the index of pandas or R.
    """

    style: RowStyle
    names: tuple[str, ...]
    start: int
    header: int
    consistent: bool
    known: bool
    has_units: bool = False
    is_ragged: bool = False
    units: tuple[str, ...] = ()
    has_index: bool = False

    @property
    def delimiter(self) -> str:
        return self.style.delimiter


def find_encoding(head: bytes, is_whole: bool) -> str:
    """Return a text's encoding by the mark of UTF-16 or zeros, else UTF-8 or cp1252."""
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return encoding
    odd, even = head[1:400:2].count(0), head[0:400:2].count(0)
    if max(odd, even) > 8 * min(odd, even) + len(head[:400]) // 8:
        return "utf-16-le" if odd > even else "utf-16-be"
    for encoding in ("utf-8", "cp1252"):
        try:
            codecs.getincrementaldecoder(encoding)().decode(head, final=is_whole)
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
        layout = _with_style(rest, RowStyle(declared[1]), known)
        return replace(layout, start=layout.start + declared.end(), header=layout.header + 1)
    layouts = [_with_style(text, style, known) for style in list_styles(text, default)]
    fitting = [
        layout
        for layout in layouts
        if len(layout.names) > 1 and (layout.delimiter != SPACES or (layout.known and layout.consistent))
    ]
    ranks = [(layout.known, layout.consistent, layout.delimiter == default, len(layout.names)) for layout in fitting]
    best = fitting[ranks.index(max(ranks))] if fitting else layouts[0]
    if best.delimiter == SPACES or not best.known:
        return _with_fixed_widths(text, known, best) or best
    return best


def _with_fixed_widths(text: str, known: Collection[str], other: Layout) -> Layout | None:
    """Return the layout of a table whose columns begin at the same characters.

    None unless it gives other fields than the layout that was found without it.
    """
    lines = [line for line in text.splitlines()[:LINES] if line.strip() and not is_rule(line)]
    lines = lines[next((i for i, line in enumerate(lines) if not _is_above(line, SPACES)), len(lines)) :]
    columns = find_columns(lines)
    if len(columns) < 2 or "\t" in text or '"' in text:
        return None
    style = RowStyle(SPACES, columns=columns)
    try:
        layout = _with_style(text, style, known)
        rows = [row for _, row in split_rows(lines, style)]
    except ValueError:
        return None
    is_aligned = all(any(column) for column in zip(*rows[1:], strict=True)) and not any(" " in row[0] for row in rows)
    if not (layout.known and layout.consistent and (is_aligned or not other.known)):
        return None
    return None if rows == [row for _, row in split_rows(lines, other.style)] else layout


def _with_style(text: str, style: RowStyle, known: Collection[str]) -> Layout:
    every = (match[0] for match in _LINE.finditer(text) if match[0])
    above = []
    for line in every:
        if not _is_above(line, style.delimiter):
            break
        above.append(line)
    else:
        line = ""
    below = [line, *islice(every, LINES - 1)] if line else []
    lines, first = [*above, *below], len(above)
    rows = _first_rows(below, style)
    if style.is_csv and any(_has_blank_before_quote(row, style.quote) for _, row in rows):
        return _with_style(text, replace(style, blanks=True), known)
    body = [row for _, row in rows if not row[0].startswith("#")]
    width = Counter(map(len, body[1:])).most_common(1)[0][0] if len(body) > 1 else len(body[0]) if body else 0

    comment = _commented_header(above, style, width, known)
    index = _header_row([row for _, row in rows], width, known)
    names = _names(rows[index][1]) if rows else []
    if comment is not None and not _has_known(names, known) and (_has_known(comment[1], known) or _has_number(names)):
        header, names = comment
        start = sum(map(len, above))
        index = -1
    else:
        header = first + (rows[index - 1][0] if index else 0)
        start = sum(map(len, lines[: first + (rows[index][0] if rows else 0)]))
    units, has_units = _rows_of_units([row for _, row in rows[index + 1 :]], names)
    if units:
        start = sum(map(len, lines[: first + rows[index + units][0]]))
    data = [row for _, row in rows[index + 1 + units :] if not row[0].startswith("#")]
    is_ragged = _is_ragged(data, len(names))
    has_index = _has_index(names, data, below[1:], style, known)
    names = ["", *names] if has_index else _with_unnamed(names, data)
    return Layout(
        style=style,
        names=tuple(names),
        start=start,
        header=header + 1,
        consistent=is_ragged or all(len(row) == len(names) for row in data),
        known=_has_known(names, known),
        has_units=has_units,
        is_ragged=is_ragged,
        units=units_in(rows[index + 1][1]) if has_units or units > 1 else (),
        has_index=has_index,
    )


def _has_blank_before_quote(row: Sequence[str], quote: str) -> bool:
    return any(field[:1] == " " and field.lstrip(" ")[:1] == quote for field in row)


def _is_ragged(data: Sequence[list[str]], width: int) -> bool:
    """Return whether only some rows exceed the header's width, with nothing beyond it."""
    lengths = {len(row) for row in data}
    return len(lengths) > 1 and min(lengths) >= width and not any("".join(row[width:]).strip() for row in data)


def _has_index(
    names: list[str], data: Sequence[list[str]], lines: Sequence[str], style: RowStyle, known: Collection[str]
) -> bool:
    """Return whether rows begin with an index, for which the header has no name.

    As in pandas and R, all rows then have one field more than the header. R quotes the index. That of
    pandas counts from 0, or the next field has the ids. A text with a delimiter in it looks alike, so
    other rows have no index. Between spaces, where that is usual, the ids must be whole numbers below a
    known name.
    """
    if {len(row) for row in data} != {len(names) + 1} or not any(row[-1].strip() for row in data):
        return False
    if all(line.startswith(style.quote) for line in lines if line.strip()):
        return True
    index, following = [row[0].strip() for row in data], [row[1].strip() for row in data]
    are_ids = all(re.search(r"\d", word) for word in following) and len(set(following)) == len(data)
    counts = index == [str(number) for number in range(len(data))]
    if style.delimiter == SPACES:
        counts, are_ids = False, are_ids and "".join(following).isdecimal() and names[0].lower() in known
    has_blanks = any(row[-1].startswith(" ") for row in data)  # as "Doe, J" has after its comma
    if len(data) < 2 or has_blanks:
        return False
    return counts or (are_ids and len(set(index)) == len(data))


def _with_unnamed(names: list[str], data: Sequence[list[str]]) -> list[str]:
    """Return the names with "" for each further field of the rows that is empty."""
    widths = {len(row) for row in data}
    more = widths.pop() - len(names) if len(widths) == 1 else 0
    if more > 0 and not any("".join(row[len(names) :]).strip() for row in data):
        return [*names, *[""] * more]
    return names[:more] if more < 0 and not any(names[more:]) else names


def _first_rows(lines: Sequence[str], style: RowStyle) -> list[tuple[int, list[str]]]:
    """Return the first rows without blank ones, each with the line count to its end."""
    rows: list[tuple[int, list[str]]] = []
    try:
        for number, row in split_rows(lines, style):
            if any(field.strip() for field in row):
                rows.append((number, row))
            if len(rows) == ROWS:
                break
    except csv.Error:  # a field of more than 128 kB, after an unpaired quote
        pass
    return rows[:-1] if 1 < len(rows) < ROWS and len(lines) == LINES else rows  # the last one may go on


def _is_above(line: str, delimiter: str) -> bool:
    """Return whether a line is blank, drawn or a comment."""
    marks = line.strip().strip('"')
    return not marks.strip(delimiter + '" ') or marks.startswith(MARKS) or is_rule(line)


def _names(row: Sequence[str]) -> list[str]:
    return [name.strip() for name in row]


def _commented_header(
    above: Sequence[str], style: RowStyle, width: int, known: Collection[str]
) -> tuple[int, list[str]] | None:
    """Return line and names of the last comment that may be the header.

    Such a comment holds no numbers and is as wide as the rows.
    """
    header = None
    for number, line in enumerate(above):
        words = line.strip()
        mark = next((mark for mark in MARKS if words.lstrip('"').startswith(mark)), None)
        names = _names(next(split_rows([words], style), (0, []))[1])
        if mark and names:
            names[0] = names[0].lstrip(mark).strip().strip('"')
            names = names if names[0] else names[1:]
        fits = mark and len(names) == width > 1 and all(names) and not _has_number(names)
        if fits and (header is None or _has_known(names, known) or not _has_known(header[1], known)):
            header = number, names
    return header


def _header_row(rows: Sequence[list[str]], width: int, known: Collection[str]) -> int:
    """Return the header's index: the first row, unless titles precede a known header."""
    if not rows or _has_known(rows[0], known):
        return 0
    return next((i for i, row in enumerate(rows[:TITLES]) if len(row) == width and _has_known(row, known)), 0)


def _rows_of_units(rows: Sequence[list[str]], names: list[str]) -> tuple[int, bool]:
    """Return the number of rows between header and data, and whether they are units.

    The second is False if a row of dashes is among them, as after the units of VizieR.
    """
    for count, row in enumerate(rows[:3], start=1):
        if is_rule(" ".join(row)) or all(field and not field.strip("-") for field in row):
            return count, False
    data = [row for row in rows[1:] if not row[0].startswith("#") and _names(row[: len(names)]) != names]
    has_units = bool(data) and is_row_of_units(rows[0], data)
    return int(has_units), has_units


def _has_known(names: Sequence[str], known: Collection[str]) -> bool:
    return len(names) > 1 and any(name.strip().lower() in known for name in names)


def _has_number(names: Sequence[str]) -> bool:
    return any(_NUMBER.fullmatch(name.strip()) for name in names)
