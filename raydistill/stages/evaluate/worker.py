"""Train and score the networks of an evaluation."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, NamedTuple

import ray
import torch
from torch import Tensor

from raydistill.errors import DivergenceError
from raydistill.learning.architectures import Architecture
from raydistill.learning.grids import MAX_ROUNDS
from raydistill.learning.networks import Network, initial_parameters, shared_network
from raydistill.learning.options import Training
from raydistill.learning.training import Evaluation, evaluate, evaluation_of, lr_schedule, predict_logits, train
from raydistill.log import Progress, get_logger, progress
from raydistill.runtime.failures import translate_errors
from raydistill.runtime.resources import Processor, choose_num_workers
from raydistill.runtime.tasks import FitRunner, map_tasks, worker_task
from raydistill.seeding import fold_in
from raydistill.stages.evaluate.artifact import DIVERGED
from raydistill.stages.evaluate.fits import Fit, LearningRate, LrSearch, Split, TrainingSet
from raydistill.stages.evaluate.measures.groups import Groups, measure
from raydistill.stages.experts.artifact import TrajectoryStore
from raydistill.text import shown_name

# The Ray tasks of an evaluation: train and score a network, or score experts.


class FitTask(NamedTuple):
    """A fit without its training set, which Ray's object store holds once for all."""

    training: Training
    lr: LearningRate
    architecture: Architecture
    seed: int
    num_classes: int
    groups: tuple[Groups, ...] = ()


def train_fit(data: TrainingSet, splits: tuple[Split, Split], task: FitTask, processor: Processor) -> dict[str, Any]:
    """Train one network and score it on the validation and test splits.

    A network that diverges gets the validation score `DIVERGED`; its test figures are those of its
    initial parameters.
    """
    device = processor.enter()
    network, theta_P, diverged = _train(data, task, device)
    on_validation, on_test = ((images.to(device), labels.to(device)) for images, labels in splits)
    validation = evaluate(network, theta_P, *on_validation, task.num_classes).balanced_accuracy
    figures = _test_figures(network, theta_P, on_test, task.num_classes, task.groups)
    return {"validation": DIVERGED if diverged else validation} | figures


def train_parameters(data: TrainingSet, task: FitTask, processor: Processor) -> Tensor:
    """Return the parameters, float32 [P] on the CPU, of the network of `train_fit`."""
    return _train(data, task, processor.enter())[1].cpu()


def _train(data: TrainingSet, task: FitTask, device: str) -> tuple[Network, Tensor, bool]:
    """Return the network, its trained parameters, and whether it diverged.

    A diverged network has its initial parameters.
    """
    network = shared_network(task.architecture, task.num_classes, data.images_NCHW.shape[-1])
    theta_P = initial_parameters(network, fold_in(task.seed, "initial")).to(device)
    training = task.training if task.lr is None else replace(task.training, lr=task.lr)
    schedule = lr_schedule(data.student_lrs, training) if task.lr is None and data.student_lrs is not None else None
    pixels, targets = data.images_NCHW.to(device), data.targets_NK.to(device)
    try:
        theta_P = train(network, theta_P, pixels, targets, training, fold_in(task.seed, "training"), schedule)
    except DivergenceError:
        return network, theta_P, True
    return network, theta_P, False


def evaluate_experts(
    store: str,
    experts: range,
    test: Split,
    architecture: Architecture,
    num_classes: int,
    processor: Processor,
    groups: tuple[Groups, ...] = (),
) -> list[dict[str, Any]]:
    """Score the final parameters of some experts on the test split."""
    device = processor.enter()
    on_test = test[0].to(device), test[1].to(device)
    trajectories = TrajectoryStore.open(store, verify=False)  # the driver has verified it
    network = shared_network(architecture, num_classes, on_test[0].shape[-1])
    final_parameters = (trajectories(expert, trajectories.num_epochs).to(device) for expert in experts)
    return [_test_figures(network, theta_P, on_test, num_classes, groups) for theta_P in final_parameters]


