"""The Ray tasks of an evaluation: train and score a network, or score experts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from raydistill.errors import DivergenceError
from raydistill.learning.architectures import Architecture
from raydistill.learning.networks import Network, initial_parameters, shared_network
from raydistill.learning.options.training import Training
from raydistill.learning.training import Evaluation, evaluate, lr_schedule, train
from raydistill.runtime.resources import device_of
from raydistill.seeding import fold_in
from raydistill.stages.evaluate.artifact import DIVERGED
from raydistill.stages.evaluate.fits import LearningRate, Split, TrainingSet
from raydistill.stages.evaluate.group_robustness import Groups, measure, predict_probabilities
from raydistill.stages.experts.artifact import TrajectoryStore


class FitTask(NamedTuple):
    """A fit without its training set, which Ray's object store holds once for all."""

    training: Training
    lr: LearningRate
    architecture: Architecture
    seed: int
    num_classes: int
    groups: tuple[Groups, ...] = ()


def train_fit(
    data: TrainingSet, splits: tuple[Split, Split], task: FitTask, threads: int, gpus: float
) -> dict[str, Any]:
    """Train one network and score it on the validation and test splits.

    A network that diverges gets the validation score `DIVERGED`; its test figures are those of its
    initial parameters.
    """
    device = device_of(gpus)
    network, theta_P, diverged = _train(data, task, threads, device)
    on_validation, on_test = (
        evaluate(network, theta_P, images.to(device), labels.to(device), task.num_classes) for images, labels in splits
    )
    row = {"validation": DIVERGED if diverged else on_validation.balanced_accuracy} | _row(on_test)
    return row | _group_figures(network, theta_P, (splits[1][0].to(device), splits[1][1]), task.groups)


def train_parameters(data: TrainingSet, task: FitTask, threads: int, gpus: float) -> Tensor:
    """Return the parameters, float32 [P] on the CPU, of the network of `train_fit`."""
    return _train(data, task, threads, device_of(gpus))[1].cpu()


def _train(data: TrainingSet, task: FitTask, threads: int, device: str) -> tuple[Network, Tensor, bool]:
    """Return the network, its trained parameters, and whether it diverged.

    A diverged network has its initial parameters.
    """
    torch.set_num_threads(threads)
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
    threads: int,
    gpus: float,
    groups: tuple[Groups, ...] = (),
) -> list[dict[str, Any]]:
    """Score the final parameters of some experts on the test split."""
    torch.set_num_threads(threads)
    device = device_of(gpus)
    images, labels = (tensor.to(device) for tensor in test)
    trajectories = TrajectoryStore.open(store, verify=False)  # the driver has verified it
    network = shared_network(architecture, num_classes, images.shape[-1])
    final_parameters = (trajectories(expert, trajectories.num_epochs).to(device) for expert in experts)
    return [
        _row(evaluate(network, theta_P, images, labels, num_classes))
        | _group_figures(network, theta_P, (images, labels), groups)
        for theta_P in final_parameters
    ]


def _group_figures(network: Network, theta_P: Tensor, test: Split, groups: tuple[Groups, ...]) -> dict[str, Any]:
    """Return the figures of `group_robustness` by column; nothing without groups."""
    if not groups:
        return {}
    images, labels_N = test
    probabilities_NK = predict_probabilities(network, theta_P, images)
    return {"groups": [measure(one, probabilities_NK, labels_N.cpu().numpy()) for one in groups]}


def _row(result: Evaluation) -> dict[str, Any]:
    return {
        "accuracy": result.accuracy,
        "balanced_accuracy": result.balanced_accuracy,
        "confusion": result.confusion_KK.reshape(-1).tolist(),
    }
