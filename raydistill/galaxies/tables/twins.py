"""Columns of one name, as a join of two tables leaves them.

The readers of a table give each column a name of its own: the second column `class` is "class\\0 2".
Columns that disagree are refused. A name that differs in case, blanks or a number, as pandas and
astropy give to the second column of a name, gets a warning.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress

import pyarrow as pa

from raydistill.errors import CatalogError
from raydistill.galaxies.spelling import likeness
from raydistill.log import get_logger

log = get_logger(__name__)

_MARK = "\0 "
_NUMBERED = re.compile(r"(.+?)[._:]{1,3}\d{1,2}")  # class.1, class_1, class:1, class...2


def distinct_names(names: Iterable[str]) -> list[str]:
    """Return names of which the second and later ones of a kind have a mark."""
    counts: Counter[str] = Counter()
    found = []
    for name in names:
        counts[name] += 1
        found.append(name if counts[name] == 1 else f"{name}{_MARK}{counts[name]}")
    return found


def plain_name(name: str) -> str:
    """Return the name of a column in its file."""
    return name.partition(_MARK)[0]


def refuse_twins(names: Sequence[str], where: str) -> None:
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
        one, two = (table[column][rows[0]].as_py() for column in (name, other))
        shown = f"differ in {len(rows)} of {len(table)} rows (first: row {rows[0] + 1}: {one} and {two})"
        if other in self._similar[name]:
            log.warning("curate: %s: columns '%s' and '%s' %s; '%s' is read", self._where, name, other, shown, name)
            return
        what = f"has {1 + len(self._same[name])} columns '{name}', which {shown}"
        raise CatalogError(what, self._where, "rename or remove one of them")


def _are_similar(name: str, other: str) -> bool:
    numbered = _NUMBERED.fullmatch(other)
    return bool(likeness(name)) and likeness(name) in {likeness(other), likeness(numbered[1] if numbered else "")}


def _differing(one: pa.ChunkedArray, two: pa.ChunkedArray) -> list[int]:
    """Return the rows in which two columns differ."""
    if one.equals(two):
        return []
    if any(pa.types.is_floating(column.type) for column in (one, two)):
        with suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
            one, two = one.cast(pa.float64()), two.cast(pa.float64())
    pairs = zip(_texts(one), _texts(two), strict=True)
    return [row for row, (first, second) in enumerate(pairs) if first != second]


def _texts(column: pa.ChunkedArray) -> list[str]:
    return ["" if value is None else str(value).strip() for value in column.to_pylist()]
