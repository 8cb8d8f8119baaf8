"""Refuse ids that occur twice, or take the first one with a warning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from raydistill.errors import CatalogError, listed
from raydistill.log import get_logger

log = get_logger(__name__)

Duplicates = Literal["refuse", "first"]
KEY = "survey.duplicates"
SHOWN = 3  # ids in a message


def check_repeated(
    repeated: Sequence[str], what: str, where: str, duplicates: Duplicates | None, fix: str = "keep one row per object",
    kind: str = "ids",
) -> None:  # fmt: skip
    """Refuse ids that occur twice, or warn that the first one is taken.

    Parameters
    ----------
    repeated
        The ids; nothing happens without any.
    what
        What is wrong with them, such as "occur in several rows".
    where
        The file.
    duplicates
        `survey.duplicates`. None: they are refused, and no key changes that.
    fix
        The next step if they are refused.
    kind
        What is repeated.

    Raises
    ------
    CatalogError
        If they are refused.
    """
    if not repeated:
        return
    what = f"{len(repeated)} {kind} {what} (first: {listed(repeated, SHOWN)})"
    if duplicates != "first":
        raise CatalogError(what, where, fix if duplicates is None else f"{fix}, or set {KEY}=first")
    log.warning("curate: %s: %s; the first one is taken", where, what)


def find_repeated(ids: pa.Array | pa.ChunkedArray) -> list[str]:
    """Return the ids that occur more than once."""
    counts = pc.value_counts(ids)
    repeated: list[str] = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    return repeated


def first_of_each(table: pa.Table, column: str) -> pa.Table:
    """Return the first row of each id, in the order of the rows."""
    ids = table[column]
    rows = pa.table({"id": ids, "row": pa.array(range(len(ids)), pa.int64())})
    first = rows.group_by("id", use_threads=False).aggregate([("row", "min")])["row_min"]
    return table if len(first) == len(table) else table.take(first.sort())
