"""Read text tables with pyarrow: any usual delimiter, encoding and header."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Collection
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv as pacsv

from raydistill.errors import CatalogError
from raydistill.galaxies.tables.content import HEAD, Content, without_packing
from raydistill.galaxies.tables.layout import SPACES, find_encoding, find_layout, split_rows
from raydistill.log import get_logger

log = get_logger(__name__)

_DELIMITER_NAMES = {"\t": "tabs", SPACES: "spaces"}
_UTF8 = ("utf-8", "utf-8-sig")


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
        self._encoding = find_encoding(head)
        text = codecs.getincrementaldecoder(self._encoding)(errors="replace").decode(head)
        if len(head) == HEAD:
            text = text[: max(text.rfind("\n"), text.rfind("\r")) + 1] or text
        self._default = "\t" if without_packing(content.name).endswith((".tsv", ".tab")) else ","
        self._layout = find_layout(text, self._default, known)
        self._start = len(text[: self._layout.start].encode("utf-8"))
        self._quoted = '"' in text
        self.names = list(self._layout.names) if text.strip() else []
        self.is_table = len(self.names) > 1 and (self._layout.consistent or self._layout.known)
        self._has_rows = len(head) == HEAD or bool(text[self._layout.start :].strip())

    def read(self, columns: list[str], text: Collection[str]) -> pa.Table:
        if not self._has_rows:
            return pa.table({name: pa.array([], pa.string()) for name in columns})
        self._log_guesses()
        try:
            return self._read(columns, text)
        except pa.ArrowInvalid as error:
            if "invalid UTF8" not in str(error) or self._encoding not in _UTF8:
                raise
            self._encoding = "cp1252"
            log.warning("curate: %s is not UTF-8; read as cp1252", self._content.name)
            return self._read(columns, text)

    def _log_guesses(self) -> None:
        delimiter, encoding = self._layout.delimiter, self._encoding
        if encoding not in _UTF8:
            log.info("curate: text encoded as %s", encoding)
        if delimiter != self._default:
            log.info("curate: columns separated by %s", _DELIMITER_NAMES.get(delimiter, repr(delimiter)))
        if self._layout.header > 1:
            log.info("curate: header in line %d", self._layout.header)

    def _read(self, columns: list[str], text: Collection[str]) -> pa.Table:
        comments = _Comments(self._content.uri)
        names = [name if self.names.index(name) == i else f"{name}\0{i}" for i, name in enumerate(self.names)]
        with self._open() as stream:
            table = pacsv.read_csv(
                stream,
                read_options=pacsv.ReadOptions(column_names=names),
                parse_options=pacsv.ParseOptions(
                    delimiter="," if self._layout.delimiter == SPACES else self._layout.delimiter,
                    newlines_in_values=self._quoted,
                    invalid_row_handler=comments.check,
                ),
                convert_options=pacsv.ConvertOptions(
                    include_columns=columns, column_types={name: pa.string() for name in columns if name in text}
                ),
            )
        comments.finish()
        return table

    def _open(self) -> Any:
        """Return a stream of UTF-8, at the first row of data."""
        stream: Any = self._content.open()
        if self._encoding not in _UTF8:
            stream = pa.transcoding_input_stream(_arrow(stream), self._encoding, "utf-8")
        elif self._encoding == "utf-8-sig":
            stream.read(len(codecs.BOM_UTF8))
        stream.read(self._start)
        return _with_commas(stream) if self._layout.delimiter == SPACES else stream


def _arrow(stream: Any) -> Any:
    return stream if isinstance(stream, pa.NativeFile) else pa.PythonFile(stream, mode="r")


def _with_commas(stream: IO[bytes]) -> pa.BufferReader:
    """Return a table that is separated by spaces as CSV."""
    text = io.StringIO()
    lines = stream.read().decode("utf-8", errors="replace").splitlines()
    csv.writer(text).writerows(row for row in split_rows(lines, SPACES) if row)
    return pa.BufferReader(text.getvalue().encode())


class _Comments:
    """Skip comment lines between rows, and refuse a second table."""

    def __init__(self, uri: str) -> None:
        self._uri, self._skipped, self._tables = uri, 0, 0

    def check(self, row: pacsv.InvalidRow) -> str:
        if not row.text.lstrip().startswith("#"):
            return "error"
        self._skipped += 1
        self._tables += row.text.strip().lower().startswith("#table")
        return "skip"

    def finish(self) -> None:
        if self._tables:
            raise CatalogError("the file holds several tables", self._uri, "save each as a file of its own")
        if self._skipped:
            log.info("curate: %d comment lines below the header are skipped", self._skipped)
