"""The comparison: its networks, their training sets and their protocols."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from raydistill.config import Config, Protocol
from raydistill.distillation.cost_model import Hardware, WorkEstimate, estimate_training, resolve_auto
from raydistill.learning.architectures import Architecture
from raydistill.learning.networks import build_network
from raydistill.learning.options.training import Training
from raydistill.log import get_logger
from raydistill.seeding import fold_in
from raydistill.stages.evaluate.fits import Fit, LearningRate, TrainingSet
from raydistill.stages.evaluate.lr_search import LrSearch
from raydistill.stages.evaluate.training_sets import TrainingSets

log = get_logger(__name__)


def plan_searches(config: Config, root: int, training_sets: TrainingSets) -> list[LrSearch]:
    """Return the searches of an evaluation, with `compile` and `precision` resolved.

    Parameters
    ----------
    config
        The config of the run, with protocols, networks and resources.
    root
        Seed of the evaluation: networks with the same number have the same seed in all searches.
    training_sets
        The training sets to compare.
    """
    return _resolve(config, list(_searches(config, root, training_sets)))


def _searches(config: Config, root: int, training_sets: TrainingSets) -> Iterator[LrSearch]:
    """Yield the searches of the small sets, the scores and all the training data.

    Each small set is trained under every protocol and on every network.
    """
    options = config.evaluate
    architectures = tuple(dict.fromkeys((config.network, *options.other_networks)))
    num_seeds = max(options.num_networks, options.full_data_networks)
    seeds = [fold_in(root, "network", number) for number in range(num_seeds)]

    def with_lrs(
        lrs: tuple[LearningRate, ...],
        sets: Sequence[TrainingSet],
        name: str,
        training: Training,
        architecture: Architecture,
    ) -> LrSearch:
        fits = (Fit(s, name, training, lrs[0], architecture, seed) for s, seed in zip(sets, seeds, strict=False))
        return LrSearch(tuple(fits), lrs)

    def under(protocol: Protocol, name: str, sets: Sequence[TrainingSet], architecture: Architecture) -> LrSearch:
        learned_lr = protocol.learned_lr if sets[0].student_lrs is not None else "never"
        lrs = {"only": (None,), "candidate": (None, *protocol.lr_grid), "never": protocol.lr_grid}[learned_lr]
        training = protocol.training.with_even_batches(len(sets[0].images_NCHW))
        return with_lrs(lrs, sets, name, training, architecture)

    small = list(training_sets.small())
    for name, protocol in options.protocols.items():
        for architecture in architectures:
            for sets in small:
                yield under(protocol, name, sets, architecture)
    if options.scores:
        for sets, name, protocol in training_sets.for_scores():
            yield under(protocol, name, sets, config.network)
    if options.full_data_networks:
        sets = [training_sets.full_data()] * options.full_data_networks
        yield with_lrs((options.full_data.lr,), sets, "", options.full_data, config.network)


def _resolve(config: Config, searches: list[LrSearch]) -> list[LrSearch]:
    """Replace `auto` by the work of all networks that share a compilation.

    On GPUs a process ends with its network, so there a compilation serves one network only.
    """
    hardware = Hardware.of_workers(config.resources.gpus)
    shared_work: defaultdict[Any, WorkEstimate] = defaultdict(WorkEstimate)
    for search in searches:
        shared_work[_compilation_key(search)] += _work(search, search.min_networks)
    logged, resolved = set(), []
    for search in searches:
        key = _compilation_key(search)
        arithmetic = resolve_auto(
            search.training, _work(search, 1) if hardware.kind == "gpu" else shared_work[key], hardware
        )
        training = search.training.resolved(arithmetic)
        if training != search.training.resolved() and (key, arithmetic) not in logged:
            logged.add((key, arithmetic))
            log.info("evaluate: %s in batches of %d: %s", search.architecture.name, training.batch_size, arithmetic)
        resolved.append(replace(search, fits=tuple(replace(fit, training=training) for fit in search.fits)))
    return resolved


def _compilation_key(search: LrSearch) -> Any:
    return search.architecture, search.training.augmentation, search.training.batch_size


def _work(search: LrSearch, networks: int) -> WorkEstimate:
    data = search.fits[0].data
    network = build_network(search.architecture, data.targets_NK.shape[1], data.images_NCHW.shape[-1])
    return estimate_training(search.training, network, data.images_NCHW.shape, networks)
