"""Validate distilled images: train fresh networks on them, and score the networks.

The scores are balanced accuracies on the validation split.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from raydistill.config import Distill
from raydistill.errors import DivergenceError
from raydistill.learning.metrics import summarise
from raydistill.learning.networks import Network, initial_parameters
from raydistill.learning.options.training import Training
from raydistill.learning.training import evaluate, lr_schedule, train
from raydistill.seeding import fold_in
from raydistill.stages.distill.artifact import SyntheticImages


class Validation(NamedTuple):
    """A row of `validation.parquet`: balanced accuracy of fresh networks."""

    iteration: int
    balanced_accuracy: float  # mean
    std: float  # NaN for a single network


class Validator:
    """Score iterates with networks of the experts' architecture.

    The seeds of the networks do not depend on the iteration.

    Parameters
    ----------
    recipe
        The recipe, with the number, epochs and augmentation of the networks.
    network
        The architecture of the experts.
    images_NCHW, labels_N
        The validation split, normalised, on the device that trains.
    num_classes
        Number of classes.
    seed
        Seed of the distillation.
    """

    def __init__(
        self, recipe: Distill, network: Network, images_NCHW: Tensor, labels_N: Tensor, num_classes: int, seed: int
    ) -> None:
        self._recipe, self._network, self._seed = recipe, network, seed
        self._images, self._labels, self._num_classes = images_NCHW, labels_N, num_classes

    def evaluate(self, images: SyntheticImages) -> Validation:
        """Return the mean accuracy, and its deviation, of networks trained on `images`."""
        recipe = self._recipe
        training = Training(
            epochs=recipe.validation_epochs, momentum=0.9, weight_decay=5e-4, lr_decay_at=0.5, class_weights=False,
            augmentation=recipe.augmentation,
        ).with_even_batches(len(images.images_SCHW))  # fmt: skip
        scores = summarise([self._score(images, training, number) for number in range(recipe.validation_networks)])
        return Validation(images.iteration, scores["mean"], math.nan if scores["std"] is None else scores["std"])

    def _score(self, images: SyntheticImages, training: Training, number: int) -> float:
        """Return the balanced accuracy of one network; 0 if its training diverges."""
        theta_P = initial_parameters(self._network, fold_in(self._seed, "judge", number)).to(self._images)
        seed = fold_in(self._seed, "judge", number, "training")
        data = (images.images_SCHW.to(self._images), images.targets_SK.to(self._images))
        try:
            theta_P = train(self._network, theta_P, *data, training, seed, lr_schedule(images.student_lrs, training))
        except DivergenceError:
            return 0.0
        return evaluate(self._network, theta_P, self._images, self._labels, self._num_classes).balanced_accuracy
