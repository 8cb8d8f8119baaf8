"""Read the truth of a scripted labeller: which objects of a survey are of the wanted kind."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from raydistill.config.hunt import Oracle
from raydistill.errors import CatalogError, ConfigError, nearest
from raydistill.galaxies.tables import object_ids, open_table
from raydistill.hunting.examples import Bools

USUAL_ID = "objid"


class Truth(NamedTuple):
    """For each object of the survey whether a row of the truth is there, and whether it is wanted."""

    known_N: Bools
    positive_N: Bools


def read_truth(oracle: Oracle, uri: str, ids: list[str]) -> Truth:
    """Return the truth of the objects of a survey.

    Raises
    ------
    CatalogError
        The table cannot be read, has no such column of ids, or no row of any object of the survey.
    ConfigError
        The condition is wrong, or no object fulfils it.
    """
    table = open_table(uri)
    column = oracle.id or (USUAL_ID if USUAL_ID in table.names else table.names[0])
    if column not in table.names:
        raise CatalogError(f"it has no column '{column}'", uri, f"hunt.oracle.id: {nearest(column, table.names)}")
    rows = table.read(table.names)
    keys = object_ids(rows[column], column, uri).to_pylist()
    wanted = dict(zip(keys, _evaluate(oracle.positive, rows.to_pandas(), uri), strict=True))
    known_N = np.array([one in wanted for one in ids], bool)
    positive_N = np.array([wanted.get(one, False) for one in ids], bool)
    if not known_N.any():
        raise CatalogError(f"none of its {len(keys)} ids is of the survey", uri, "check hunt.oracle.id")
    if not positive_N.any() or positive_N[known_N].all():
        which = "no" if not positive_N.any() else "every"
        raise ConfigError(f"{which} object of the survey fulfils it", "hunt.oracle.positive", "correct the condition")
    return Truth(known_N, positive_N)


def _evaluate(condition: str, frame: pd.DataFrame, uri: str) -> Bools:
    """Return for each row whether the condition holds; unknown numbers fulfil none."""
    where = "hunt.oracle.positive"
    try:
        result = frame.eval(condition, engine="python")
    except pd.errors.UndefinedVariableError as error:
        name = str(error).split("'")[1]
        raise ConfigError(f"{uri} has no column '{name}'", where, nearest(name, [str(one) for one in frame])) from error
    except Exception as error:
        cause = " ".join(str(error).split()) or type(error).__name__
        fix = "write comparisons of columns, such as 'truth_class <= 2 and truth_dust_lane > 0'"
        raise ConfigError(f"'{condition}' is no condition on the table ({cause})", where, fix) from error
    if not isinstance(result, pd.Series) or result.dtype != bool:
        fix = "compare a column with a number, such as 'truth_dust_lane > 0'"
        raise ConfigError(f"'{condition}' gives no yes or no for each row", where, fix)
    found: Bools = result.to_numpy()
    return found
