"""Read text tables with pyarrow: any usual delimiter, encoding and header."""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv

from raydistill.errors import CatalogError
from raydistill.galaxies.tables.content import HEAD, Content, without_packing
from raydistill.galaxies.tables.layout import find_encoding, find_layout
from raydistill.galaxies.tables.row_styles import SPACES
from raydistill.galaxies.tables.rows import RowFilter, as_csv
from raydistill.galaxies.tables.twins import distinct_names
from raydistill.log import get_logger

log = get_logger(__name__)

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
