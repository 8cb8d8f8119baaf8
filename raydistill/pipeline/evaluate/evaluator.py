"""Training many networks on many training sets, as Ray tasks, and remembering every one of them.

A finished fit is kept under the digest of all that determines it: a killed evaluation goes on, and two evaluations share their
baselines. Where a learning rate is to be chosen, the first networks of a contest try each rate, the validation images choose, and all
networks of the contest train with the chosen one. While the best rate is the largest or the smallest that was tried, the next one beyond
is tried too: no subject loses for want of a rate.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import ray
import torch
from torch import Tensor

from raydistill.artifacts.evaluation import DIVERGED
from raydistill.artifacts.manifest import REVISIONS
from raydistill.artifacts.trajectories import TrajectoryStore
from raydistill.config import Resources, plain, sources
from raydistill.core.architectures import Architecture
from raydistill.core.networks import Network, build, initial_parameters
from raydistill.core.training import Evaluation, Training, evaluate, lr_schedule, train
from raydistill.errors import DivergenceError
from raydistill.log import get_logger, progress
from raydistill.pipeline.runtime.failures import translate_errors
from raydistill.pipeline.runtime.resources import (
    CAPACITY_CHECK_INTERVAL,
    choose_num_workers,
    device_of,
    ensure_schedulable,
)
from raydistill.seeding import fold_in
from raydistill.storage import Folder

TRIALS = 3  # networks that try a rate
PIECES_PER_WORKER = 4  # of the experts that are judged, so that there is progress to see
ROUNDS = 4  # of trials: the rates of the grid, then one more at a time

log = get_logger(__name__)

Split = tuple[Tensor, Tensor]  # normalised images [N, C, H, W], labels [N]
Rate = float | None  # None: the training set's own rates


@dataclass(frozen=True)
class TrainingSet:
    """A training set to be judged. student_lrs: its own learning rates, if it brings any."""

    subject: str
    draw: int
    images_NCHW: Tensor
    targets_NK: Tensor
    student_lrs: Tensor | None = None

    @cached_property
    def digest(self) -> str:
        found = hashlib.sha256()
        for tensor in (self.images_NCHW, self.targets_NK, self.student_lrs):
            if tensor is not None:
                found.update(tensor.cpu().contiguous().numpy().data)
        return found.hexdigest()


@dataclass(frozen=True)
class Fit:
    """One network to train. lr: in place of the one in `training`."""

    data: TrainingSet
    protocol: str
    training: Training
    lr: Rate
    architecture: Architecture
    seed: int

    def digest(self, judged_on: str) -> str:
        how = [plain(self.training), self.lr, plain(self.architecture), sources(self.architecture), self.seed]
        return hashlib.sha256(
            json.dumps([REVISIONS["evaluation"], self.data.digest, how, judged_on]).encode()
        ).hexdigest()

    def labels(self) -> dict[str, Any]:
        """What a row says of its fit; not part of what is kept, for another evaluation may name it otherwise."""
        names = {"subject": self.data.subject, "protocol": self.protocol, "network": self.architecture.name}
        return {**names, "draw": self.data.draw, "seed": self.seed % 2**31, "lr": self.lr}


@dataclass(frozen=True)
class LrSearch:
    """Networks that differ in their seed (or draw) alone. lrs: the rates to choose from, or the only one."""

    fits: tuple[Fit, ...]
    lrs: tuple[Rate, ...]

    @property
    def training(self) -> Training:
        return self.fits[0].training

    @property
    def architecture(self) -> Architecture:
        return self.fits[0].architecture

    @property
    def num_networks(self) -> int:
        """At least: with those that try the rates of the grid."""
        return len(self.fits) + sum(len(self.trials(lr)) for lr in self.untried({}))

    def trials(self, lr: Rate) -> list[Fit]:
        return [replace(fit, lr=lr) for fit in self.fits[:TRIALS]]

    def untried(self, scores: Mapping[Rate, float]) -> list[Rate]:
        """Rates to try next, given the validation of those that have been: all, then the one beyond the best, if that is at an end."""
        rates = sorted(set(self.lrs), key=_size)
        if len(rates) < 2:
            return []
        if not scores:
            return rates
        tried, best = sorted(lr for lr in scores if lr is not None), self.best(scores)
        if len(tried) < 2:
            return []
        for end, inner in ((tried[0], tried[1]), (tried[-1], tried[-2])):
            if best == end:
                return [float(f"{end * end / inner:.2g}")]
        return []

    def best(self, scores: Mapping[Rate, float]) -> Rate:
        """The rate that did best on validation images; of equals the set's own, then the smaller."""
        return max(sorted(scores, key=_size), key=lambda lr: scores[lr])

    def at_the_end(self, scores: Mapping[Rate, float]) -> str:
        fit, lr = self.fits[0], self.best(scores)
        return f"of all rates that {fit.data.subject} tried under {fit.protocol}, the best lies at the end ({lr:g}); widen its lr_grid"

    def chosen(self, scores: Mapping[Rate, float]) -> list[Fit]:
        lr = self.best(scores) if scores else self.lrs[0]
        return [replace(fit, lr=lr) for fit in self.fits]


