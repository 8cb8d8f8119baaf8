"""Train a network on labelled images by epochs, for experts and evaluation.

`fit` yields the state after every epoch, or after each of several equal parts of it, so its caller
can save, stop or resume. Part e draws its augmentation, and the batch order if it is a whole epoch,
from `fold_in(seed, e)` alone. A run that resumes after part e therefore computes the same part
e + 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from raydistill.learning import metrics
from raydistill.learning.arithmetic import Precision, fill_auto
from raydistill.learning.augment import Augmentation
from raydistill.learning.compiling import compiled
from raydistill.learning.decomposition import Decomposition
from raydistill.learning.losses import student_loss
from raydistill.learning.networks import Network
from raydistill.learning.options import Training
from raydistill.learning.sgd import FitState, descend, init_state
from raydistill.learning.vote_likelihood import VoteLikelihood
from raydistill.seeding import generator

Objective = Decomposition | VoteLikelihood


def fit(
    network: Network,
    state: FitState,
    images_NCHW: Tensor,
    targets_NK: Tensor,
    training: Training,
    seed: int,
    lr_in: Callable[[int], float] | None = None,
    objective: Objective | None = None,
    parts: int = 1,
) -> Iterator[FitState]:
    """Yield the state after every remaining part of an epoch; `done` counts the parts.

    Parameters
    ----------
    network
        The network to train.
    state
        `init_state(theta_P)`, or any state that this function yielded.
    images_NCHW, targets_NK
        Normalised images, and their target probabilities (one-hot for hard labels).
    training
        Hyper-parameters; "auto" means float32, not compiled.
    seed
        Root of the batch orders and augmentations.
    lr_in
        Learning rate by epoch (from 0), instead of that in `training`, see `lr_schedule`.
    objective
        Replaces the cross entropy: a nuisance head beside the classes (the parameters are those of
        `Decomposition.extend`), or counts of votes. The targets have further columns.
    parts
        Equal parts of an epoch, after each of which the state is yielded.

    Yields
    ------
    FitState
        `average_P` holds the parameters to use.

    Raises
    ------
    DivergenceError
        If a part ends with a loss or parameters that are not finite.
    """
    gradient = _gradient(network, training, objective)
    class_NK = targets_NK if objective is None else targets_NK[:, : objective.num_classes]
    use_weights = training.class_weights and training.sampling != "balanced"
    weights = torch.ones(targets_NK.shape[1])
    if use_weights:
        weights[: class_NK.shape[1]] = class_weights(class_NK)
    weighted_NK = targets_NK * weights.to(targets_NK)
    steps_per_epoch = training.steps_per_epoch(len(targets_NK))
    average, rate = training.average * steps_per_epoch / parts, lr_in or training.lr_in

    def batches(number: int, first: int, end: int) -> Iterator[tuple[Any, ...]]:
        g = generator(seed, number)
        order = _batches(g if parts == 1 else generator(seed, "order", number // parts), class_NK, training)
        for index in islice(order, first, end):
            parameters = training.augmentation.sample(g, len(index))
            index = index.to(images_NCHW.device)
            yield images_NCHW[index], weighted_NK[index], parameters

    for number in range(state.done, training.epochs * parts):
        epoch, part = divmod(number, parts)
        first, end = (steps_per_epoch * edge // parts for edge in (part, part + 1))
        start = state._replace(done=epoch * steps_per_epoch + first)
        later = descend(
            start, gradient, batches(number, first, end), lambda step: rate(step // steps_per_epoch), training, average,
            f"epoch {epoch + 1}",
        )  # fmt: skip
        yield (state := later._replace(done=number + 1))


def train(
    network: Network,
    theta_P: Tensor,
    images_NCHW: Tensor,
    targets_NK: Tensor,
    training: Training,
    seed: int,
    lr_in: Callable[[int], float] | None = None,
) -> Tensor:
    """Return the parameters after all epochs of `fit`.

    Parameters
    ----------
    theta_P
        Initial parameters, see `initial_parameters`. The other parameters are those of `fit`.

    Returns
    -------
    torch.Tensor
        [P], the moving average of the parameters if `training.average` is set.
    """
    state = init_state(theta_P)
    for later in fit(network, state, images_NCHW, targets_NK, training, seed, lr_in):
        state = later
    return state.average_P


def _gradient(
    network: Network, training: Training, objective: Objective | None
) -> Callable[..., tuple[Tensor, Tensor]]:
    arithmetic = fill_auto(training)
    make = _compiled if arithmetic.compile else _eager
    gradient = make(network, training.augmentation, arithmetic.precision, objective)
    return gradient if training.flat is None else training.flat.direction(gradient)


def _eager(network: Network, augmentation: Augmentation, precision: Precision, objective: Objective | None) -> Any:
    if objective is not None:
        return torch.func.grad_and_value(objective.loss(augmentation, precision))
    return torch.func.grad_and_value(student_loss(network, augmentation, precision))


@lru_cache(maxsize=1)
def _compiled(network: Network, augmentation: Augmentation, precision: Precision, objective: Objective | None) -> Any:
    """Return the compiled gradient, which successive trainings in a process share."""
    return compiled(_eager(network, augmentation, precision, objective))


def _batches(g: torch.Generator, targets_NK: Tensor, training: Training) -> Iterator[Tensor]:
    """Yield the index batches of an epoch, of one size; drop a smaller last batch."""
    total = len(targets_NK)
    if training.sampling == "balanced":
        order = _balanced_draw(g, targets_NK.argmax(dim=1).cpu(), total)
    else:
        order = torch.randperm(total, generator=g)
    size = min(training.batch_size, total)
    # A smaller batch would give its images more weight, and compile the step again.
    for first in range(0, total - size + 1, size):
        yield order[first : first + size]


def _balanced_draw(g: torch.Generator, labels_N: Tensor, total: int) -> Tensor:
    counts = labels_N.bincount().double()
    return torch.multinomial((1 / counts)[labels_N], total, replacement=True, generator=g)


def class_weights(targets_NK: Tensor) -> Tensor:
    """Return inverse class frequencies [K], mean 1 over images; 0 for empty classes."""
    frequency_K = targets_NK.double().sum(dim=0) / len(targets_NK)
    present = frequency_K > 0
    weights_K = torch.where(present, 1 / frequency_K.clamp_min(1e-12), 0.0) / present.sum()
    return weights_K.float()


@torch.no_grad()
def predict(network: Network, theta_P: Tensor, images_NCHW: Tensor, batch_size: int | None = None) -> Tensor:
    """Return the predicted class of each image.

    Parameters
    ----------
    network, theta_P
        The network and its parameters [P].
    images_NCHW
        Normalised images, on the device of theta_P.
    batch_size
        Images per forward pass. None: 512 on a GPU, and 16 on a CPU, whose caches hold that much
        (dev/log.md).

    Returns
    -------
    torch.Tensor
        int64 [N].
    """
    return predict_logits(network, theta_P, images_NCHW, batch_size).argmax(dim=1)


def predict_logits(network: Network, theta_P: Tensor, images_NCHW: Tensor, batch_size: int | None = None) -> Tensor:
    """Return the logits of each image, float32 [N, K]; arguments as in `predict`."""
    batch_size = batch_size or (16 if images_NCHW.device.type == "cpu" else 512)
    batches = [network(theta_P, images_NCHW[i : i + batch_size]) for i in range(0, len(images_NCHW), batch_size)]
    return torch.cat(batches) if batches else torch.empty(0, 1)


class Evaluation(NamedTuple):
    """The accuracy of a network on labelled images, as `learning.metrics` defines it."""

    predicted_N: np.ndarray
    confusion_KK: np.ndarray
    accuracy: float
    balanced_accuracy: float
    calibration_error: float


def evaluate(network: Network, theta_P: Tensor, images_NCHW: Tensor, labels_N: Tensor, num_classes: int) -> Evaluation:
    """Return the accuracy of a network on labelled images; all tensors on one device."""
    return evaluation_of(predict_logits(network, theta_P, images_NCHW), labels_N, num_classes)


def evaluation_of(logits_NK: Tensor, labels_N: Tensor, num_classes: int) -> Evaluation:
    """Return the accuracy of logits on labelled images."""
    predicted_N, probabilities_NK = logits_NK.argmax(dim=1), logits_NK.double().softmax(dim=1).cpu().numpy()
    confusion_KK = metrics.confusion(predicted_N, labels_N, num_classes)
    error = metrics.reliability(probabilities_NK, labels_N.cpu().numpy()).error
    figures = metrics.accuracy(confusion_KK), metrics.balanced_accuracy(confusion_KK), error
    return Evaluation(predicted_N.cpu().numpy(), confusion_KK, *figures)


def lr_schedule(lrs: Tensor, training: Training) -> Callable[[int], float]:
    """Return the learning rate by epoch from the list of a distilled set.

    The list is stretched over the epochs before the decay; then follows a tenth of its last rate.
    This is the evaluation of arXiv:2311.17967: "the learned learning-rate list spread over 500
    epochs, then 500 at a tenth".
    """
    values = lrs.tolist()
    before = max(1, math.ceil(training.lr_decay_at * training.epochs))

    def lr_in(epoch: int) -> float:
        return values[min(epoch * len(values) // before, len(values) - 1)] if epoch < before else 0.1 * values[-1]

    return lr_in
