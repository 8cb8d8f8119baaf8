"""The Ray tasks of a comparison: train a classifier, or test trained classifiers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import ray
import torch
from torch import Tensor

from raydistill.artifacts.manifest import PARTIAL
from raydistill.errors import DivergenceError
from raydistill.learning import metrics
from raydistill.learning.architectures import Architecture
from raydistill.learning.heads import balanced_weights, ridge_head
from raydistill.learning.networks import Network, initial_parameters, shared_network
from raydistill.learning.normalise import AnyNormalisation, one_hot
from raydistill.learning.options import WeightedTraining
from raydistill.learning.training import predict
from raydistill.learning.weighted_training import TrainingSet, drawing_probabilities, fit_steps
from raydistill.morphology.recombination import Likeness, decompose, recombine
from raydistill.runtime import tasks
from raydistill.runtime.resources import Processor
from raydistill.runtime.tasks import map_tasks
from raydistill.seeding import fold_in
from raydistill.stages.augment.config import FEATURE_HEAD, RECOMBINED, Augment
from raydistill.stages.augment.fits import ALONE, UNIFORM, Fit
from raydistill.stages.augment.inputs import Pool, draw_shots, mixed_probabilities
from raydistill.text import shown_name

RECOMBINED_PER_CLASS = 200  # pictures
SIMILAR = 10  # galaxies most like a donor, of which one is the host


class Common(NamedTuple):
    """Hold the inputs that all fits of a comparison share."""

    architecture: Architecture
    normalisation: AnyNormalisation
    num_classes: int
    image_size: int
    recorded: tuple[int, ...]
    root: int
    processor: Processor
    contrast: float  # of the pictures' stretch

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
        The parameters: float32, of a head float64.
    predicted_RV
        int16, predicted classes of the V validation galaxies.
    loss_R
        float64, mean training loss since the last recorded step.
    images
        Number of different training images.
    diverged
        Whether the training diverged. The parameters are then the initial ones.
    """

    theta_RP: np.ndarray
    predicted_RV: np.ndarray
    loss_R: np.ndarray
    images: int
    diverged: bool


def train_fit(
    real: Pool, added: Pool | None, validation: Pool, fit: Fit, training: WeightedTraining,
    classifier_P: np.ndarray | None, common: Common,
) -> TrainedFit:  # fmt: skip
    """Train a classifier, and apply it to the validation split at the recorded steps.

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
    device, network = common.processor.enter(), common.network
    if fit.method == FEATURE_HEAD:
        return _fit_head(real, validation, fit, common)
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
        classify(thetas, validation, common, device),
        np.array([loss for _, loss in states]),
        len(data.probabilities_N),
        diverged,
    )


def _fit_head(real: Pool, validation: Pool, fit: Fit, common: Common) -> TrainedFit:
    """Return a ridge head on labelled galaxies, the same at every recorded step."""
    rows = draw_shots(real.labels_N, fit.shots, fold_in(common.root, "seed", fit.seed))
    labels_N = real.labels_N[rows]
    targets_NK = one_hot(labels_N, common.num_classes) - 1 / common.num_classes
    weights_N = balanced_weights(labels_N, common.num_classes)
    head_FK = ridge_head(real.images[rows].double(), targets_NK.double(), fit.lr, weights_N)
    count = len(common.recorded)
    theta_P = head_FK.flatten().numpy()
    return TrainedFit(
        np.tile(theta_P, (count, 1)), apply_head(theta_P, validation, count), np.zeros(count), len(rows), False
    )


def apply_head(theta_P: np.ndarray, described: Pool, count: int) -> np.ndarray:
    """Return the classes that a head predicts, int16 [R, N], for R equal steps."""
    head_FK = torch.tensor(theta_P).reshape(described.images.shape[1], -1)
    return np.tile((described.images.double() @ head_FK).argmax(dim=1).numpy().astype(np.int16), (count, 1))


def test_fits(thetas_FRP: Sequence[np.ndarray], test: Pool, common: Common) -> list[np.ndarray]:
    """Return the predicted classes [R, N] for each fit's parameters [R, P]."""
    device = common.processor.enter()
    return [classify(list(torch.tensor(thetas).to(device)), test, common, device) for thetas in thetas_FRP]


def classify(thetas: Sequence[Tensor], pool: Pool, common: Common, device: str) -> np.ndarray:
    """Return the classes that each classifier predicts, int16 [R, N]."""
    images = common.normalised(pool.images).to(device)
    return np.stack([predict(common.network, theta_P, images).cpu().numpy() for theta_P in thetas]).astype(np.int16)


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


def recombined(real: Pool, shots: int | None, seed: int, common: Common) -> Pool:
    """Return recombinations of the labelled galaxies of a fit, as many of each class.

    Each has bulge and structure of one of them, and the disk of another that is like it
    (`morphology.recombination`).
    """
    root = fold_in(common.root, "seed", seed)
    rows = draw_shots(real.labels_N, shots, root)
    pictures, labels_N = real.images[rows].numpy(), real.labels_N[rows]
    likeness, parts = Likeness.of(pictures), cache(lambda row: decompose(pictures[row], common.contrast))
    images, labels = [], []
    for label in labels_N.unique().tolist():
        donors = (labels_N == label).nonzero()[:, 0].tolist()
        for number in range(RECOMBINED_PER_CLASS):
            rng = np.random.default_rng(fold_in(root, "recombined", label, number))
            donor = donors[number % len(donors)]
            host = int(rng.choice(likeness.nearest(donor, SIMILAR)))
            images.append(recombine(parts(donor), parts(host), common.contrast, rng))
            labels.append(label)
    return Pool(torch.from_numpy(np.stack(images)), torch.tensor(labels))


