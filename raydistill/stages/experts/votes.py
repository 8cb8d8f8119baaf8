"""The votes of `experts.targets: counts`: targets and the training objective."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from raydistill.galaxies.classes import ClassTree
from raydistill.galaxies.vote_counts import ASSUMED_VOLUNTEERS, PathQuestions
from raydistill.learning.networks import Network
from raydistill.learning.vote_likelihood import VoteLikelihood
from raydistill.log import get_logger
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.vote_totals import load_vote_counts, load_vote_totals

log = get_logger(__name__)


def log_counts(curated: CuratedSet) -> None:
    """Log how the training galaxies' counts were found, and warn of assumed ones."""
    known = np.isfinite(load_vote_totals(curated, "train"))
    log.info("experts: counts of votes follow from the vote fractions and the number of votes of each galaxy")
    if not known.all():
        what = "experts: %d of %d training galaxies have no number of votes; %d volunteers each are assumed"
        log.warning(what, int((~known).sum()), len(known), ASSUMED_VOLUNTEERS)


def build_likelihood(network: Network, tree: ClassTree) -> VoteLikelihood:
    """Return the objective of a network that answers questions of the tree's paths."""
    return VoteLikelihood(network, len(tree.classes), PathQuestions.of(tree).sizes)


def count_targets(curated: CuratedSet, tree: ClassTree) -> Tensor:
    """Return counts of training galaxies, float32 [N, A], in `CuratedSet.load` order."""
    counts = load_vote_counts(curated, "train", tree.tree)[:, list(PathQuestions.of(tree).columns)]
    return torch.from_numpy(counts).float()