@torch.no_grad()
def _test_figures(
    network: Network, theta_P: Tensor, test: Split, num_classes: int, groups: tuple[Groups, ...]
) -> dict[str, Any]:
    """Return the columns of `row_of`, and `groups` with the figures of each of them."""
    logits_NK = predict_logits(network, theta_P, test[0])
    row = row_of(evaluation_of(logits_NK, test[1], num_classes))
    if groups:
        probabilities_NK, labels_N = logits_NK.double().softmax(dim=1).cpu().numpy(), test[1].cpu().numpy()
        row["groups"] = [measure(group, probabilities_NK, labels_N) for group in groups]
    return row


def row_of(result: Evaluation) -> dict[str, Any]:
    """Return the columns of `runs.parquet` that score a network."""
    return {
        "accuracy": result.accuracy,
        "balanced_accuracy": result.balanced_accuracy,
        "calibration_error": result.calibration_error,
        "confusion": result.confusion_KK.reshape(-1).tolist(),
        "predicted": result.predicted_N.tolist(),
    }


# The evaluator: choose learning rates, and train and score networks.

TASKS_PER_WORKER = 4  # of the experts' evaluation; more than one, so that progress shows

log = get_logger(__name__)


@dataclass(kw_only=True)
class Evaluator(FitRunner[Fit, dict[str, Any]]):
    """Train networks and score them on the validation and test splits.

    Parameters
    ----------
    validation, test
        The splits on which networks are scored.
    num_classes
        Number of classes.
    evaluated_on
        Text that identifies the validation and test images; part of every key.
    groups
        Bins of the test galaxies, by nuisance.
    """

    stage, task, suffix = "evaluate", train_fit, "json"
    validation: Split
    test: Split
    num_classes: int
    evaluated_on: str
    groups: tuple[Groups, ...] = ()

    def key(self, fit: Fit) -> str:
        return fit.digest(self.evaluated_on)

    def train_missing(self, fits: Sequence[Fit], bar: Progress) -> None:
        """Train fits, and store their rows; those of one training set share its copy."""
        self._splits = ray.put((self.validation, self.test))
        self._sets = {digest: ray.put(data) for digest, data in {fit.data.digest: fit.data for fit in fits}.items()}
        super().train_missing(fits, bar)
        del self._splits, self._sets

    def arguments(self, fit: Fit) -> tuple[Any, ...]:
        work = FitTask(fit.training, fit.lr, fit.architecture, fit.seed, self.num_classes, self.groups)
        return self._sets[fit.data.digest], self._splits, work, Processor.of(self.resources)

    def pack(self, result: dict[str, Any]) -> bytes:
        return json.dumps(result).encode()

    def unpack(self, data: bytes) -> dict[str, Any]:
        return dict(json.loads(data))

    def shown(self, fit: Fit, result: dict[str, Any]) -> dict[str, Any]:
        return {"training_set": shown_name(fit.data.name), "accuracy": result["balanced_accuracy"]}

    def evaluate(self, searches: Sequence[LrSearch]) -> list[dict[str, Any]]:
        """Choose a learning rate in each search, and train its networks.

        The rows of the networks are in the order of the searches.
        """
        total = sum(search.min_networks for search in searches)
        with progress(total, "evaluating", "networks") as shown, translate_errors("evaluate"):
            scores = self._search_lrs(searches, shown)
            selected = [search.selected_fits(by_lr) for search, by_lr in zip(searches, scores, strict=True)]
            rows = self._rows([fit for fits in selected for fit in fits], shown)
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
        """Return each search's validation scores by learning rate; rounds are shared.

        With several rates, those of the finalists.
        """
        first: list[dict[LearningRate, float]] = [{} for _ in searches]
        for number in range(MAX_ROUNDS):
            trials = [(n, lr) for n, search in enumerate(searches) for lr in search.next_lrs(first[n])]
            if number and shown.total is not None:
                shown.set_total(shown.total + len(trials))  # the first round is part of `min_networks`
            rows = self._rows([searches[n].first_trial(lr) for n, lr in trials], shown)
            for (n, lr), row in zip(trials, rows, strict=True):
                first[n][lr] = row["validation"]
        finals = [(n, lr) for n, search in enumerate(searches) for lr in search.finalists(first[n])]
        further = iter(self._rows([fit for n, lr in finals for fit in searches[n].final_trials(lr)], shown))
        scores: list[dict[LearningRate, float]] = [{} for _ in searches]
        for n, lr in finals:
            others = [next(further)["validation"] for _ in searches[n].final_trials(lr)]
            scores[n][lr] = statistics.mean([first[n][lr], *others])
        for search, by_lr in zip(searches, first, strict=True):
            if search.next_lrs(by_lr):
                log.warning("evaluate: %s", search.boundary_warning(by_lr))
        return scores

    def _rows(self, fits: Sequence[Fit], shown: Progress) -> list[dict[str, Any]]:
        """Return a row per fit: validation, accuracies, confusion matrix and labels.

        The accuracies are `accuracy` and `balanced_accuracy`.
        """
        missing = self.missing(fits)
        if shown.total is not None:
            shown.set_total(shown.total - (len(fits) - len(missing)))  # cached, or trained in the search
        self.train_missing(missing, shown)
        return [row | fit.labels() for fit, row in zip(fits, self.results(fits), strict=True)]

    def parameters(self, fit: Fit) -> Tensor:
        """Train the network of a fit again, and return its parameters, float32 [P]."""
        work = FitTask(fit.training, fit.lr, fit.architecture, fit.seed, self.num_classes)
        task = worker_task(train_parameters, self.resources)
        with translate_errors("evaluate"):
            theta_P: Tensor = ray.get(task.remote(fit.data, work, Processor.of(self.resources)))
        return theta_P

    def experts(self, store: TrajectoryStore, architecture: Architecture) -> list[dict[str, Any]]:
        """Return a row per expert, scored on the test split; nothing is trained."""
        resources, test, count = self.resources, ray.put(self.test), store.num_experts
        # Several experts share a task: on GPUs every task starts a process.
        size = math.ceil(count / (TASKS_PER_WORKER * choose_num_workers(resources, count)))
        groups = [range(first, min(first + size, count)) for first in range(0, count, size)]
        options = (architecture, self.num_classes, Processor.of(resources), self.groups)
        rows = map_tasks(
            evaluate_experts, groups, lambda group: (store.folder.uri, group, test, *options), resources,
            "evaluate", "evaluating experts", "networks", list(map(len, groups)),
        )  # fmt: skip
        labels = {"subject": "experts", "protocol": "", "network": architecture.name, "draw": 0, "lr": None}
        return [labels | {"seed": expert} | row for expert, row in enumerate(chain.from_iterable(rows))]


# Retrain a network of an evaluation to keep its parameters, which are not cached.


class TrainedClassifier(NamedTuple):
    """Parameters of a network, float32 [P], and its validation balanced accuracy."""

    theta_P: Tensor
    validation: float


def train_classifier(
    evaluator: Evaluator, searches: Sequence[LrSearch], rows: Sequence[dict[str, Any]]
) -> list[TrainedClassifier]:
    """Return the distilled set's first network of the first protocol; [] if diverged.

    It is not the best of the networks, so that its test accuracy is as unbiased as theirs.

    Parameters
    ----------
    evaluator
        The evaluator that has trained the networks.
    searches
        Its searches.
    rows
        Its results, in the order of the searches.
    """
    fit = next(search.fits[0] for search in searches if search.fits[0].data.name == "distilled")
    row = next(row for row in rows if row["subject"] == "distilled")
    if row["validation"] == DIVERGED:
        return []
    return [TrainedClassifier(evaluator.parameters(replace(fit, lr=row["lr"])), row["validation"])]
