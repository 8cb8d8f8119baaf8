"""Check the columns of a table: how many, and of which names."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from typing import IO, Any

import pyarrow as pa

from raydistill.errors import CatalogError
from raydistill.galaxies.labels import likeness
from raydistill.log import get_logger
from raydistill.storage.yaml_limits import check_yaml

# Columns of one name, as a join of two tables leaves them.
#
# The readers of a table give each column a name of its own: the second column `class` is "class\0 2".
# Columns that disagree are rejected. A name that differs in case, blanks or a number, as pandas and
# astropy give to the second column of a name, gets a warning.

log = get_logger(__name__)

_MARK = "\0 "
_NUMBERED = re.compile(r"(.+?)[._:]{1,3}\d{1,2}")  # class.1, class_1, class:1, class...2


def distinct_names(names: Iterable[str]) -> list[str]:
    """Return names of which the second and later ones of a kind have a mark."""
    counts: Counter[str] = Counter()
    distinct = []
    for name in names:
        counts[name] += 1
        distinct.append(name if counts[name] == 1 else f"{name}{_MARK}{counts[name]}")
    return distinct


def plain_name(name: str) -> str:
    """Return the name of a column in its file."""
    return name.partition(_MARK)[0]


def reject_twins(names: Sequence[str], where: str) -> None:
    """Raise CatalogError for columns of one name, in formats that read only one."""
    counts = Counter(name for name in names if name)
    if twins := [name for name, count in counts.items() if count > 1]:
        raise CatalogError(f"has {counts[twins[0]]} columns '{twins[0]}'", where, "rename or remove one of them")


class Twins:
    """The other columns of the same or a similar name, for some columns of a table.

    Parameters
    ----------
    columns : sequence of str
    names : sequence of str
        All columns, as in `distinct_names`.
    where : str
        The file.
    similar : bool
        Include similar names.
    """

    def __init__(self, columns: Sequence[str], names: Sequence[str], where: str, similar: bool = True) -> None:
        self._where = where
        others = [name for name in names if name not in columns]
        self._same = {name: [other for other in others if plain_name(other) == name] for name in columns if name}
        self._similar = {
            name: [other for other in others if similar and plain_name(other) != name and _are_similar(name, other)]
            for name in columns
        }
        self.of = {name: [*self._same.get(name, []), *self._similar[name]] for name in columns}

    def check(self, table: pa.Table) -> None:
        """Raise CatalogError for a twin that differs, and warn of a similar name."""
        for name, others in self.of.items():
            for other in others:
                if rows := _differing(table[name], table[other]):
                    self._report(name, other, rows, table)

    def _report(self, name: str, other: str, rows: Sequence[int], table: pa.Table) -> None:
        value, twin = (table[column][rows[0]].as_py() for column in (name, other))
        shown = f"differ in {len(rows)} of {len(table)} rows (first: row {rows[0] + 1}: {value} and {twin})"
        if other in self._similar[name]:
            log.warning("curate: %s: columns '%s' and '%s' %s; '%s' is read", self._where, name, other, shown, name)
            return
        what = f"has {1 + len(self._same[name])} columns '{name}', which {shown}"
        raise CatalogError(what, self._where, "rename or remove one of them")


def _are_similar(name: str, other: str) -> bool:
    numbered = _NUMBERED.fullmatch(other)
    return bool(likeness(name)) and likeness(name) in {likeness(other), likeness(numbered[1] if numbered else "")}


def _differing(left: pa.ChunkedArray, right: pa.ChunkedArray) -> list[int]:
    """Return the rows in which two columns differ."""
    if left.equals(right):
        return []
    if any(pa.types.is_floating(column.type) for column in (left, right)):
        with suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
            left, right = left.cast(pa.float64()), right.cast(pa.float64())
    pairs = zip(_texts(left), _texts(right), strict=True)
    return [row for row, (first, second) in enumerate(pairs) if first != second]


def _texts(column: pa.ChunkedArray) -> list[str]:
    return ["" if value is None else str(value).strip() for value in column.to_pylist()]


# Limit the columns of a table, before a reader makes objects of a million.
#
# Each format has its own place where a few bytes tell the number.

MAX_COLUMNS = 10_000  # the widest catalogues have a thousand
MAX_FITS_COLUMNS = 999  # of the FITS standard, 4.0, section 7.3
MAX_HEADER, MAX_EXTENSIONS = 8_000_000, 10_000  # bytes of one FITS header, and headers of a file
MAX_ROWS = 200_000_000  # a few kilobytes of Parquet can announce more
_BLOCK, _CARD = 2880, 80  # bytes of FITS
_NUMBER = re.compile(rb"(NAXIS\d*|BITPIX|PCOUNT|GCOUNT|TFIELDS) *= *(-?\d{1,18})\b")


def check_columns(number: int, uri: str, most: int | None = None) -> None:
    """Raise CatalogError for a table of too many columns."""
    most = MAX_COLUMNS if most is None else most
    if number > most:
        what = f"the table has {number} columns or more, and at most {most} are read"
        raise CatalogError(what, uri, "write those that are needed into another table")


def check_header(text: str, kind: str, uri: str) -> None:
    """Check an ECSV, IPAC, SExtractor or CDS text by the lines that name its columns."""
    if kind == "cds":
        described = text.partition("Byte-by-byte")[2].split("\n----", 3)
        columns = described[2].count("\n") if len(described) > 2 else 0
    elif kind == "ipac":
        columns = max((line.count("|") - 1 for line in _comments(text, "\\|")), default=0)
    else:
        lines = list(_comments(text, "#"))
        columns = sum("name:" in line for line in lines) if kind == "ecsv" else len(lines)
    check_columns(columns, uri)
    if kind == "ecsv":
        check_yaml("\n".join(line[2:] for line in lines if not line.startswith("# %")))


def _comments(text: str, marks: str) -> Iterator[str]:
    """Yield the first lines, which begin with one of these marks."""
    start = 0
    while text[start : start + 1] and text[start] in marks:
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        yield text[start:end]
        start = end + 1


def check_parquet(stream: Any, uri: str) -> None:
    """Check the number of columns that a Parquet file's footer begins with."""
    stream.seek(0, 2)
    size = stream.tell()
    stream.seek(max(0, size - 8))
    tail = stream.read(8)
    length = int.from_bytes(tail[:4], "little")
    if len(tail) == 8 and tail[4:] == b"PAR1" and length <= size - 8:
        stream.seek(size - 8 - length)
        check_columns(_num_elements(stream.read(32)) // 4, uri)  # a column of lists has three elements
    stream.seek(0)


def _num_elements(footer: bytes) -> int:
    """Return the length of the schema in a footer; 0 if it does not begin as usual.

    Thrift's compact protocol: a version, then a list with its length in the head or behind it.
    """
    match = re.match(rb"\x15[\x80-\xff]*[\x00-\x7f]\x19(?:([\x0c-\xec])|\xfc([\x80-\xff]{0,4}[\x00-\x7f]))", footer)
    if match is None:
        return 0
    if match[1]:
        return match[1][0] >> 4
    return sum((byte & 0x7F) << (7 * number) for number, byte in enumerate(match[2]))


def check_fits(stream: IO[bytes], uri: str) -> None:
    """Check the headers of a FITS file, which astropy would parse card by card."""
    at, size = 0, stream.seek(0, 2)
    for number in count():
        stream.seek(at)
        cards, length = _cards(stream, uri)
        if not cards:
            break
        if number > MAX_EXTENSIONS:
            what = f"it has more than {MAX_EXTENSIONS} extensions"
            raise CatalogError(what, uri, "write those that are needed into another file")
        check_columns(cards.get("TFIELDS", 0), uri, MAX_FITS_COLUMNS)
        axes = [cards.get(f"NAXIS{axis}", 0) for axis in range(1, min(cards.get("NAXIS", 0), 999) + 1)]
        axes = axes[1:] if axes[:1] == [0] else axes  # random groups
        values = cards.get("GCOUNT", 1) * (cards.get("PCOUNT", 0) + math.prod(axes)) if axes else 0
        at += length + _blocks(max(0, abs(cards.get("BITPIX", 8)) // 8 * values))
        if at >= size:
            break
    stream.seek(0)


def _cards(stream: IO[bytes], uri: str) -> tuple[dict[str, int], int]:
    """Return whole numbers of a header by keyword, and its length; {} and 0 if none."""
    cards: dict[str, int] = {}
    for number in range(MAX_HEADER // _BLOCK):
        block = stream.read(_BLOCK)
        if number == 0 and not block.startswith((b"SIMPLE", b"XTENSION")):
            return {}, 0
        for first in range(0, len(block), _CARD):
            card = block[first : first + _CARD]
            if match := _NUMBER.match(card):
                cards[match[1].decode()] = int(match[2])
            if card[:4] in (b"END ", b"END"):
                return cards | {"": 0}, (number + 1) * _BLOCK
        if len(block) < _BLOCK:  # astropy says that it is truncated
            return {}, 0
    what = f"it has a header of more than {MAX_HEADER} bytes"
    raise CatalogError(what, uri, "write the data into another file, without the comments")


def _blocks(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
