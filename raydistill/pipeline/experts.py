"""experts: train many networks on the curated set and keep where each of them has been, epoch by epoch.

    board (one actor)  who has which expert; nothing that cannot be read off the folder again
    Ray Train workers  claim an expert -> train it -> write its shard -> claim the next

Expert k depends on `fold_in(seed, "expert", k)` alone: any worker may train it, in any order, on any number of machines. The shards in
the folder are the truth. A lost worker makes Ray Train restart the group; what it had claimed goes back to the board, and its
experts continue after the last epoch that was saved. An expert that fails is tried again, a bounded number of times, and the
rest finish without it.
"""

from __future__ import annotations

import math
import threading
import uuid
from collections import deque
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch

from raydistill.artifacts.curated import CuratedSet, Labelled
from raydistill.artifacts.storage import Folder
from raydistill.artifacts.trajectories import ShardWriter, TrajectoryStore, missing_experts, write_layout
from raydistill.config import Config, Experts
from raydistill.core import metrics
from raydistill.core.architectures import Architecture
from raydistill.core.effort import words, work_of_training
from raydistill.core.networks import Network, build, initial_parameters
from raydistill.core.normalise import AnyNormalisation, one_hot
from raydistill.core.training import FitState, fit, predict, start
from raydistill.errors import ClusterError, DivergenceError, RaydistillError, our_own
from raydistill.galaxies.classes import ClassTree
from raydistill.log import get_logger, progress
from raydistill.pipeline.alongside import alongside
from raydistill.pipeline.cluster import beside_the_driver, device_of, one_line, workers_for
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.signals import sigint_kept
from raydistill.pipeline.stage import begun, demand_votes, recorded, settled, skipped
from raydistill.pipeline.tracking import Run, Tracker
from raydistill.seeding import fold_in

log = get_logger(__name__)

ATTEMPTS = 2  # per expert: enough for bad luck, and a poisoned one does not hold up the rest
POLL_SECONDS = 0.5

History = dict[str, list[float | None]]


@dataclass(frozen=True)
class _Job:
    """What a worker needs to know; small, it travels to every worker."""

    folder: str
    curated: str
    architecture: Architecture
    experts: Experts
    seed: int
    threads: int
    gpus: float
    tree: ClassTree | None  # that turns votes into targets; None: hard ones


