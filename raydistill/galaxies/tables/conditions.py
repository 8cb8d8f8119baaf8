"""Find the rows of a table that fulfil a condition on its columns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from raydistill.errors import ConfigError
from raydistill.galaxies.tables.expressions import evaluate_rows
from raydistill.galaxies.tables.repeated import Duplicates


class MatchedRows(NamedTuple):
    """Object ids of a table's rows, and bool [N], whether a row fulfils the condition."""

    object_ids: list[str]
    fulfils_N: npt.NDArray[np.bool_]


def match_rows(
    uri: str, condition: str, id_column: str | None, where: str, id_where: str,
    hdu: int | str | None = None, duplicates: Duplicates | None = None,
) -> MatchedRows:  # fmt: skip
    """Return which rows of a table fulfil a condition.

    An unknown value fulfils no comparison, except `!=`.

    Parameters
    ----------
    condition
        Comparisons of columns, such as "truth_class <= 2 and truth_dust_lane > 0".
    uri, id_column, where, id_where, hdu, duplicates
        As in `evaluate_rows`.

    Raises
    ------
    CatalogError
        The table cannot be read, has no such column of ids, or an id in rows that disagree.
    ConfigError
        The condition is wrong.
    """
    ids, [fulfils] = evaluate_rows(uri, [condition], id_column, where, id_where, hdu, duplicates)
    if fulfils.dtype != bool:
        fix = "compare a column with a number, such as 'truth_dust_lane > 0'"
        raise ConfigError(f"'{condition}' gives no yes or no for each row", where, fix)
    found: npt.NDArray[np.bool_] = fulfils.to_numpy()
    return MatchedRows(ids, found)
