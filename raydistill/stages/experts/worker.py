"""The workers of the experts stage, which acquire experts and train them."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
import ray.train
import torch

from raydistill.artifacts.tables import LabelledImages
from raydistill.config import Experts
from raydistill.distillation.snapshots import Snapshots
from raydistill.errors import RaydistillError, find_known_error
from raydistill.galaxies.classes import ClassTree
from raydistill.learning.architectures import AnswerNetwork, Architecture
from raydistill.learning.decomposition import Decomposition
from raydistill.learning.networks import Network, build_network, initial_parameters
from raydistill.learning.normalise import AnyNormalisation, one_hot
from raydistill.learning.options import Training
from raydistill.learning.sgd import FitState, init_state
from raydistill.learning.training import Objective, evaluate, fit
from raydistill.log import get_logger
from raydistill.runtime.failures import WORKER_FAILURES, one_line
from raydistill.runtime.resources import Processor
from raydistill.seeding import fold_in
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.experts.artifact import ShardWriter
from raydistill.stages.experts.coordinator import MAX_ATTEMPTS
from raydistill.stages.experts.targets import build_decomposition, build_likelihood, count_targets, nuisance_targets
from raydistill.storage import Folder

log = get_logger(__name__)

History = dict[str, list[float | None]]


@dataclass(frozen=True)
class ExpertTask:
    """The arguments of a worker; they are pickled."""

    folder: str
    curated: str
    architecture: Architecture
    experts: Experts
    training: Training  # that of `experts`, without "auto"
    snapshots: Snapshots
    seed: int
    processor: Processor
    tree: ClassTree | None  # of the votes that are the targets; None: hard targets


def train_experts(loop: dict[str, Any]) -> None:
    """Run one worker of Ray Train: acquire experts and train them until none is left.

    It reports once, at its end: a report is a barrier, and experts are independent.
    """
    task, coordinator = loop["task"], loop["coordinator"]
    context = ray.train.get_context()
    rank = context.get_world_rank()
    with suppress(*WORKER_FAILURES):  # of the coordinator; the driver reports them
        ray.get(coordinator.register.remote(rank, context.get_world_size()))
        try:
            _train_acquired(_ExpertTrainer(task), coordinator, rank)
        except Exception as error:  # raised, it would make Ray Train restart all workers, which would fail again
            log.exception("a worker cannot start")
            coordinator.cannot_start.remote(rank, _translate_error("a worker cannot start", error))
        ray.get(coordinator.group_error.remote())  # an actor runs its calls in order: those above have arrived
    ray.train.report({"rank": rank})


def _train_acquired(trainer: _ExpertTrainer, coordinator: Any, rank: int) -> None:
    """Train experts until there is none left for this rank."""
    while (expert := ray.get(coordinator.acquire.remote(rank))) is not None:
        try:
            figures = trainer.train(
                expert, lambda epoch, figures, k=expert: coordinator.epoch.remote(k, epoch, figures)
            )
        except Exception as error:  # the other experts keep their workers
            log.exception("expert %d failed", expert)
            coordinator.failed.remote(expert, _translate_error(f"expert {expert} failed {MAX_ATTEMPTS} times", error))
        else:
            coordinator.finished.remote(expert, figures)


def _translate_error(what: str, error: Exception) -> RaydistillError:
    fix = "see the traceback in the worker's log in Ray's session; finished experts are kept"
    return find_known_error(error) or RaydistillError(
        f"{what} ({type(error).__name__}: {one_line(error)})", "experts", fix
    )


class _ExpertTrainer:
    """Hold the curated set on the device, and train one expert after another."""

    def __init__(self, task: ExpertTask) -> None:
        curated = CuratedSet.open(task.curated, verify=False)  # the driver has verified it
        self._task, self._folder = task, Folder(task.folder)
        self._device = task.processor.enter()
        self._network: Network = build_network(task.architecture, curated.num_classes, curated.summary.image_size)
        self._num_classes = curated.num_classes
        self._images, labels = self._on_device(curated.load("train"), curated.normalisation)
        tree = task.tree
        targets = one_hot(labels, curated.num_classes) if tree is None else curated.probabilities("train", tree)
        self._objective: Objective | None = None
        if (decompose := task.experts.decompose) is not None:
            self._objective = build_decomposition(decompose, self._network, curated)
            targets = torch.cat([targets, nuisance_targets(decompose, curated)], dim=1)
        if isinstance(task.architecture, AnswerNetwork):
            assert tree is not None
            self._objective = build_likelihood(self._network, tree)
            targets = torch.cat([one_hot(labels, curated.num_classes), count_targets(curated, tree)], dim=1)
        self._targets = targets.to(self._device)
        self._validation = self._on_device(curated.load("validation"), curated.normalisation)

    def _on_device(self, split: LabelledImages, normalisation: AnyNormalisation) -> tuple[torch.Tensor, torch.Tensor]:
        return normalisation.apply(split.images_NHWC).to(self._device), split.labels_N.to(self._device)

    def train(self, expert: int, on_epoch: Any) -> dict[str, float]:
        """Train one expert to its end and write its shard; return its last figures."""
        writer = ShardWriter(self._folder, expert, self._task.snapshots.stored)
        if (history := writer.finished()) is not None:  # by a worker that died before it reported it
            return _last(history)
        resumed = writer.resume()
        if resumed is None:
            seed = fold_in(self._task.seed, "expert", expert, "initial")
            theta_P = initial_parameters(self._network, seed)
            if isinstance(self._objective, Decomposition):
                theta_P = self._objective.extend(theta_P)
            state = init_state(theta_P)
            history = {"loss": [], "accuracy": [], "balanced_accuracy": []}
            self._validate(state, history)
            writer.save(state, history, self._network.layout.num_parameters)
        else:
            state, history = resumed
        training = self._task.training
        seed = fold_in(self._task.seed, "expert", expert, "training")
        start, objective = self._to_device(state), self._objective
        parts = self._task.snapshots.parts
        for reached in fit(
            self._network, start, self._images, self._targets, training, seed, objective=objective, parts=parts
        ):
            epoch, part = divmod(reached.done, parts)
            figures = None if part else self._validate(reached, history)
            writer.save(reached, history, self._network.layout.num_parameters)
            if figures is not None:
                on_epoch(epoch, figures)
        writer.finish(history, ends_only=self._task.experts.keep == "ends")
        return _last(history)

    def _validate(self, state: FitState, history: History) -> dict[str, float]:
        """Return the validation figures of this epoch, and append them to the history."""
        images, labels = self._validation
        theta_P = state.average_P[: self._network.layout.num_parameters].to(images)  # without a nuisance head
        scores = evaluate(self._network, theta_P, images, labels, self._num_classes)
        figures = {"loss": state.loss, "accuracy": scores.accuracy, "balanced_accuracy": scores.balanced_accuracy}
        for name, value in figures.items():
            history[name].append(value if math.isfinite(value) else None)  # no loss before the first epoch
        return figures

    def _to_device(self, state: FitState) -> FitState:
        tensors = (state.theta_P, state.momentum_P, state.average_P)
        theta_P, momentum_P, average_P = (tensor.to(self._device) for tensor in tensors)
        return state._replace(theta_P=theta_P, momentum_P=momentum_P, average_P=average_P)


def _last(history: History) -> dict[str, float]:
    return {name: value for name, values in history.items() if (value := values[-1]) is not None}