def _size(lr: Rate) -> float:
    return 0.0 if lr is None else lr


@dataclass(frozen=True)
class Evaluator:
    """Trains fits and predicts the validation and test galaxies. kept: where finished fits are remembered."""

    kept: Folder
    resources: Resources
    validation: Split
    test: Split
    num_classes: int
    judged_on: str  # content digest of the curated set, and of the normalisation where that is another's

    def decide(self, contests: Sequence[LrSearch]) -> list[dict[str, Any]]:
        """A row per network, in the order of the contests."""
        scores: list[dict[Rate, float]] = [{} for _ in contests]
        for _ in range(ROUNDS):
            trials = [(n, lr) for n, contest in enumerate(contests) for lr in contest.untried(scores[n])]
            rows = iter(self.run([f for n, lr in trials for f in contests[n].trials(lr)], "choosing learning rates"))
            for n, lr in trials:
                scores[n][lr] = statistics.mean(next(rows)["validation"] for _ in contests[n].trials(lr))
        for contest, found in zip(contests, scores, strict=True):
            if contest.untried(found):
                log.warning("evaluate: %s", contest.at_the_end(found))
        chosen = [contest.chosen(found) for contest, found in zip(contests, scores, strict=True)]
        networks = self.run([fit for group in chosen for fit in group], "evaluating")
        remaining = iter(networks)
        for group in chosen:
            diverged = sum(next(remaining)["validation"] == DIVERGED for _ in group)
            if diverged:
                who = f"{diverged} of {len(group)} networks of {group[0].data.subject} under {group[0].protocol}"
                log.warning("evaluate: %s diverged, and count as what they were before training", who)
        return networks

    def run(self, fits: Sequence[Fit], description: str) -> list[dict[str, Any]]:
        """A row per fit: {validation, accuracy, balanced_accuracy, confusion} and its labels. Known fits are not trained again."""
        digests = [fit.digest(self.judged_on) for fit in fits]
        rows = {digest: row for digest in set(digests) if (row := self._known(digest)) is not None}
        missing = {d: fit for d, fit in zip(digests, fits, strict=True) if d not in rows}
        if missing:
            with (
                progress(len(rows) + len(missing), description, "networks", start=len(rows)) as shown,
                translate_errors("evaluate"),
            ):
                self._train(missing, rows, shown)
        return [rows[digest] | fit.labels() for digest, fit in zip(digests, fits, strict=True)]

    def _known(self, digest: str) -> dict[str, Any] | None:
        """What is remembered of a fit; None of one that is not, or whose file is damaged."""
        if not self.kept.exists(f"{digest}.json"):
            return None
        try:
            row: dict[str, Any] = json.loads(self.kept.read(f"{digest}.json"))
        except ValueError:
            return None
        return row

    def experts(self, store: TrajectoryStore, architecture: Architecture) -> list[dict[str, Any]]:
        """A row for each expert; there is nothing to train."""
        resources, seen, count = self.resources, ray.put(self.test), store.num_experts
        # Several to a task: on GPUs each is a process that has to start.
        size = math.ceil(count / (PIECES_PER_WORKER * choose_num_workers(resources, count)))
        task: Any = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=resources.max_restarts)(
            _judge_experts
        )
        how = (architecture, self.num_classes, resources.worker_threads, resources.gpus)
        pieces = [range(first, min(first + size, count)) for first in range(0, count, size)]
        with progress(count, "judging experts", "networks") as shown, translate_errors("evaluate"):
            rows = []
            for reference in [task.remote(store.folder.uri, piece, seen, *how) for piece in pieces]:
                found = ray.get(reference)
                rows += found
                shown.advance(len(found), accuracy=found[-1]["balanced_accuracy"])
        of_all = {"subject": "experts", "protocol": "", "network": architecture.name, "draw": 0, "lr": None}
        return [of_all | {"seed": expert} | row for expert, row in enumerate(rows)]

    def _train(self, missing: dict[str, Fit], rows: dict[str, dict[str, Any]], shown: Any) -> None:
        resources = self.resources
        workers = choose_num_workers(resources, len(missing))
        # Given here and not as options, num_gpus makes Ray end a process after its task: CUDA would stay on the GPU it began on.
        task: Any = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=resources.max_restarts)(
            _train
        )
        splits = ray.put((self.validation, self.test))
        sets = {fit.data.digest: fit.data for fit in missing.values()}
        stored = {digest: ray.put(data) for digest, data in sets.items()}
        queue = list(missing.items())[::-1]
        running: dict[Any, str] = {}
        while queue or running:
            while queue and len(running) < workers:
                digest, fit = queue.pop()
                how = (fit.training, fit.lr, fit.architecture, fit.seed, self.num_classes)
                reference = task.remote(stored[fit.data.digest], splits, how, resources.worker_threads, resources.gpus)
                running[reference] = digest
            ended, _ = ray.wait(list(running), num_returns=1, timeout=CAPACITY_CHECK_INTERVAL)
            if not ended:  # are there still machines for it?
                ensure_schedulable(resources, resources.cpus, resources.gpus, "")
            for reference in ended:
                digest, row = running.pop(reference), ray.get(reference)
                self.kept.write(f"{digest}.json", json.dumps(row).encode())
                rows[digest] = row
                shown.advance(subject=missing[digest].data.subject, accuracy=row["balanced_accuracy"])


