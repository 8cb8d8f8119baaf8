"""Find the rows of a table that fulfil a condition on its columns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from raydistill.errors import CatalogError, ConfigError, nearest
from raydistill.galaxies.tables.ids import object_ids
from raydistill.galaxies.tables.opening import open_table

USUAL_ID = "objid"


class MatchedRows(NamedTuple):
    """Object ids of the rows of a table, and bool [N], whether a row fulfils the condition."""

    object_ids: list[str]
    fulfils_N: npt.NDArray[np.bool_]


def match_rows(
    uri: str, condition: str, id_column: str | None, where: str, id_where: str, hdu: int | str | None = None
) -> MatchedRows:
    """Return which rows of a table fulfil a condition; unknown numbers fulfil none.

    Parameters
    ----------
    uri
        A table of any format.
    condition
        Comparisons of columns, such as "truth_class <= 2 and truth_dust_lane > 0", as in
        `pandas.DataFrame.eval`. Object ids are text in it.
    id_column
        Its column of object ids. None: objid, or the first column.
    where, id_where
        Config keys of the condition and of the column, for error messages.
    hdu
        As in `open_table`.

    Raises
    ------
    CatalogError
        The table cannot be read, or has no such column of ids.
    ConfigError
        The condition is wrong.
    """
    table = open_table(uri, hdu=hdu)
    column = id_column or (USUAL_ID if USUAL_ID in table.names else table.names[0])
    if column not in table.names:
        raise CatalogError(f"it has no column '{column}'", uri, f"{id_where}: {nearest(column, table.names)}")
    rows = table.read([name for name in table.names if name == column or name in condition], text=[column])
    fulfils_N = _evaluate(condition, rows.to_pandas(), list(table.names), uri, where)
    return MatchedRows(object_ids(rows[column], column, uri).to_pylist(), fulfils_N)


def _evaluate(condition: str, frame: pd.DataFrame, names: list[str], uri: str, where: str) -> npt.NDArray[np.bool_]:
    try:
        result = frame.eval(condition, engine="python")
    except pd.errors.UndefinedVariableError as error:
        name = str(error).split("'")[1]
        raise ConfigError(f"{uri} has no column '{name}'", where, nearest(name, names)) from error
    except Exception as error:
        cause = " ".join(str(error).split()) or type(error).__name__
        fix = "write comparisons of columns, such as 'truth_class <= 2 and truth_dust_lane > 0'"
        raise ConfigError(f"'{condition}' is no condition on the table ({cause})", where, fix) from error
    if not isinstance(result, pd.Series) or result.dtype != bool:
        fix = "compare a column with a number, such as 'truth_dust_lane > 0'"
        raise ConfigError(f"'{condition}' gives no yes or no for each row", where, fix)
    found: npt.NDArray[np.bool_] = result.to_numpy()
    return found
