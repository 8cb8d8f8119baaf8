"""Read the labels of pictures that somebody has looked at, for the filter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from raydistill.config import PictureFilter
from raydistill.errors import CatalogError, listed
from raydistill.galaxies.catalog import read_catalog
from raydistill.galaxies.selection import SPLITS
from raydistill.galaxies.tables import open_table
from raydistill.simulation.defects import REASONS, central
from raydistill.stages.curate.filter.network import FOLDS, VIEW

CLEAN = "clean"  # the label of an undamaged picture


class Labelled(NamedTuple):
    """The labelled training pictures.

    Attributes
    ----------
    ranks, views_NVV3, outcomes_N
        Ranks int64 [N], pictures uint8, and outcomes int64: 0 for "clean", 1 + r for reason r.
    """

    ranks: np.ndarray
    views_NVV3: np.ndarray
    outcomes_N: np.ndarray

    @staticmethod
    def of(ranks: np.ndarray, wide_NWW3: np.ndarray, outcomes: Mapping[int, int]) -> Labelled:
        """Return the middles of wide pictures with the outcomes of their ranks."""
        views = [central(wide, VIEW) for wide in wide_NWW3]
        views_NVV3 = np.stack(views) if views else np.empty((0, VIEW, VIEW, 3), np.uint8)
        return Labelled(ranks, views_NVV3, np.array([outcomes[rank] for rank in ranks.tolist()], np.int64))

    def of_fold(self, fold: int, *, other: bool = False) -> Labelled:
        """Return the pictures of a fold, or those of the others."""
        chosen = (self.ranks % FOLDS == fold) != other
        return Labelled(self.ranks[chosen], self.views_NVV3[chosen], self.outcomes_N[chosen])


def read_filter_labels(recipe: PictureFilter, galaxies: pa.Table) -> dict[int, int]:
    """Return the outcome of each labelled training galaxy by its rank.

    Raises
    ------
    CatalogError
        The table cannot be read, has another label, or no galaxy of the training split.
    """
    if recipe.labels is None:
        return {}
    outcomes = {CLEAN: 0} | {reason: 1 + number for number, reason in enumerate(REASONS)}
    names = open_table(recipe.labels).names
    if "label" not in names:
        what = f"it has no column 'label'; its columns are: {listed(names, 8)}"
        raise CatalogError(what, recipe.labels, "give a table with an id and a label, or the labels.csv of a sheet")
    id_column = {"id": "filename"} if "filename" in names else None  # of a sheet
    table = read_catalog(recipe.labels, "plain", columns=id_column)
    rank_of = {name: rank for rank, name in enumerate(galaxies["object_id"].to_pylist())}
    training = galaxies["split"].to_numpy() == SPLITS.index("train")
    labelled: dict[int, int] = {}
    for name, label in zip(table["object_id"].to_pylist(), table["label"].to_pylist(), strict=True):
        if label not in outcomes:
            what = f"the galaxy {name} has the label '{label}', and labels are {', '.join(outcomes)}"
            raise CatalogError(what, recipe.labels, "correct the label, or remove the row")
        if name in rank_of and training[rank_of[name]]:
            labelled[rank_of[name]] = outcomes[label]
    if not labelled:
        what = f"none of its {len(table)} galaxies is in the training split of the survey"
        raise CatalogError(what, recipe.labels, "check the ids, or label more galaxies")
    return labelled