def experts(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> TrajectoryStore:
    """Train the experts that are missing; the store of all of them."""
    config, place = plan.config, plan.trajectories
    if not skipped(place):
        curated = CuratedSet.open(plan.curated.folder)
        demand_votes(config, curated)
        with begun(config.resources), recorded(plan, place, tracker, parent_run, curated) as run:
            _train_all(plan, curated, run)
    return TrajectoryStore.open(place.folder)


def _train_all(plan: Plan, curated: CuratedSet, run: Run) -> None:
    config, folder = plan.config, plan.trajectories.folder
    wanted = config.experts
    network = build(config.network, curated.num_classes, curated.summary.image_size)
    side, taught = curated.summary.image_size, sum(entry.train for entry in curated.summary.classes)
    # The work of all experts, for a choice that depends on the number of workers would make the bits depend on it.
    work = work_of_training(wanted.training, network, torch.Size((taught, 3, side, side)), wanted.num_experts)
    training = settled(folder, run, wanted.training, work, config.resources.gpus)
    wanted = replace(wanted, training=training)
    write_layout(folder, network.layout, wanted.num_experts, wanted.training.epochs, ends_only=wanted.keep == "ends")
    missing = missing_experts(folder, wanted.num_experts)
    if not missing:
        return
    log.info(
        "experts: %d of %d to train, %s, %d parameters, %s",
        len(missing),
        wanted.num_experts,
        config.network.name,
        network.layout.num_parameters,
        words(training),
    )
    resources = config.resources
    job = _Job(
        folder.uri, curated.folder.uri, config.network, wanted, config.seed, resources.worker_threads, resources.gpus,
        plan.class_tree if wanted.targets == "votes" else None,
    )  # fmt: skip
    board: Any = ray.remote(num_cpus=0)(Board).options(scheduling_strategy=beside_the_driver()).remote(missing)
    with alongside(partial(_show, board, len(missing) * wanted.training.epochs, run), patience=10):
        _fit(config, folder, job, board, workers_for(resources, len(missing)))
    failures: dict[int, RaydistillError] = ray.get(board.failures.remote())
    ray.kill(board)  # Ray Train's controller, which stays as long as this Ray does, holds on to it
    if failures:
        expert, error = next(iter(failures.items()))
        if not isinstance(error, DivergenceError):
            raise error
        raise DivergenceError(
            f"{len(failures)} of {wanted.num_experts} experts diverged {ATTEMPTS} times (expert {expert}: {error.what})",
            "experts", f"lower experts.training.lr (now {wanted.training.lr:g}); the finished experts are kept",
        )  # fmt: skip
    if left := missing_experts(folder, wanted.num_experts):
        raise ClusterError(
            f"experts {left[:5]} were not finished", "experts", "run the same command again; it trains only these"
        )


def _fit(config: Config, folder: Folder, job: _Job, board: Any, workers: int) -> None:
    resources = config.resources
    # Both are typed as their ancestors, which know neither the second limit nor a number of workers that changes.
    failure_config: Any = ray.train.FailureConfig
    scaling_config: Any = ray.train.ScalingConfig
    # A group that cannot be started, for a machine of it was lost just now, counts against the second.
    failures = failure_config(max_failures=resources.max_restarts, controller_failure_limit=resources.max_restarts)
    trainer = ray.train.torch.TorchTrainer(
        _work,
        train_loop_config={"job": job, "board": board},
        torch_config=ray.train.torch.TorchConfig(backend="gloo"),  # workers share nothing; gloo starts everywhere
        scaling_config=scaling_config(
            # Begins with the machines that are there, grows with the cluster, and goes on with those that a lost one leaves.
            num_workers=(1, workers) if workers > 1 else 1,
            use_gpu=resources.gpus > 0,
            resources_per_worker={"CPU": resources.cpus} | ({"GPU": resources.gpus} if resources.gpus else {}),
        ),
        run_config=ray.train.RunConfig(
            # A finished name would resume from its end; the folder is our own memory, so every attempt is a new name.
            name=f"experts-{uuid.uuid4().hex[:8]}",
            storage_path=(folder / "partial" / "ray").uri,
            failure_config=failures,
        ),
    )
    try:
        with sigint_kept():
            trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise ClusterError(
            f"training was given up after {resources.max_restarts} restarts ({one_line(error)})",
            "experts", "run the same command again; finished experts are kept",
        ) from error  # fmt: skip


def _show(board: Any, total: int, run: Run, done: threading.Event) -> None:
    """Poll the board: a progress bar, and a point in MLflow for every finished expert."""
    groups = 1
    with progress(total, "training experts", "epochs") as shown:
        while True:
            last = done.wait(POLL_SECONDS)
            state = ray.get(board.news.remote())
            shown.update(state["epochs"], experts=f"{state['finished']} done", **state["figures"])
            if state["groups"] > groups:
                groups = state["groups"]
                log.warning("experts: another group of workers; one was lost, or the cluster has changed")
            for expert, figures in state["finals"]:
                run.metrics({f"expert/{name}": value for name, value in figures.items()}, expert)
            if last:
                return


class Board:
    """Who has which expert. Claims of a worker that comes back, or of one beyond the group's size, were lost with it."""

    def __init__(self, missing: list[int]) -> None:
        self._open = deque(missing)
        self._claims: dict[int, int] = {}  # expert -> rank
        self._attempts: dict[int, int] = {}
        self._failures: dict[int, RaydistillError] = {}
        self._epochs: dict[int, int] = {}
        self._figures: dict[str, float] = {}
        self._finals: list[tuple[int, dict[str, float]]] = []
        self._finished = 0
        self._groups = 0

    def join(self, rank: int, world_size: int) -> None:
        """A worker begins, perhaps in place of one that was lost."""
        self._groups += rank == 0
        lost = [expert for expert, holder in self._claims.items() if holder == rank or holder >= world_size]
        for expert in lost:
            del self._claims[expert]
            self._open.appendleft(expert)

    def claim(self, rank: int) -> int | None:
        """The next expert to train; None when there is none left."""
        if not self._open:
            return None
        expert = self._open.popleft()
        self._claims[expert] = rank
        return expert

    def epoch(self, expert: int, epoch: int, figures: dict[str, float]) -> None:
        self._epochs[expert], self._figures = epoch, figures

    def finished(self, expert: int, figures: dict[str, float]) -> None:
        self._claims.pop(expert, None)
        self._finished += 1
        self._finals.append((expert, figures))

    def failed(self, expert: int, why: RaydistillError) -> None:
        """Back to the end of the queue, or given up."""
        self._claims.pop(expert, None)
        self._attempts[expert] = self._attempts.get(expert, 0) + 1
        if self._attempts[expert] < ATTEMPTS:
            self._open.append(expert)
        else:
            self._failures[expert] = why

    def failures(self) -> dict[int, RaydistillError]:
        return self._failures

    def news(self) -> dict[str, Any]:
        """Progress since the start, and the experts that finished since the last call."""
        finals, self._finals = self._finals, []
        return {
            "epochs": sum(self._epochs.values()),
            "finished": self._finished,
            "figures": self._figures,
            "finals": finals,
            "groups": self._groups,
        }


# ---- in the workers ----


def _work(loop: dict[str, Any]) -> None:
    """Ray Train's loop of one worker. It reports once, at the end: a report is a barrier, and experts are independent."""
    job, board = loop["job"], loop["board"]
    context = ray.train.get_context()
    rank = context.get_world_rank()
    ray.get(board.join.remote(rank, context.get_world_size()))
    torch.set_num_threads(job.threads)
    trainer = _Trainer(job)
    while (expert := ray.get(board.claim.remote(rank))) is not None:
        try:
            figures = trainer.train(expert, lambda epoch, now, k=expert: board.epoch.remote(k, epoch, now))
        except Exception as error:  # one poisoned expert must not cost the others their workers
            log.exception("expert %d failed", expert)
            board.failed.remote(expert, our_own(error) or _poisoned(expert, error))
        else:
            board.finished.remote(expert, figures)
    ray.get(board.failures.remote())  # an actor answers in order: all that was told above has arrived
    ray.train.report({"rank": rank})


def _poisoned(expert: int, error: Exception) -> RaydistillError:
    what = f"expert {expert} failed {ATTEMPTS} times ({type(error).__name__}: {one_line(error)})"
    return RaydistillError(
        what, "experts", "the others are kept; the traceback is in the worker's log of Ray's session"
    )


class _Trainer:
    """The curated set in memory (on the device), and the training of one expert after another."""

    def __init__(self, job: _Job) -> None:
        curated = CuratedSet.open(job.curated, verify=False)  # the driver has verified it
        self._job, self._folder = job, Folder(job.folder)
        self._device = device_of(job.gpus)
        self._network: Network = build(job.architecture, curated.num_classes, curated.summary.image_size)
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
            state = start(initial_parameters(self._network, seed))
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
        predicted = predict(self._network, state.average_P.to(images), images)
        matrix = metrics.confusion(predicted, labels, self._num_classes)
        now = {
            "loss": state.loss,
            "accuracy": metrics.accuracy(matrix),
            "balanced_accuracy": metrics.balanced_accuracy(matrix),
        }
        for name, value in now.items():
            history[name].append(value if math.isfinite(value) else None)  # no loss before the first epoch
        return now


def _last(history: History) -> dict[str, float]:
    return {name: value for name, values in history.items() if (value := values[-1]) is not None}


def _to(state: FitState, device: str) -> FitState:
    tensors = (state.theta_P, state.momentum_P, state.average_P)
    theta_P, momentum_P, average_P = (tensor.to(device) for tensor in tensors)
    return state._replace(theta_P=theta_P, momentum_P=momentum_P, average_P=average_P)
