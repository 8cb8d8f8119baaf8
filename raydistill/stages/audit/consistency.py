"""Collect what the experts see of an audit's pictures, and what was asked for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raydistill.galaxies.answers import reliable
from raydistill.galaxies.gz2 import GZ2
from raydistill.galaxies.tree import DecisionTree
from raydistill.galaxies.trees import TREES
from raydistill.stages.audit.blocks import Blocks, Measured
from raydistill.stages.audit.science.consistency import Seen, consistency
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.conditions import votes_of
from raydistill.statistics.findings import Finding

EXPERTS = "experts"


def consistency_findings(curated: CuratedSet, blocks: Blocks, measured: Measured) -> list[Finding]:
    """Return the findings about classes and answers; none without experts."""
    if measured.probabilities is None:
        return []
    tree = TREES[curated.summary.tree or GZ2.name]
    samples = blocks.samples
    votes = (
        reliable_votes(blocks.audited.votes, samples.synthetic, tree),
        reliable_votes(blocks.held_out.column("votes"), samples.held_out, tree),
        reliable_votes(blocks.training.column("votes"), samples.training, tree),
    )
    features = (measured.synthetic, measured.held_out, measured.training)
    synthetic, held_out, training = (
        Seen(probability_NK, own.spaces[EXPERTS].values_ND, own.labels_N, votes_NA)
        for probability_NK, own, votes_NA in zip(measured.probabilities, features, votes, strict=True)
    )
    return consistency(synthetic, held_out, training, curated.class_names, tree.answers)


def reliable_votes(
    column: pa.ChunkedArray | None, rows: npt.NDArray[np.int64], tree: DecisionTree
) -> npt.NDArray[np.float64] | None:
    """Return the votes of some rows, float64 [n, A]; None if no row has any.

    A vote is NaN where few volunteers were asked.
    """
    chosen = None if column is None else column.take(pa.array(rows))
    if chosen is None or chosen.null_count == len(chosen):
        return None
    return reliable(votes_of(chosen, len(tree.answers)).astype(np.float64), tree)