# Train and test the fits of a comparison as Ray tasks.

FITS = f"{PARTIAL}/fits"
FITS_PER_TEST_TASK = 8


@dataclass(kw_only=True)
class FitRunner(tasks.FitRunner[Fit, TrainedFit]):
    """Train and test classifiers.

    Parameters
    ----------
    options, training
        The part of the config, and its training without "auto".
    common
        Inputs that all fits share.
    real, votes, validation
        Pools of real galaxies, in Ray's object store: the training split with its labels and with
        its votes, and the validation split.
    labels_V
        Classes of the validation galaxies.
    sources
        Pools of each source, in Ray's object store.
    described
        For the method `head`: pools of `real` and of the validation split with features in place
        of images, in Ray's object store.
    describe
        Gives a pool's features.
    filter_lrs
        Learning rate of `oversampling` by shots and seed; its fits must be trained before those
        with a filter.
    """

    stage, task, result, unit = "augment", train_fit, TrainedFit, "classifiers"
    options: Augment
    training: WeightedTraining
    common: Common
    real: Any
    votes: Any
    validation: Any
    labels_V: Tensor
    sources: Mapping[str, Sequence[Any]]
    described: tuple[Any, Any] | None = None
    describe: Callable[[Pool], Pool] | None = None
    filter_lrs: dict[tuple[int | None, int], float] = field(default_factory=dict)
    _recombined: dict[tuple[int | None, int], Any] = field(default_factory=dict)

    def key(self, fit: Fit) -> str:
        """Return the name of a fit's file; without labelled galaxies `shots` is no part."""
        return super().key(replace(fit, shots=None) if fit.method in ALONE else fit)

    def validation_accuracy(self, fit: Fit, predicted_V: np.ndarray) -> float:
        """Return the balanced accuracy on the fit's own validation galaxies.

        The seed draws as many of each class as the fit has labelled ones.
        """
        rows = draw_shots(self.labels_V, fit.shots, fold_in(self.common.root, "validation", fit.seed))
        return metrics.balanced_accuracy(self.confusion(predicted_V[rows], self.labels_V[rows]))

    def confusion(self, predicted_N: np.ndarray, labels_N: Tensor) -> np.ndarray:
        """Return the counts [K, K], true by predicted class."""
        return metrics.confusion(torch.tensor(predicted_N), labels_N, self.common.num_classes)

    def missing(self, fits: Sequence[Fit]) -> list[Fit]:
        """Return the fits without a result; those of one compiled code are neighbours."""
        return sorted(super().missing(fits), key=lambda fit: repr(self._training(fit).augmentation) + fit.method)

    def arguments(self, fit: Fit) -> tuple[Any, ...]:
        if fit.method == FEATURE_HEAD:
            assert self.described is not None
            return self.described[0], None, self.described[1], fit, self.training, None, self.common
        classifier = fit.filter_classifier(self.filter_lrs)
        theta_P = None if classifier is None else self._theta(classifier)[-1]
        real = self.votes if fit.method == "generator_labels" else self.real
        added = self.sources[fit.source][fit.replicate] if fit.source else None
        if fit.method == RECOMBINED:
            added = self._recombinations(fit)
        return real, added, self.validation, fit, self._training(fit), theta_P, self.common

    def unpack(self, data: bytes) -> TrainedFit:
        """Return a result without its parameters."""
        return super().unpack(data)._replace(theta_RP=np.empty(0))

    def shown(self, fit: Fit, result: TrainedFit) -> dict[str, Any]:
        accuracy = self.validation_accuracy(fit, result.predicted_RV[-1])
        return {"training_set": shown_name(fit.method), "validation": accuracy}

    def test(self, fits: Sequence[Fit], test: Pool) -> dict[Fit, np.ndarray]:
        """Return the predicted classes [R, N] of the test galaxies by each fit."""
        every = list({self.key(fit): fit for fit in fits}.values())
        wanted = [fit for fit in every if fit.method != FEATURE_HEAD]
        groups = [wanted[n : n + FITS_PER_TEST_TASK] for n in range(0, len(wanted), FITS_PER_TEST_TASK)]
        stored = ray.put(test)

        def arguments(group: Sequence[Fit]) -> tuple[Any, ...]:
            return [self._theta(fit) for fit in group], stored, self.common

        sizes = [len(group) for group in groups]
        tested = map_tasks(test_fits, groups, arguments, self.resources, "augment", "testing", "classifiers", sizes)
        by_key = dict(zip(map(self.key, wanted), (predicted for group in tested for predicted in group), strict=True))
        if heads := [fit for fit in every if fit.method == FEATURE_HEAD]:
            assert self.describe is not None
            described, count = self.describe(test), len(self.common.recorded)
            by_key |= {self.key(fit): apply_head(self._theta(fit)[-1], described, count) for fit in heads}
        return {fit: by_key[self.key(fit)] for fit in fits}

    def _recombinations(self, fit: Fit) -> Any:
        """Return the pool of a fit's recombinations, made once for each draw of galaxies."""
        key = fit.shots, fit.seed
        if key not in self._recombined:
            make = tasks.worker_task(recombined, replace(self.resources, gpus=0))
            self._recombined[key] = make.remote(self.real, *key, self.common)
        return self._recombined[key]

    def _training(self, fit: Fit) -> WeightedTraining:
        return fit.training(self.options, self.training)

    def _theta(self, fit: Fit) -> np.ndarray:
        return super().unpack(self.stored(fit)).theta_RP
