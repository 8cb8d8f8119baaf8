"""Choose the learners of a hunt, and the examples that they learn from besides labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from raydistill.config.hunt import Hunt
from raydistill.core.normalise import AnyNormalisation
from raydistill.hunting.examples import Group
from raydistill.hunting.learning import AnyLearner, uses_pixels
from raydistill.hunting.pixels import FixMatchLearner, NetworkLearner, Pixels, for_aligned
from raydistill.hunting.ranking import Rows, random_keys
from raydistill.hunting.source_network import SourceNetwork, fit_source_network
from raydistill.pipeline.hunt.sources import Source
from raydistill.pipeline.plan import Plan
from raydistill.seeding import fold_in


def hunt_of(plan: Plan) -> Hunt:
    """Return the hunt of a config; where galaxies are aligned, its networks see no rotated pictures."""
    config = plan.config.hunt
    if not plan.config.curate.align:
        return config
    network, oracle = config.source_network, config.oracle
    if oracle is not None:
        oracle = replace(oracle, network=for_aligned(oracle.network), fixmatch=for_aligned(oracle.fixmatch))
    return replace(
        config,
        learner=_aligned(config.learner),
        source_network=None if network is None else for_aligned(network),
        oracle=oracle,
    )


def _aligned(learner: AnyLearner) -> AnyLearner:
    if isinstance(learner, NetworkLearner):
        return for_aligned(learner)
    return for_aligned(learner) if isinstance(learner, FixMatchLearner) else learner


def reads_pictures(config: Hunt) -> bool:
    """Return whether the learner, or the network of the sources, reads pictures."""
    return uses_pixels(config.learner) or config.source_network is not None


def synthetic_groups(sources: Sequence[Source], pixels: bool, weight: float) -> list[Group]:
    """Return the examples of each source; none if their weight is 0."""
    if not weight:
        return []
    return [Group(one.pixels_LHWC if pixels else one.features_LF, one.positive_L, weight) for one in sources]


def draw_background(rows: Rows, count: int, seed: int) -> Rows:
    """Return `count` random rows, in order."""
    keys = random_keys(rows, fold_in(seed, "background"))
    return np.sort(rows[np.argsort(keys, kind="stable")[:count]])


def train_on_sources(
    config: Hunt, sources: Sequence[Source], background_NHWC: Pixels, normalisation: AnyNormalisation, seed: int
) -> tuple[SourceNetwork, list[Source]]:
    """Return the network of `hunt.source_network`, and the sources with its features.

    Parameters
    ----------
    config
        A hunt with such a network.
    sources
        The sources on which it is trained.
    background_NHWC
        Pictures of random objects of the survey.
    normalisation
        Of its pictures.
    seed
        Root of the network's random numbers.
    """
    assert config.source_network is not None
    groups = synthetic_groups(sources, pixels=True, weight=1.0)
    network = fit_source_network(groups, background_NHWC, config.source_network, normalisation, seed)
    return network, [one._replace(features_LF=network.join(one.features_LF, one.pixels_LHWC)) for one in sources]