@lru_cache(maxsize=8)
def _network(architecture: Architecture, num_classes: int, image_size: int) -> Network:
    """Once in a worker: what is compiled for a network is kept with it."""
    return build(architecture, num_classes, image_size)


def _train(data: TrainingSet, splits: tuple[Split, Split], how: Any, threads: int, gpus: float) -> dict[str, Any]:
    """Train one network and predict both splits; a training that diverges is as bad as can be, and says so by its validation."""
    training, lr, architecture, seed, num_classes = how
    torch.set_num_threads(threads)
    device = device_of(gpus)
    network = _network(architecture, num_classes, data.images_NCHW.shape[-1])
    theta_P = initial_parameters(network, fold_in(seed, "initial")).to(device)
    training = training if lr is None else replace(training, lr=lr)
    lr_in = lr_schedule(data.student_lrs, training) if lr is None and data.student_lrs is not None else None
    pixels, targets = data.images_NCHW.to(device), data.targets_NK.to(device)
    diverged = False
    try:
        theta_P = train(network, theta_P, pixels, targets, training, fold_in(seed, "training"), lr_in)
    except DivergenceError:
        diverged = True
    on_validation, on_test = (
        evaluate(network, theta_P, images.to(device), labels.to(device), num_classes) for images, labels in splits
    )
    return {"validation": DIVERGED if diverged else on_validation.balanced_accuracy} | _row(on_test)


def _judge_experts(
    store: str, piece: range, test: Split, architecture: Architecture, num_classes: int, threads: int, gpus: float
) -> list[dict[str, Any]]:
    torch.set_num_threads(threads)
    device = device_of(gpus)
    images, labels = (tensor.to(device) for tensor in test)
    experts = TrajectoryStore.open(store, verify=False)  # nothing is made of it but figures
    network = _network(architecture, num_classes, images.shape[-1])
    ends = (experts(expert, experts.num_epochs).to(device) for expert in piece)
    return [_row(evaluate(network, theta_P, images, labels, num_classes)) for theta_P in ends]


def _row(found: Evaluation) -> dict[str, Any]:
    return {
        "accuracy": found.accuracy,
        "balanced_accuracy": found.balanced_accuracy,
        "confusion": found.confusion_KK.reshape(-1).tolist(),
    }
