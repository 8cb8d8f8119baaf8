"""The evaluator: train networks as Ray tasks, and cache the result of each."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from torch import Tensor

from raydistill.config import Resources
from raydistill.learning.architectures import Architecture
from raydistill.log import Progress, get_logger, progress
from raydistill.runtime.failures import translate_errors
from raydistill.runtime.resources import choose_num_workers
from raydistill.runtime.tasks import run_tasks, worker_task
from raydistill.stages.evaluate.artifact import DIVERGED
from raydistill.stages.evaluate.fit_cache import FitCache
from raydistill.stages.evaluate.fits import Fit, LearningRate, Split
from raydistill.stages.evaluate.group_robustness import Groups
from raydistill.stages.evaluate.lr_search import MAX_ROUNDS, LrSearch
from raydistill.stages.evaluate.worker import FitTask, evaluate_experts, train_fit, train_parameters
from raydistill.stages.experts.artifact import TrajectoryStore
from raydistill.text import shown_name

TASKS_PER_WORKER = 4  # of the experts' evaluation; more than one, so that progress shows

log = get_logger(__name__)


@dataclass(frozen=True)
class Evaluator:
    """Train networks and score them on the validation and test splits.

    Parameters
    ----------
    cache
        Where results are looked up and stored.
    resources
        CPUs, GPUs and threads of a worker, and the number of workers.
    validation, test
        The splits on which networks are scored.
    num_classes
        Number of classes.
    evaluated_on
        Text that identifies the validation and test images; part of every cache key.
    groups
        Bins of the test galaxies, by nuisance.
    """

    cache: FitCache
    resources: Resources
    validation: Split
    test: Split
    num_classes: int
    evaluated_on: str
    groups: tuple[Groups, ...] = ()

    def run(self, searches: Sequence[LrSearch]) -> list[dict[str, Any]]:
        """Choose a learning rate in each search, and train its networks.

        The rows of the networks are in the order of the searches.
        """
        total = sum(search.min_networks for search in searches)
        with progress(total, "evaluating", "networks") as shown, translate_errors("evaluate"):
            scores = self._search_lrs(searches, shown)
            selected = [search.selected_fits(by_lr) for search, by_lr in zip(searches, scores, strict=True)]
            rows = self.train([fit for fits in selected for fit in fits], shown)
        remaining = iter(rows)
        for fits in selected:
            diverged = sum(next(remaining)["validation"] == DIVERGED for _ in fits)
            if diverged:
                log.warning(
                    "evaluate: %d of %d networks of %s diverged; they are scored with their initial parameters",
                    diverged, len(fits), fits[0].title,
                )  # fmt: skip
        return rows

    def _search_lrs(self, searches: Sequence[LrSearch], shown: Progress) -> list[dict[LearningRate, float]]:
        """Return each search's validation scores by learning rate; rounds are shared."""
        scores: list[dict[LearningRate, float]] = [{} for _ in searches]
        for number in range(MAX_ROUNDS):
            trials = [(n, lr) for n, search in enumerate(searches) for lr in search.next_lrs(scores[n])]
            fits = [fit for n, lr in trials for fit in searches[n].trials(lr)]
            if number and shown.total is not None:
                shown.set_total(shown.total + len(fits))  # the first round is part of `min_networks`
            rows = iter(self.train(fits, shown))
            for n, lr in trials:
                scores[n][lr] = statistics.mean(next(rows)["validation"] for _ in searches[n].trials(lr))
        for search, by_lr in zip(searches, scores, strict=True):
            if search.next_lrs(by_lr):
                log.warning("evaluate: %s", search.boundary_warning(by_lr))
        return scores

    def train(self, fits: Sequence[Fit], shown: Progress) -> list[dict[str, Any]]:
        """Return a row per fit: validation, accuracies, confusion matrix and labels.

        The accuracies are `accuracy` and `balanced_accuracy`. Cached fits are not trained.
        """
        digests = [fit.digest(self.evaluated_on) for fit in fits]
        rows = {digest: row for digest in set(digests) if (row := self.cache.load_result(digest)) is not None}
        missing = {d: fit for d, fit in zip(digests, fits, strict=True) if d not in rows}
        if shown.total is not None:
            shown.set_total(shown.total - (len(fits) - len(missing)))  # cached, or trained in the search
        rows |= self._train_missing(missing, shown)
        return [rows[digest] | fit.labels() for digest, fit in zip(digests, fits, strict=True)]

    def _train_missing(self, missing: dict[str, Fit], shown: Progress) -> dict[str, dict[str, Any]]:
        """Train fits as Ray tasks, one per worker; cache and return their rows by digest."""
        resources, rows = self.resources, {}
        task = worker_task(train_fit, resources)
        splits = ray.put((self.validation, self.test))
        sets = {fit.data.digest: fit.data for fit in missing.values()}
        stored = {digest: ray.put(data) for digest, data in sets.items()}

        def start(digest: str) -> Any:
            fit = missing[digest]
            work = FitTask(fit.training, fit.lr, fit.architecture, fit.seed, self.num_classes, self.groups)
            return task.remote(stored[fit.data.digest], splits, work, resources.worker_threads, resources.gpus)

        for digest, row in run_tasks(list(missing), start, resources):
            self.cache.store_result(digest, row)
            rows[digest] = row
            shown.advance(training_set=shown_name(missing[digest].data.name), accuracy=row["balanced_accuracy"])
        return rows

    def parameters(self, fit: Fit) -> Tensor:
        """Train the network of a fit again, and return its parameters, float32 [P]."""
        work = FitTask(fit.training, fit.lr, fit.architecture, fit.seed, self.num_classes)
        task = worker_task(train_parameters, self.resources)
        with translate_errors("evaluate"):
            theta_P: Tensor = ray.get(task.remote(fit.data, work, self.resources.worker_threads, self.resources.gpus))
        return theta_P

    def experts(self, store: TrajectoryStore, architecture: Architecture) -> list[dict[str, Any]]:
        """Return a row per expert, scored on the test split; nothing is trained."""
        resources, test, count = self.resources, ray.put(self.test), store.num_experts
        # Several experts share a task: on GPUs every task starts a process.
        size = math.ceil(count / (TASKS_PER_WORKER * choose_num_workers(resources, count)))
        task = worker_task(evaluate_experts, resources)
        options = (architecture, self.num_classes, resources.worker_threads, resources.gpus, self.groups)
        groups = [range(first, min(first + size, count)) for first in range(0, count, size)]
        rows: list[dict[str, Any]] = []
        with progress(count, "evaluating experts", "networks") as shown, translate_errors("evaluate"):
            for reference in [task.remote(store.folder.uri, group, test, *options) for group in groups]:
                results = ray.get(reference)
                rows += results
                shown.advance(len(results), accuracy=results[-1]["balanced_accuracy"])
        labels = {"subject": "experts", "protocol": "", "network": architecture.name, "draw": 0, "lr": None}
        return [labels | {"seed": expert} | row for expert, row in enumerate(rows)]
