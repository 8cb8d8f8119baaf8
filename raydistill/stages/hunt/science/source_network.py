"""Describe pictures by a network that was trained on synthetic galaxies.

The features of `predict` describe morphological classes, and may hardly show a rare kind. A network
that is trained to tell synthetic positives from negatives shows it. Random objects of the survey
are further negatives: without them the network knows only the classes of which the synthetic
galaxies were made, and takes other kinds for wanted ones.

The features of this network, the input of its last layer, join those of `predict`. The labels of
real galaxies then decide which features count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from raydistill.learning.networks import logits_and_features
from raydistill.learning.normalise import AnyNormalisation
from raydistill.stages.hunt.science.examples import Features, Group, collect
from raydistill.stages.hunt.science.options import NetworkLearner
from raydistill.stages.hunt.science.pixels import Pixels, PixelScorer, fit_pixels


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
        Pictures of each source, and whether each shows the wanted kind.
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
