"""Keep each galaxy's number of votes beside a curated set: `vote_totals.parquet`.

It exists only where the survey's table has numbers of votes. With the fractions of the curated set
it gives counts (`galaxies.vote_counts`).
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydistill.artifacts.tables import read_table, write_table
from raydistill.galaxies.catalog import votes_array
from raydistill.galaxies.selection import Split
from raydistill.galaxies.tree import DecisionTree
from raydistill.galaxies.vote_counts import vote_counts
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.storage import Folder

VOTE_TOTALS = "vote_totals.parquet"  # object_id, total_votes: float64, the answers to all questions


def write_vote_totals(folder: Folder, galaxies: pa.Table) -> None:
    """Write the totals of galaxies, sorted by object id; nothing if none is known."""
    if "votes" not in galaxies.column_names or galaxies["total_votes"].null_count == len(galaxies):
        return
    totals = galaxies.select(["object_id", "total_votes"]).filter(pc.is_valid(galaxies["total_votes"]))
    write_table(folder, VOTE_TOTALS, totals.sort_by("object_id").combine_chunks())


def load_vote_totals(curated: CuratedSet, split: Split) -> np.ndarray:
    """Return votes on all questions per galaxy, float64 [N]; NaN where unknown."""
    ids = curated.table(split, ["object_id"])["object_id"].to_pylist()
    if VOTE_TOTALS not in curated.manifest.files:
        return np.full(len(ids), np.nan)
    known = dict(zip(*(column.to_pylist() for column in read_table(curated.folder, VOTE_TOTALS).columns), strict=True))
    return np.array([known.get(object_id, np.nan) for object_id in ids], np.float64)


def load_vote_counts(curated: CuratedSet, split: Split, tree: DecisionTree) -> np.ndarray:
    """Return the number of votes for each answer of the tree, float64 [N, A].

    Rows are in the order of `CuratedSet.load`.
    """
    fractions = votes_array(curated.table(split, ["votes"]), tree)
    return vote_counts(fractions, load_vote_totals(curated, split), tree)
