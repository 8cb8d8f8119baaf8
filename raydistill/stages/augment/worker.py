"""The Ray tasks of a comparison: train a classifier, or test trained classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from raydistill.errors import DivergenceError
from raydistill.learning import metrics
from raydistill.learning.architectures import Architecture
from raydistill.learning.networks import Network, initial_parameters, shared_network
from raydistill.learning.normalise import AnyNormalisation, one_hot
from raydistill.learning.options.weighted_training import WeightedTraining
from raydistill.learning.training import predict
from raydistill.learning.weighted_training import TrainingSet, drawing_probabilities, fit_steps
from raydistill.runtime.resources import device_of
from raydistill.seeding import fold_in
from raydistill.stages.augment.fits import ALONE, UNIFORM, Fit
from raydistill.stages.augment.mixtures import Pool, draw_shots, mixed_probabilities


class Common(NamedTuple):
    """Hold the inputs that all fits of a comparison share."""

    architecture: Architecture
    normalisation: AnyNormalisation
    num_classes: int
    image_size: int
    recorded: tuple[int, ...]
    root: int
    threads: int
    gpus: float

    @property
    def network(self) -> Network:
        return shared_network(self.architecture, self.num_classes, self.image_size)

    def normalised(self, images: Tensor) -> Tensor:
        """Return network input; prototypes are normalised already."""
        return self.normalisation.apply(images) if images.dtype == torch.uint8 else images


class TrainedFit(NamedTuple):
    """The result of a fit at R recorded steps.

    Parameters
    ----------
    theta_RP
        float32, the parameters.
    confusion_RKK
        int64, counts on the validation split.
    loss_R
        float64, mean training loss since the last recorded step.
    images
        Number of different training images.
    diverged
        Whether the training diverged. The parameters are then the initial ones.
    """

    theta_RP: np.ndarray
    confusion_RKK: np.ndarray
    loss_R: np.ndarray
    images: int
    diverged: bool


def train_fit(
    real: Pool, added: Pool | None, validation: Pool, fit: Fit, training: WeightedTraining,
    classifier_P: np.ndarray | None, common: Common,
) -> TrainedFit:  # fmt: skip
    """Train a classifier, and score it on the validation split at the recorded steps.

    Parameters
    ----------
    real
        Labelled galaxies to draw from.
    added
        Images of the source, if there is one.
    validation
        The validation split.
    fit, training
        The fit, and the hyper-parameters of its training.
    classifier_P
        Parameters of the classifier that filters `added`; None: no filter.
    common
        Inputs that all fits share.
    """
    torch.set_num_threads(common.threads)
    device, network = device_of(common.gpus), common.network
    seed = fold_in(common.root, "seed", fit.seed)  # of all methods, so that they are paired
    theta_P = initial_parameters(network, fold_in(seed, "initial")).to(device)
    data = compose(real, added, fit, classifier_P, common)
    states, diverged = [], False
    try:
        for state in fit_steps(network, theta_P, *data.to(device), training, seed, common.recorded):
            states.append((state.average_P, state.loss))
    except DivergenceError:
        diverged = True
        states = [(theta_P, float("nan"))] * len(common.recorded)
    thetas = [theta for theta, _ in states]
    return TrainedFit(
        torch.stack(thetas).cpu().numpy(),
        score(thetas, validation, common, device),
        np.array([loss for _, loss in states]),
        len(data.probabilities_N),
        diverged,
    )


def test_fits(thetas_FRP: Sequence[np.ndarray], test: Pool, common: Common) -> list[np.ndarray]:
    """Return the counts [R, K, K] on the test split of each fit's parameters [R, P]."""
    torch.set_num_threads(common.threads)
    device = device_of(common.gpus)
    return [score(list(torch.tensor(thetas).to(device)), test, common, device) for thetas in thetas_FRP]


def score(thetas: Sequence[Tensor], pool: Pool, common: Common, device: str) -> np.ndarray:
    """Return each classifier's confusion matrix, true by predicted, int64 [R, K, K]."""
    images, labels = common.normalised(pool.images).to(device), pool.labels_N.to(device)
    return np.stack(
        [metrics.confusion(predict(common.network, theta_P, images), labels, common.num_classes) for theta_P in thetas]
    )


def compose(real: Pool, added: Pool | None, fit: Fit, classifier_P: np.ndarray | None, common: Common) -> TrainingSet:
    """Return the training set of a fit."""
    parts: list[Pool] = []
    if fit.method not in ALONE:
        rows = draw_shots(real.labels_N, fit.shots, fold_in(common.root, "seed", fit.seed))
        parts.append(_take(real, rows))
    elif added is None:
        parts.append(real)
    if added is not None:
        parts.append(_recognised(added, fit.min_recognised, classifier_P, common) if fit.min_recognised else added)
    labels_N = torch.cat([part.labels_N for part in parts])
    if fit.ratio is not None:
        probabilities_N = mixed_probabilities(parts[0].labels_N, parts[1].labels_N, fit.ratio)
    elif fit.method in UNIFORM:
        probabilities_N = torch.full((len(labels_N),), 1 / len(labels_N), dtype=torch.float64)
    else:
        probabilities_N = drawing_probabilities(labels_N)
    targets = [one_hot(p.labels_N, common.num_classes) if p.targets_NK is None else p.targets_NK for p in parts]
    images = [common.normalised(part.images) for part in parts]
    return TrainingSet(torch.cat(images), torch.cat(targets), probabilities_N)


def _take(pool: Pool, rows: Tensor) -> Pool:
    targets_NK = None if pool.targets_NK is None else pool.targets_NK[rows]
    return Pool(pool.images[rows], pool.labels_N[rows], targets_NK)


@torch.no_grad()
def _recognised(pool: Pool, least: float, classifier_P: np.ndarray | None, common: Common) -> Pool:
    """Return the images whose class has at least this probability by a classifier."""
    assert classifier_P is not None
    theta_P, images = torch.tensor(classifier_P), common.normalised(pool.images)
    logits = torch.cat([common.network(theta_P, part) for part in images.split(256)])
    probability_N = logits.softmax(dim=1).gather(1, pool.labels_N[:, None])[:, 0]
    return _take(pool, (probability_N >= least).nonzero()[:, 0])
