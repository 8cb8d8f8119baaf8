"""Read text tables with pyarrow: any usual delimiter, encoding and header."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Collection, Sequence
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from raydistill.errors import CatalogError
from raydistill.galaxies.tables.columns import distinct_names
from raydistill.galaxies.tables.content import HEAD, Content, without_packing
from raydistill.galaxies.tables.layout import Layout, find_encoding, find_layout
from raydistill.galaxies.tables.row_styles import SPACES, is_rule, split_rows
from raydistill.log import get_logger

# Rows of a text table that are not galaxies, and rows that Arrow cannot split.

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
    """Skip comments, rules and ends of files between rows, and reject a second table.

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


_DELIMITER_NAMES = {"\t": "tabs", SPACES: "spaces"}
_WRONG_WIDTH = re.compile(r"Expected (\d+) columns, got (\d+): ?(.*)", re.DOTALL)


class TextTable:
    """A CSV file, or another text with one row per line.

    Parameters
    ----------
    content : Content
    known : collection of str
        Names that its header may have, in lower case.

    Attributes
    ----------
    names : list of str
        Names of the columns, in order.
    """

    def __init__(self, content: Content, known: Collection[str] = ()) -> None:
        self._content = content
        head = content.head()
        is_whole = len(head) < HEAD
        self._mark = codecs.BOM_UTF8 if head.startswith(codecs.BOM_UTF8) else b""
        head = head.removeprefix(self._mark)
        self._encoding = find_encoding(head, is_whole)
        text = codecs.getincrementaldecoder(self._encoding)(errors="replace").decode(head)
        if not is_whole:
            text = text[: max(text.rfind("\n"), text.rfind("\r")) + 1] or text
        if "\0" in text.rstrip("\0\x1a"):
            raise ValueError("it holds zero bytes")
        self._default = "\t" if without_packing(content.name).endswith((".tsv", ".tab")) else ","
        self._layout = find_layout(text, self._default, known)
        self._start = len(text[: self._layout.start].encode("utf-8"))
        self._quoted = self._layout.style.quote in text
        self.names = distinct_names(self._layout.names) if text.strip() else []
        self.units = {name: unit for name, unit in zip(self.names, self._layout.units, strict=False) if unit}
        self.is_table = len(self.names) > 1 and (self._layout.consistent or self._layout.known)
        self._has_rows = not is_whole or bool(text[self._layout.start :].strip())

    def read(self, columns: list[str], text: Collection[str]) -> pa.Table:
        if not self._has_rows:
            return pa.table({name: pa.array([], pa.string()) for name in columns})
        self._log_guesses()
        try:
            return self._read(columns, text)
        except (pa.ArrowInvalid, UnicodeDecodeError) as error:
            if width := _WRONG_WIDTH.search(str(error)):
                what = f"a row has {width[2]} fields, and the header names {width[1]} columns: {width[3][:60].strip()}"
                fix = "quote texts with a delimiter, or name the first column too if it is an index"
                raise CatalogError(what, self._content.uri, fix) from error
            is_encoding = isinstance(error, UnicodeDecodeError) or "invalid UTF8" in str(error)
            if not is_encoding or self._encoding != "utf-8":
                raise
            self._encoding = "cp1252"
            log.warning("curate: %s is not UTF-8; read as cp1252", self._content.name)
            return self._read(columns, text)

    def _log_guesses(self) -> None:
        delimiter, encoding = self._layout.delimiter, self._encoding
        if encoding != "utf-8":
            log.info("curate: text encoded as %s", encoding)
        if self._layout.style.columns:
            log.info("curate: columns of fixed width")
        elif delimiter != self._default:
            log.info("curate: columns separated by %s", _DELIMITER_NAMES.get(delimiter, repr(delimiter)))
        if self._layout.header > 1:
            log.info("curate: header in line %d", self._layout.header)
        if self._layout.has_units:
            log.info("curate: a row of units or types below the header is skipped")
        if self._layout.has_index:
            what = "curate: the header of %s has one name less than the rows; their first field is read as an index"
            log.warning(what, self._content.name)

    def _read(self, columns: list[str], text: Collection[str]) -> pa.Table:
        rows, style = RowFilter(self._content.uri), self._layout.style
        is_csv = style.is_csv and not self._layout.is_ragged
        with self._open() as stream:
            table = pacsv.read_csv(
                stream if is_csv else as_csv(stream, self._layout),
                read_options=pacsv.ReadOptions(column_names=self.names),
                parse_options=pacsv.ParseOptions(
                    delimiter=style.delimiter if is_csv else ",",
                    quote_char=style.quote if is_csv else '"',
                    escape_char=(style.escape or False) if is_csv else False,
                    newlines_in_values=self._quoted,
                    invalid_row_handler=rows.check,
                ),
                convert_options=pacsv.ConvertOptions(
                    include_columns=list(dict.fromkeys((self.names[0], *columns))),
                    column_types={name: pa.string() for name in columns if name in text},
                ),
            )
        table = rows.drop(table, self.names[0], columns)
        rows.finish()
        return table

    def _open(self) -> Any:
        """Return a stream of UTF-8, at the first row of data."""
        stream: Any = self._content.open()
        stream.read(len(self._mark))
        if self._encoding != "utf-8":
            stream = pa.transcoding_input_stream(_arrow(stream), self._encoding, "utf-8")
        stream.read(self._start)
        return stream


def _arrow(stream: Any) -> Any:
    return stream if isinstance(stream, pa.NativeFile) else pa.PythonFile(stream, mode="r")
