"""Learn from the features of labelled objects: a regularised logistic regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from raydistill.learning.checks import positive
from raydistill.statistics.standardise import Standardiser

MAX_ITERATIONS = 2000  # of L-BFGS, which needs about 50


@dataclass(frozen=True)
class LinearScorer:
    """A fitted logistic regression on standardised features."""

    standardiser: Standardiser
    slope_F: Floats
    intercept: float

    def score(self, features_NF: npt.NDArray[np.floating]) -> Floats:
        """Return the probability of the target class, float64 [N].

        Each row is summed by itself, so a score depends neither on the block nor on the threads.
        """
        standard_NF = self.standardiser.apply(features_NF)
        logits_N = np.einsum("nf,f->n", standard_NF, self.slope_F) + self.intercept
        return 1 / (1 + np.exp(-np.clip(logits_N, -500, 500)))


def fit_regression(examples: Examples, standardiser: Standardiser, strength: float) -> LinearScorer:
    """Return the logistic regression of weighted examples.

    It minimises |slope|² / 2 + strength · mean loss, where positives and negatives weigh the same.

    Parameters
    ----------
    examples
        At least one of each kind.
    standardiser
        Of the survey's features.
    strength
        Weight of the loss relative to the penalty; small values regularise more.
    """
    weights_L = examples.weights_L / examples.weights_L.sum()
    model = fit_model(standardiser.apply(examples.features_LF), examples.positive_L, weights_L, strength)
    return LinearScorer(standardiser, model.coef_[0].astype(np.float64), float(model.intercept_[0]))


def fit_model(standard_LF: Floats, targets_L: npt.NDArray[Any], weights_L: Floats, strength: float) -> Any:
    """Return sklearn's logistic regression of standardised features; weights sum to 1."""
    # Slow imports, which also set an environment variable. Most processes do not need them.
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # the order of sums, and so the last bits, depend on the threads
        return LogisticRegression(C=strength, max_iter=MAX_ITERATIONS).fit(
            standard_LF, targets_L, sample_weight=weights_L
        )


def fit_fractions(
    features_NF: npt.NDArray[np.floating], fractions_N: Floats, standardiser: Standardiser, strength: float
) -> LinearScorer:
    """Return the logistic regression whose targets are fractions, such as votes.

    The fractions are in [0, 1]. An object of fraction p counts as a positive of weight p and a
    negative of weight 1 - p.
    """
    if not 0 < fractions_N.mean() < 1:
        raise ValueError("the fractions must not all be 0, or all be 1")
    twice_LF = np.concatenate([features_NF, features_NF])
    kinds_L = np.repeat([True, False], len(features_NF))
    weights_L = np.concatenate([fractions_N, 1 - fractions_N])
    used_L = weights_L > 0
    return fit_regression(Examples(twice_LF[used_L], kinds_L[used_L], weights_L[used_L]), standardiser, strength)


@dataclass(frozen=True)
class Regression:
    """Learn by logistic regression on the features of `raydistill predict`.

    Parameters
    ----------
    strength
        Weight of the mean loss relative to the penalty |slope|² / 2; small values regularise more.
    """

    kind: Literal["regression"] = "regression"
    strength: float = 10.0

    def __post_init__(self) -> None:
        positive(self, "strength")


def cross_fitted_scores(
    features_NF: npt.NDArray[np.floating],
    positive_N: Bools,
    standardiser: Standardiser,
    strength: float,
    folds: int,
    seed: int,
) -> Floats:
    """Return scores float64 [N] by regressions that know no labels of the own fold.

    This is the upper bound of a hunt: no label is missing, and no object is scored by its own.
    """
    order_N = np.random.default_rng(seed).permutation(len(positive_N))
    fold_N = np.empty(len(positive_N), int)
    for kind in (True, False):  # each fold has its share of the rare objects
        members = order_N[positive_N[order_N] == kind]
        fold_N[members] = np.arange(len(members)) % folds
    scores_N = np.zeros(len(positive_N))
    for fold in range(folds):
        train, test = fold_N != fold, fold_N == fold
        examples = collect([Group(features_NF[train], positive_N[train])])
        if examples.learnable and test.any():
            scores_N[test] = fit_regression(examples, standardiser, strength).score(features_NF[test])
    return scores_N


# Collect labelled examples, real and synthetic, and weight them.
#
# A synthetic set holds positives *and* negatives of the same source. With synthetic positives alone a
# classifier learns to tell synthetic pictures from real ones.

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Features = npt.NDArray[np.float16]  # of `predict`


class Examples(NamedTuple):
    """Features of labelled objects, and what they are.

    Attributes
    ----------
    features_LF
        float [L, F], or pictures uint8 [L, H, W, 3].
    positive_L
        bool [L]: whether the object is of the target class.
    weights_L
        float64 [L], positive.
    """

    features_LF: npt.NDArray[Any]
    positive_L: Bools
    weights_L: Floats

    @property
    def learnable(self) -> bool:
        """Return whether there is at least one positive and one negative example."""
        return bool(self.positive_L.any() and not self.positive_L.all())


class Group(NamedTuple):
    """Examples of one origin: real, presumed negatives, or from a synthetic source."""

    features_LF: npt.NDArray[Any]
    positive_L: Bools
    weight: float = 1.0  # of the group's positives together, and of its negatives together


def collect(groups: Sequence[Group]) -> Examples:
    """Return the examples of all groups.

    The positives of all groups together weigh as much as the negatives. Within a kind, each group
    has its own weight, however many examples it has.
    """
    groups = [group for group in groups if len(group.positive_L)]
    if not groups:
        return Examples(np.empty((0, 0)), np.empty(0, bool), np.empty(0))
    weights = [np.zeros(len(group.positive_L)) for group in groups]
    for kind in (True, False):
        members = [group.positive_L == kind for group in groups]
        total = sum(group.weight for group, member in zip(groups, members, strict=True) if member.any())
        for group, member, weight_L in zip(groups, members, weights, strict=True):
            if member.any():
                weight_L[member] = group.weight / total / member.sum()
    return Examples(
        np.concatenate([group.features_LF for group in groups]),
        np.concatenate([group.positive_L for group in groups]),
        np.concatenate(weights),
    )
