"""Read the truth of a scripted labeller: which objects of a survey are wanted."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from raydistill.errors import CatalogError, ConfigError
from raydistill.galaxies.tables.conditions import match_rows
from raydistill.stages.hunt.config import Oracle
from raydistill.stages.hunt.science.examples import Bools


class Truth(NamedTuple):
    """Whether each object of the survey is in the truth, and whether it is wanted."""

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
    keys, fulfils_N = match_rows(uri, oracle.positive, oracle.id, "hunt.oracle.positive", "hunt.oracle.id")
    wanted = dict(zip(keys, fulfils_N, strict=True))
    known_N = np.array([one in wanted for one in ids], bool)
    positive_N = np.array([wanted.get(one, False) for one in ids], bool)
    if not known_N.any():
        raise CatalogError(f"none of its {len(keys)} ids is of the survey", uri, "check hunt.oracle.id")
    if not positive_N.any() or positive_N[known_N].all():
        which = "no" if not positive_N.any() else "every"
        raise ConfigError(f"{which} object of the survey fulfils it", "hunt.oracle.positive", "correct the condition")
    return Truth(known_N, positive_N)
