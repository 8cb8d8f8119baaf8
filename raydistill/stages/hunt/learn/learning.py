"""Fit a learner to labelled examples: a regression, or a network on pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raydistill.distillation.cost_model import WorkEstimate, forward_flops
from raydistill.learning.arithmetic import Arithmetic, fill_auto
from raydistill.learning.augment import Augmentation
from raydistill.learning.fixmatch import fit_fixmatch
from raydistill.learning.networks import Network, initial_parameters, logits_and_features, shared_network
from raydistill.learning.normalise import AnyNormalisation
from raydistill.learning.options import FixMatch
from raydistill.learning.weighted_training import fit_steps
from raydistill.seeding import fold_in
from raydistill.stages.hunt.config import FixMatchLearner, NetworkLearner
from raydistill.stages.hunt.learn.regression import (
    Examples,
    Features,
    Floats,
    Group,
    Regression,
    collect,
    fit_regression,
)
from raydistill.statistics.standardise import Standardiser

AnyLearner = Regression | NetworkLearner | FixMatchLearner


class BlockScorer(Protocol):
    """A fitted learner."""

    def score(self, values: npt.NDArray[Any], /) -> Floats:
        """Return the probability of the target class.

        The input is features [N, F] or pictures [N, H, W, 3].
        """
        ...


def uses_pixels(learner: AnyLearner) -> bool:
    """Return whether the learner reads pictures, not features."""
    return not isinstance(learner, Regression)


def fit_learner(
    examples: Examples,
    learner: AnyLearner,
    standardiser: Standardiser,
    normalisation: AnyNormalisation,
    pool_NHWC: npt.NDArray[np.uint8],
    seed: int,
) -> BlockScorer | None:
    """Return the fitted learner, or None if the examples are all of one kind.

    Parameters
    ----------
    examples
        Features or pictures of labelled objects.
    learner
        What to fit.
    standardiser
        Of the survey's features.
    normalisation
        Of its pictures.
    pool_NHWC
        Unlabelled pictures for FixMatch.
    seed
        Root of a network's random numbers.
    """
    if not examples.learnable:
        return None
    if isinstance(learner, Regression):
        return fit_regression(examples, standardiser, learner.strength)
    return fit_pixels(examples, learner, normalisation, pool_NHWC, seed)


# Learn from pixels with a small network, with or without unlabelled objects.

Pixels = npt.NDArray[np.uint8]
BATCH = 64  # pictures per forward pass
POOL = 20_000  # unlabelled pictures in memory


PixelLearner = TypeVar("PixelLearner", NetworkLearner, FixMatchLearner)


def for_aligned(learner: PixelLearner) -> PixelLearner:
    """Return the learner for galaxies with a horizontal axis.

    Mirrors replace the eight symmetries.
    """
    if isinstance(learner, FixMatchLearner):
        options = learner.training
        return replace(
            learner, training=replace(options, weak=_mirrored(options.weak), strong=_mirrored(options.strong))
        )
    training = learner.training
    return replace(learner, training=replace(training, augmentation=_mirrored(training.augmentation)))


def _mirrored(augmentation: Augmentation) -> Augmentation:
    names = tuple("mirror" if name == "dihedral" else name for name in augmentation.operations)
    return replace(augmentation, operations=names)


def computed_by(learner: PixelLearner, arithmetic: Arithmetic) -> PixelLearner:
    """Return the learner with this arithmetic where its own is "auto"."""
    training = learner.training
    return replace(learner, training=replace(training, **fill_auto(training, arithmetic)._asdict()))


def estimate_fit(learner: NetworkLearner | FixMatchLearner, image_size: int) -> WorkEstimate:
    """Return the work of fitting the learner once.

    A gradient costs three forward passes.
    """
    training = learner.training
    forward = forward_flops(shared_network(learner.network, 2, image_size), 3, image_size)
    passes = 3 * training.batch_size
    if isinstance(training, FixMatch):
        passes += 4 * training.batch_size * training.unlabelled  # pseudo-labels need one more
    return WorkEstimate(float(forward * passes * training.steps), training.steps)


@dataclass(frozen=True)
class PixelScorer:
    """A trained network with two outputs, of which the second is the target class."""

    network: Network
    theta_P: Tensor
    normalisation: AnyNormalisation

    def score(self, pixels_NHWC: Pixels) -> Floats:
        """Return the probability of the target class, float64 [N]."""
        scores = [np.empty(0)]
        with torch.no_grad():
            for images in self.batches(pixels_NHWC):
                logits = self.network(self.theta_P, images).double()
                scores.append(logits.softmax(dim=1)[:, 1].numpy())
        return np.concatenate(scores)

    def batches(self, pixels_NHWC: Pixels) -> Iterator[Tensor]:
        """Yield the pictures as the network reads them, `BATCH` at a time."""
        for first in range(0, len(pixels_NHWC), BATCH):
            yield self.normalisation.apply(torch.tensor(pixels_NHWC[first : first + BATCH]))


def fit_pixels(
    examples: Examples,
    learner: NetworkLearner | FixMatchLearner,
    normalisation: AnyNormalisation,
    unlabelled_NHWC: Pixels,
    seed: int,
) -> PixelScorer:
    """Return the network trained on the pictures of weighted examples.

    Parameters
    ----------
    examples
        Their `features_LF` are pictures, uint8 [L, H, W, 3]; the weights are drawing probabilities.
    learner
        Architecture and training.
    normalisation
        Of the survey's pictures.
    unlabelled_NHWC
        Pictures of the survey, of which at most `POOL` are used; only FixMatch needs them.
    seed
        Root of initial parameters and batches.
    """
    pixels_LHWC: Pixels = np.asarray(examples.features_LF, np.uint8)
    images = normalisation.apply(torch.tensor(pixels_LHWC))
    targets = torch.nn.functional.one_hot(torch.tensor(examples.positive_L.astype(np.int64)), 2).float()
    weights = torch.tensor(examples.weights_L)
    network = shared_network(learner.network, 2, pixels_LHWC.shape[1])
    theta = initial_parameters(network, fold_in(seed, "start"))
    if isinstance(learner, FixMatchLearner):
        rows = np.random.default_rng(fold_in(seed, "pool")).permutation(len(unlabelled_NHWC))[:POOL]
        pool = normalisation.apply(torch.tensor(unlabelled_NHWC[np.sort(rows)]))
        theta = fit_fixmatch(network, theta, images, targets, weights, pool, learner.training, seed)
    else:
        for state in fit_steps(network, theta, images, targets, weights, learner.training, seed):
            theta = state.average_P
    return PixelScorer(network, theta, normalisation)


# Describe pictures by a network that was trained on synthetic galaxies.
#
# The features of `predict` describe morphological classes, and may hardly show a rare kind. A network
# that is trained to tell synthetic positives from negatives shows it. Random objects of the survey
# are further negatives: without them the network knows only the classes of which the synthetic
# galaxies were made, and takes other kinds for the target class.
#
# The features of this network, the input of its last layer, join those of `predict`. The labels of
# real galaxies then decide which features count.


@dataclass(frozen=True)
class SourceNetwork:
    """A network that was trained on synthetic galaxies."""

    scorer: PixelScorer

    def join(self, features_NF: npt.NDArray[np.floating], pixels_NHWC: Pixels) -> Features:
        """Return the features of `predict` and of the network.

        Parameters
        ----------
        features_NF
            Features of `predict`.
        pixels_NHWC
            uint8 [N, H, W, 3], the pictures of the same objects.

        Returns
        -------
        numpy.ndarray
            float16 [N, F + G].
        """
        scorer, parts = self.scorer, []
        with torch.no_grad():
            for images in scorer.batches(pixels_NHWC):
                _, features = logits_and_features(scorer.network, scorer.theta_P, images)
                parts.append(features.numpy())
        return np.concatenate([features_NF, np.concatenate(parts)], axis=1).astype(np.float16)


def fit_source_network(
    synthetic: Sequence[Group],
    background_NHWC: Pixels,
    learner: NetworkLearner,
    normalisation: AnyNormalisation,
    seed: int,
) -> SourceNetwork:
    """Return the network of some sources.

    Parameters
    ----------
    synthetic
        Pictures of each source, and whether each shows the target class.
    background_NHWC
        uint8 [N, H, W, 3], pictures of random objects of the survey. Together they weigh as much as
        the negatives of one source.
    learner
        Architecture and training.
    normalisation
        Of the survey's pictures.
    seed
        Root of initial parameters and batches.
    """
    background = Group(background_NHWC, np.zeros(len(background_NHWC), bool))
    examples = collect([*synthetic, background])
    return SourceNetwork(fit_pixels(examples, learner, normalisation, background_NHWC[:0], seed))
