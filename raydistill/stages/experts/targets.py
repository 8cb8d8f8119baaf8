"""Targets of experts besides labels: volunteers' votes, and a nuisance."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from raydistill.config import Decompose
from raydistill.errors import ArtifactIncompatible, ConfigError
from raydistill.galaxies.classes import ClassTree
from raydistill.galaxies.votes import ASSUMED_VOLUNTEERS, PathQuestions
from raydistill.learning.decomposition import Decomposition, bin_targets
from raydistill.learning.networks import Network, build_network
from raydistill.learning.vote_likelihood import VoteLikelihood
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.writer import load_vote_counts, load_vote_totals

# The nuisance of `experts.decompose`: its bins, and the objective of training.

log = get_logger(__name__)


def check_nuisance(plan: Plan, curated: CuratedSet) -> None:
    """Raise unless the set has the nuisance and the network has features.

    Warn of missing values.

    Raises
    ------
    ConfigError
        If the network has no last layer whose input are its features.
    ArtifactIncompatible
        If no training galaxy has a value, or the values do not differ within any class.
    """
    decompose = plan.config.experts.decompose
    if decompose is None:
        return
    network = build_network(plan.expert_network, curated.num_classes, curated.summary.image_size)
    try:
        build_decomposition(decompose, network, curated).check(curated.summary.image_size)
    except ValueError as error:
        what = f"the network {plan.expert_network.name} cannot be decomposed: {error}"
        raise ConfigError(what, "experts.decompose", "take another network, or set experts.decompose=null") from error
    known = np.isfinite(_values(decompose, curated))
    where, fix = curated.folder.uri, "choose another experts.decompose.nuisance, or set experts.decompose=null"
    if not known.any():
        what = f"none of its training galaxies has a {decompose.nuisance}, which experts.decompose needs"
        raise ArtifactIncompatible(what, where, fix)
    try:
        nuisance_targets(decompose, curated)
    except ValueError as error:
        what = f"the {decompose.nuisance} of its training galaxies does not differ within any class"
        raise ArtifactIncompatible(what, where, fix) from error
    if not known.all():
        what = "experts: %d of %d training galaxies have no %s; they are trained on their class alone"
        log.warning(what, int((~known).sum()), len(known), decompose.nuisance)


def build_decomposition(decompose: Decompose, network: Network, curated: CuratedSet) -> Decomposition:
    """Return the objective of experts with a nuisance head.

    Raise ValueError if the network has no features.
    """
    return Decomposition(network, curated.num_classes, decompose.bins, decompose.weight, decompose.penalty)


def nuisance_targets(decompose: Decompose, curated: CuratedSet) -> Tensor:
    """Return bins of training galaxies, float32 [N, M], in `CuratedSet.load` order."""
    labels = curated.table("train", ["object_id"])["label"].to_numpy()
    return bin_targets(_values(decompose, curated), labels, decompose.bins)


def _values(decompose: Decompose, curated: CuratedSet) -> np.ndarray:
    """Return the nuisance of the training galaxies, float64 [N]; NaN where unknown."""
    column = curated.table("train", [decompose.nuisance])[decompose.nuisance]
    return np.array([np.nan if value is None else value for value in column.to_pylist()], np.float64)


# The votes of `experts.targets: counts`: targets and the training objective.


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
