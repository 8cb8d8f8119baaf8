"""Rows of a text table that are no galaxies, and rows that Arrow cannot split."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from raydistill.errors import CatalogError
from raydistill.galaxies.tables.layout import Layout
from raydistill.galaxies.tables.row_styles import is_rule, split_rows
from raydistill.log import get_logger

log = get_logger(__name__)

_EMPTY = ' \t,;|"\x1a\0'  # in rows without a field, and at DOS's end of a file
_COUNT = re.compile(r"\(\d+ rows?\)")  # below a table of PostgreSQL
_COMMENT = r"^\s*#+(\s|$)"  # a field; an id may begin with # and a digit


def as_csv(stream: IO[bytes], layout: Layout) -> pa.BufferReader:
    """Return the rows below a header as CSV, whatever their style.

    ValueError if a row has more fields than the header, or if a field is too wide for its column.
    """
    width, text = len(layout.names), io.StringIO()
    lines = io.StringIO(stream.read().decode("utf-8"), newline="")
    rows = (row for _, row in split_rows(lines, layout.style) if any(field.strip() for field in row))
    csv.writer(text, lineterminator="\n").writerows(_cut(row, width) for row in rows if not is_rule(" ".join(row)))
    return pa.BufferReader(text.getvalue().encode())


def _cut(row: list[str], width: int) -> list[str]:
    """Return the fields of a row without empty ones beyond the header."""
    return row[:width] if not any(field.strip() for field in row[width:]) else row


class RowFilter:
    """Skip comments, rules and ends of files between rows, and refuse a second table.

    Parameters
    ----------
    uri : str
        The file, for error messages.
    """

    def __init__(self, uri: str) -> None:
        self._uri, self._skipped, self._blank, self._tables, self._headers = uri, 0, 0, 0, 0

    def check(self, row: pacsv.InvalidRow) -> str:
        """Return "skip" or "error" for a row of another width than the header."""
        text = row.text.strip()
        if not text.strip(_EMPTY) or is_rule(text) or _COUNT.fullmatch(text):
            return "skip"
        if not text.startswith("#"):
            return "error"
        self._skipped += 1
        self._tables += text.lower().startswith("#table")
        return "skip"

    def drop(self, table: pa.Table, first: str, columns: Sequence[str]) -> pa.Table:
        """Return the requested columns without comments, repeated headers and blank rows."""
        is_comment = _matches(table[first], _COMMENT)
        if is_comment is not None:
            self._skipped += pc.sum(is_comment).as_py() or 0
            table = table.filter(pc.invert(is_comment))
        is_header = _is_header(table, first)
        if is_header is not None:
            self._headers = pc.sum(is_header).as_py()
            table = table.filter(pc.invert(is_header))
        is_blank = pc.and_(_is_blank(table[first]), _is_blank(table[columns[0]]))
        if len(columns) > 1 and pc.any(is_blank).as_py():
            for name in columns[1:]:
                is_blank = pc.and_(is_blank, _is_blank(table[name]))
            self._blank = pc.sum(is_blank).as_py()
            table = table.filter(pc.invert(is_blank))
        return table.select(list(columns))

    def finish(self) -> None:
        """Log what was skipped. CatalogError if the file holds several tables."""
        if self._tables:
            raise CatalogError("the file holds several tables", self._uri, "save each as a file of its own")
        if self._skipped:
            log.info("curate: %d comment lines below the header are skipped", self._skipped)
        if self._headers:
            log.info("curate: %d further rows with the header are skipped", self._headers)
        if self._blank:
            log.info("curate: %d blank rows are skipped", self._blank)


def _matches(column: pa.ChunkedArray, pattern: str) -> pa.ChunkedArray | None:
    """Return a mask of texts that match, or None if there are none."""
    if not pa.types.is_string(column.type):
        return None
    mask = pc.fill_null(pc.match_substring_regex(column, pattern), False)
    return mask if pc.any(mask).as_py() else None


def _is_header(table: pa.Table, first: str) -> pa.ChunkedArray | None:
    """Return a mask of rows that repeat the header, as in joined files; None if none."""
    mask = _matches(table[first], f"^\\s*{re.escape(first)}\\s*$") if first else None
    for name in table.column_names if mask is not None else ():
        if not pa.types.is_string(table[name].type):
            return None
        mask = pc.and_(mask, pc.fill_null(pc.equal(pc.utf8_trim_whitespace(table[name]), name), False))
    return mask if mask is not None and pc.any(mask).as_py() else None


def _is_blank(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_string(column.type):
        return pc.is_null(column)
    return pc.fill_null(pc.equal(pc.utf8_trim_whitespace(column), ""), True)
