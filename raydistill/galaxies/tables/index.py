"""Read ids from the index of pandas or R, a first column without a name."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from raydistill.errors import CatalogError
from raydistill.galaxies.tables.opening import Table
from raydistill.log import get_logger

log = get_logger(__name__)

INDEX = ("", "Unnamed: 0", "__index_level_0__")  # its names
_SPREAD = 10  # a selection of rows keeps at least each tenth one


def index_of_ids(table: Table) -> str | None:
    """Return the name of an index that holds ids, or None without an index.

    Warns that the ids are there.

    Raises
    ------
    CatalogError
        If its values may be numbers of rows.
    """
    name = next((name for name in table.names if name in INDEX), None)
    if name is None or (name != INDEX[-1] and name != table.names[0]):
        return None
    values = table.read([name], text=[name])[name].cast(pa.string())
    if _may_count_rows(values):
        what = "has no id column, and its index may hold numbers of rows"
        raise CatalogError(
            what, table.uri, "name a column with survey.columns.id=NAME, or write a name above the index"
        )
    what = "curate: %s has no id column; the ids are read from its index (first: %s)"
    log.warning(what, table.uri, values[0].as_py())
    return name


def _may_count_rows(values: pa.ChunkedArray) -> bool:
    """Return whether all values are small whole numbers, as of selected rows."""
    if not pc.all(pc.fill_null(pc.match_substring_regex(values, r"^\d{1,9}$"), True)).as_py():
        return False
    return (pc.max(values.cast(pa.int64())).as_py() or 0) < _SPREAD * max(len(values), 10)
