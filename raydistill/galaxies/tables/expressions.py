"""Evaluate expressions of a table's columns, such as "petroMag_u - petroMag_r"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from raydistill.errors import CatalogError, ConfigError, nearest
from raydistill.galaxies.tables.ids import object_ids
from raydistill.galaxies.tables.opening import open_table

USUAL_ID = "objid"


class EvaluatedRows(NamedTuple):
    """Object ids of the rows of a table, and the value of each expression in each row."""

    object_ids: list[str]
    values: list[pd.Series]


def evaluate_rows(
    uri: str, expressions: Sequence[str], id_column: str | None, where: str, id_where: str, hdu: int | str | None = None
) -> EvaluatedRows:
    """Return the values of expressions in each row of a table.

    Parameters
    ----------
    uri
        A table of any format.
    expressions
        Expressions of columns, as in `pandas.DataFrame.eval`. Object ids are text in them.
    id_column
        Its column of object ids. None: objid, or the first column.
    where, id_where
        Config keys of the expressions and of the column, for error messages.
    hdu
        As in `open_table`.

    Raises
    ------
    CatalogError
        The table cannot be read, or has no such column of ids.
    ConfigError
        An expression is wrong.
    """
    table = open_table(uri, hdu=hdu)
    column = id_column or (USUAL_ID if USUAL_ID in table.names else table.names[0])
    if column not in table.names:
        raise CatalogError(f"it has no column '{column}'", uri, f"{id_where}: {nearest(column, table.names)}")
    used = [name for name in table.names if name == column or any(name in one for one in expressions)]
    rows = table.read(used, text=[column])
    frame = rows.to_pandas()
    values = [_evaluate(one, frame, list(table.names), uri, where) for one in expressions]
    return EvaluatedRows(object_ids(rows[column], column, uri).to_pylist(), values)


def _evaluate(expression: str, frame: pd.DataFrame, names: list[str], uri: str, where: str) -> pd.Series:
    try:
        result = frame.eval(expression, engine="python")
    except pd.errors.UndefinedVariableError as error:
        name = str(error).split("'")[1]
        raise ConfigError(f"{uri} has no column '{name}'", where, nearest(name, names)) from error
    except Exception as error:
        cause = " ".join(str(error).split()) or type(error).__name__
        fix = "write columns of the table, such as 'truth_class <= 2 and truth_dust_lane > 0'"
        raise ConfigError(f"'{expression}' cannot be computed from the table ({cause})", where, fix) from error
    if not isinstance(result, pd.Series):
        raise ConfigError(f"'{expression}' gives no value for each row", where, "use a column of the table in it")
    return result
