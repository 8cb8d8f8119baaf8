"""Fit a learner to labelled examples: a regression (features) or network (pixels)."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from raydistill.learning.normalise import AnyNormalisation
from raydistill.stages.hunt.science.examples import Examples, Floats
from raydistill.stages.hunt.science.options import FixMatchLearner, NetworkLearner
from raydistill.stages.hunt.science.pixels import fit_pixels
from raydistill.stages.hunt.science.regression import Regression, Standardiser, fit_regression

AnyLearner = Regression | NetworkLearner | FixMatchLearner


class BlockScorer(Protocol):
    """A fitted learner."""

    def score(self, values: npt.NDArray[Any], /) -> Floats:
        """Return the probability of the wanted kind.

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
