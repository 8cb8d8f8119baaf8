"""How good an iterate is: fresh networks are trained on it and judged on validation images, which choose the iterate to be published."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from raydistill.artifacts.distilled import SyntheticImages
from raydistill.config import Distill
from raydistill.core.metrics import summarise
from raydistill.core.networks import Network, initial_parameters
from raydistill.core.training import Training, evaluate, lr_schedule, train
from raydistill.errors import DivergenceError
from raydistill.seeding import fold_in


class Validation(NamedTuple):
    """Mean balanced accuracy of fresh networks on validation images; a row of `validation.parquet`. std: NaN of a single network."""

    iteration: int
    balanced_accuracy: float
    std: float


class Validator:
    """Judges iterates by networks of the experts' architecture that begin alike each time: `fold_in(seed, "judge", number)`."""

    def __init__(
        self, wanted: Distill, network: Network, images_NCHW: Tensor, labels_N: Tensor, num_classes: int, seed: int
    ) -> None:
        """images_NCHW, labels_N: the validation split, normalised, on the device that shall train."""
        self._wanted, self._network, self._seed = wanted, network, seed
        self._images, self._labels, self._num_classes = images_NCHW, labels_N, num_classes

    def __call__(self, now: SyntheticImages) -> Validation:
        wanted = self._wanted
        training = Training(
            epochs=wanted.validation_epochs, momentum=0.9, weight_decay=5e-4, lr_decay_at=0.5, class_weights=False,
            augmentation=wanted.augmentation,
        ).with_even_batches(len(now.images_SCHW))  # fmt: skip
        found = summarise([self._score(now, training, number) for number in range(wanted.validation_networks)])
        return Validation(now.iteration, found["mean"], math.nan if found["std"] is None else found["std"])

    def _score(self, now: SyntheticImages, training: Training, number: int) -> float:
        theta_P = initial_parameters(self._network, fold_in(self._seed, "judge", number)).to(self._images)
        seed = fold_in(self._seed, "judge", number, "training")
        data = (now.images_SCHW.to(self._images), now.targets_SK.to(self._images))
        try:
            theta_P = train(self._network, theta_P, *data, training, seed, lr_schedule(now.student_lrs, training))
        except DivergenceError:
            return 0.0  # images on which a network cannot be trained are the worst there are
        return evaluate(self._network, theta_P, self._images, self._labels, self._num_classes).balanced_accuracy
