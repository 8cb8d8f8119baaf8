"""Choose the learners of a hunt, and their examples besides labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from raydistill.distillation.cost_model import WorkEstimate
from raydistill.learning.arithmetic import EAGER, Arithmetic
from raydistill.learning.normalise import AnyNormalisation
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.runtime.stages import resolve
from raydistill.seeding import fold_in
from raydistill.stages.hunt.config import Hunt
from raydistill.stages.hunt.science.examples import Group
from raydistill.stages.hunt.science.learning import AnyLearner, uses_pixels
from raydistill.stages.hunt.science.options import HuntTraining
from raydistill.stages.hunt.science.pixels import Pixels, computed_by, estimate_fit, for_aligned
from raydistill.stages.hunt.science.ranking import Rows, random_keys
from raydistill.stages.hunt.science.regression import Regression
from raydistill.stages.hunt.science.source_network import SourceNetwork, fit_source_network
from raydistill.stages.hunt.sources import Source
from raydistill.tracking.tracker import Run


def hunt_of(plan: Plan, arithmetic: Arithmetic = EAGER) -> Hunt:
    """Return the hunt of a config as its networks are trained.

    Parameters
    ----------
    plan
        The config. Where galaxies are aligned, networks see no rotated pictures.
    arithmetic
        That of all networks, where the config does not say it.
    """
    config = _change_networks(plan.config.hunt, lambda learner: computed_by(learner, arithmetic))
    return _change_networks(config, for_aligned) if plan.config.curate.align else config


def _change_networks(config: Hunt, change: Callable[[Any], Any]) -> Hunt:
    """Return the hunt with all its learners on pixels changed."""
    oracle, network = config.oracle, config.source_network
    if oracle is not None:
        oracle = replace(oracle, network=change(oracle.network), fixmatch=change(oracle.fixmatch))
    return replace(
        config,
        learner=change(config.learner) if uses_pixels(config.learner) else config.learner,
        source_network=None if network is None else change(network),
        oracle=oracle,
    )


def choose_arithmetic(plan: Plan, spec: ArtifactSpec, run: Run, image_size: int) -> Arithmetic:
    """Return the arithmetic of a hunt's networks.

    They are compiled and computed in bfloat16 if the work is worth it.
    """
    config, work = plan.config.hunt, WorkEstimate()
    for learner, count in _fits(config):
        if not isinstance(learner, Regression):
            one = estimate_fit(learner, image_size)
            work += WorkEstimate(count * one.flops, count * one.steps)
    return resolve(spec.folder, run, HuntTraining(), work, 0, plan.config.resources.worker_threads)


def _fits(config: Hunt) -> list[tuple[AnyLearner, int]]:
    """Return the learners, and how often each is fitted at most."""
    oracle, network = config.oracle, config.source_network
    if oracle is None:
        return [(config.learner, 1)] + ([] if network is None else [(network, 1)])
    with_source = sum(name in config.synthetic for name in config.strategies)
    rounds = oracle.seeds * (oracle.rounds + 1)
    fits: list[tuple[AnyLearner, int]] = [
        (config.learner, rounds * (with_source + ("real" in config.strategies))),
        (oracle.network, rounds * ("network" in config.strategies)),
        (oracle.fixmatch, rounds * ("fixmatch" in config.strategies)),
    ]
    if network is not None:
        fits.append((network, oracle.seeds * (with_source + ("ceiling" in config.strategies))))
    return fits


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
