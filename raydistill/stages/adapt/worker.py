"""The Ray tasks of an adaptation: train a network, or predict with trained ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from raydistill.errors import DivergenceError
from raydistill.learning.architectures import Architecture
from raydistill.learning.networks import Network, initial_parameters, logits_and_features, shared_network
from raydistill.learning.options import WeightedTraining
from raydistill.learning.training import evaluate
from raydistill.learning.weighted_training import TrainingSet, fit_steps
from raydistill.runtime.resources import Processor
from raydistill.seeding import fold_in
from raydistill.stages.adapt.alignment import fit_aligned
from raydistill.stages.adapt.config import Alignment
from raydistill.stages.adapt.opening import Pictures
from raydistill.stages.evaluate.artifact import DIVERGED

BATCH = 256  # images per forward pass of a prediction


class Common(NamedTuple):
    """The architecture and options of all fits of an adaptation."""

    architecture: Architecture
    num_classes: int
    image_size: int
    training: WeightedTraining
    alignment: Alignment
    root: int
    processor: Processor

    @property
    def network(self) -> Network:
        """Return the network that all fits train."""
        return shared_network(self.architecture, self.num_classes, self.image_size)


class TrainedFit(NamedTuple):
    """A network's parameters, float32 [P], and its balanced accuracy on validation."""

    theta_P: np.ndarray
    validation: float
    diverged: bool


def train_fit(
    data: TrainingSet, unlabelled: Tensor | None, validation: Pictures, fit: Fit, common: Common
) -> TrainedFit:
    """Train one network and score it on validation galaxies.

    A network that diverges keeps its initial parameters, and has the validation score `DIVERGED`.
    Networks of one seed start from the same parameters and draw the same batches.
    """
    device, network = common.processor.enter(), common.network
    theta_P = initial_parameters(network, fold_in(common.root, "initial", fit.seed)).to(device)
    training, seed = replace(common.training, lr=fit.lr), fold_in(common.root, "training", fit.seed)
    diverged = False
    try:
        if unlabelled is None:
            *_, state = fit_steps(network, theta_P, *data.to(device), training, seed)
        else:
            alignment = replace(common.alignment, strength=fit.strength)
            arguments = (*data.to(device), unlabelled.to(device))
            state = fit_aligned(network, theta_P, *arguments, training, alignment, seed)
        theta_P = state.average_P
    except DivergenceError:
        diverged = True
    images, labels = (tensor.to(device) for tensor in validation)
    score = evaluate(network, theta_P, images, labels, common.num_classes).balanced_accuracy
    return TrainedFit(theta_P.cpu().numpy(), DIVERGED if diverged else score, diverged)


@torch.inference_mode()
def predict(theta_P: np.ndarray, images_NCHW: Tensor, common: Common) -> np.ndarray:
    """Return the class probabilities of a network, float64 [N, K]."""
    outputs = _outputs(theta_P, images_NCHW, common)
    return torch.cat([logits_BK.double().softmax(dim=1) for logits_BK, _ in outputs]).cpu().numpy()


@torch.inference_mode()
def describe(theta_P: np.ndarray, images_NCHW: Tensor, common: Common) -> np.ndarray:
    """Return the features of a network, float32 [N, F]."""
    return torch.cat([features_BF for _, features_BF in _outputs(theta_P, images_NCHW, common)]).cpu().numpy()


def _outputs(theta_P: np.ndarray, images_NCHW: Tensor, common: Common) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits [B, K] and features [B, F] of each batch."""
    device = common.processor.enter()
    theta = torch.tensor(theta_P, device=device)
    for batch in images_NCHW.to(device).split(BATCH):
        yield logits_and_features(common.network, theta, batch)


# A fit: one network by its training set, method, seed and hyper-parameters.

Method = Literal["none", "adapted", "upper_bound"]


@dataclass(frozen=True)
class Fit:
    """One network to train.

    Attributes
    ----------
    training_set
        "source", "source_synthetic" or "distilled"; "" for the upper bound.
    method
        "none": without the target; "adapted": aligned with it; "upper_bound": on its labels.
    seed
        Number of the network.
    lr
        Learning rate.
    strength
        Strength of the alignment; 0 without one.
    """

    training_set: str
    method: Method
    seed: int
    lr: float
    strength: float = 0.0

    @property
    def title(self) -> str:
        """Return training set and method, for the log."""
        return f"{self.method} of {self.training_set}" if self.training_set else self.method
