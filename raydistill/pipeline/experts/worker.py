"""The workers of the experts stage: claim an expert, train it epoch by epoch, write its shard, claim the next."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
import ray.train
import torch

from raydistill.artifacts.curated import CuratedSet, Labelled
from raydistill.artifacts.trajectories import ShardWriter
from raydistill.config import Experts
from raydistill.core.architectures import Architecture
from raydistill.core.networks import Network, build_network, initial_parameters
from raydistill.core.normalise import AnyNormalisation, one_hot
from raydistill.core.training import FitState, evaluate, fit, init_state
from raydistill.errors import RaydistillError, find_known_error
from raydistill.galaxies.classes import ClassTree
from raydistill.log import get_logger
from raydistill.pipeline.experts.coordinator import MAX_ATTEMPTS
from raydistill.pipeline.runtime.failures import WORKER_FAILURES, one_line
from raydistill.pipeline.runtime.resources import device_of
from raydistill.seeding import fold_in
from raydistill.storage import Folder

log = get_logger(__name__)

History = dict[str, list[float | None]]


@dataclass(frozen=True)
class ExpertTask:
    """What a worker needs to know; small, it travels to every worker."""

    folder: str
    curated: str
    architecture: Architecture
    experts: Experts
    seed: int
    threads: int
    gpus: float
    tree: ClassTree | None  # that turns votes into targets; None: hard ones


def train_experts(loop: dict[str, Any]) -> None:
    """Ray Train's loop of one worker. It reports once, at the end: a report is a barrier, and experts are independent."""
    job, coordinator = loop["job"], loop["board"]
    context = ray.train.get_context()
    rank = context.get_world_rank()
    with suppress(*WORKER_FAILURES):  # of the board, without which nothing goes on; the driver tells of it
        ray.get(coordinator.join.remote(rank, context.get_world_size()))
        torch.set_num_threads(job.threads)
        try:
            _train_what_is_left(_Trainer(job), coordinator, rank)
        except Exception as error:  # the others go on; Ray Train would start all of them again, to meet the same
            log.exception("a worker cannot begin")
            coordinator.cannot_begin.remote(rank, find_known_error(error) or _unknown("a worker cannot begin", error))
        ray.get(coordinator.trouble.remote())  # an actor answers in order: all that was told above has arrived
    ray.train.report({"rank": rank})


def _train_what_is_left(trainer: _Trainer, coordinator: Any, rank: int) -> None:
    while (expert := ray.get(coordinator.claim.remote(rank))) is not None:
        try:
            figures = trainer.train(expert, lambda epoch, now, k=expert: coordinator.epoch.remote(k, epoch, now))
        except Exception as error:  # one poisoned expert must not cost the others their workers
            log.exception("expert %d failed", expert)
            coordinator.failed.remote(
                expert, find_known_error(error) or _unknown(f"expert {expert} failed {MAX_ATTEMPTS} times", error)
            )
        else:
            coordinator.finished.remote(expert, figures)


def _unknown(what: str, error: Exception) -> RaydistillError:
    fix = "the others are kept; the traceback is in the worker's log of Ray's session"
    return RaydistillError(f"{what} ({type(error).__name__}: {one_line(error)})", "experts", fix)


class _Trainer:
    """The curated set in memory (on the device), and the training of one expert after another."""

    def __init__(self, job: ExpertTask) -> None:
        curated = CuratedSet.open(job.curated, verify=False)  # the driver has verified it
        self._job, self._folder = job, Folder(job.folder)
        self._device = device_of(job.gpus)
        self._network: Network = build_network(job.architecture, curated.num_classes, curated.summary.image_size)
        self._num_classes = curated.num_classes
        self._images, labels = self._on_device(curated.load("train"), curated.normalisation)
        tree = job.tree
        targets = one_hot(labels, curated.num_classes) if tree is None else curated.probabilities("train", tree)
        self._targets = targets.to(self._device)
        self._judged = self._on_device(curated.load("validation"), curated.normalisation)

    def _on_device(self, split: Labelled, normalisation: AnyNormalisation) -> tuple[torch.Tensor, torch.Tensor]:
        return normalisation.apply(split.images_NHWC).to(self._device), split.labels_N.to(self._device)

    def train(self, expert: int, on_epoch: Any) -> dict[str, float]:
        """Train one expert to its end and write its shard; its last figures."""
        writer = ShardWriter(self._folder, expert)
        if (history := writer.finished()) is not None:  # by a worker that was lost before it could say so
            return _last(history)
        resumed = writer.resume()
        if resumed is None:
            seed = fold_in(self._job.seed, "expert", expert, "initial")
            state = init_state(initial_parameters(self._network, seed))
            history = {"loss": [], "accuracy": [], "balanced_accuracy": []}
            self._note(state, history)
            writer.save(state, history)
        else:
            state, history = resumed
        training = self._job.experts.training
        seed = fold_in(self._job.seed, "expert", expert, "training")
        for now in fit(self._network, _to(state, self._device), self._images, self._targets, training, seed):
            figures = self._note(now, history)
            writer.save(now, history)
            on_epoch(now.epoch, figures)
        writer.finish(training.epochs, history, ends_only=self._job.experts.keep == "ends")
        return _last(history)

    def _note(self, state: FitState, history: History) -> dict[str, float]:
        """Validation figures of this epoch, appended to the record."""
        images, labels = self._judged
        found = evaluate(self._network, state.average_P.to(images), images, labels, self._num_classes)
        now = {"loss": state.loss, "accuracy": found.accuracy, "balanced_accuracy": found.balanced_accuracy}
        for name, value in now.items():
            history[name].append(value if math.isfinite(value) else None)  # no loss before the first epoch
        return now


def _last(history: History) -> dict[str, float]:
    return {name: value for name, values in history.items() if (value := values[-1]) is not None}


def _to(state: FitState, device: str) -> FitState:
    tensors = (state.theta_P, state.momentum_P, state.average_P)
    theta_P, momentum_P, average_P = (tensor.to(device) for tensor in tensors)
    return state._replace(theta_P=theta_P, momentum_P=momentum_P, average_P=average_P)
