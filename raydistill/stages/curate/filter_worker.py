"""The Ray task of the filter: train, calibrate and measure the network of a fold.

wide pictures -> undamaged and damaged pictures -> network -> limits -> counts of recognised defects
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from raydistill.config import PictureFilter
from raydistill.seeding import fold_in
from raydistill.simulation.defects import REASONS, Reason, central, show
from raydistill.stages.curate.filtering import FOLDS
from raydistill.stages.curate.picture_filter import VIEW, Limit, Tensors, calibrate, probabilities, train_filter

INJECTED = 250  # pictures per fold and reason on which the finished network is measured
SHARES = (1.0, 2.5, 1.25, 1.0, 1.75)  # of the injected defects, in the order of REASONS: more of those with many kinds
ROUND = 256  # pictures that are drawn together
SEED = 0  # curation does not depend on the seed of a run

Found = dict[str, dict[str, tuple[int, int]]]  # reason -> kind -> recognised, injected


class FoldResult(NamedTuple):
    """The network of a fold, its limits, and its counts on unseen pictures.

    Attributes
    ----------
    parameters, limits
        As in `TrainedFold`.
    num_clean
        Number of pictures that calibrated the limits.
    rejected
        Number of those that exceed the limit, by reason.
    found
        Recognised and injected defects, by reason and kind.
    """

    parameters: Tensors
    limits: dict[Reason, Limit]
    num_clean: int
    rejected: dict[Reason, int]
    found: Found


def train_fold(data: tuple[np.ndarray, np.ndarray], fold: int, recipe: PictureFilter) -> FoldResult:
    """Train a fold's network on the other folds; calibrate and measure it on its own.

    Parameters
    ----------
    data
        Ranks, and wide pictures uint8 [N, W, W, 3].
    fold
        Number of the fold.
    recipe
        Steps and rate.
    """
    ranks, wide_NWW3 = data
    is_own = ranks % FOLDS == fold
    injector = _Injector(wide_NWW3[~is_own], fold_in(SEED, "filter", "training", fold))
    parameters = train_filter(len(REASONS), injector.round, recipe.steps, fold_in(SEED, "filter", "network", fold))
    own_NWW3 = wide_NWW3[is_own]
    clean = np.stack([central(wide, VIEW) for wide in own_NWW3])
    scores = probabilities(parameters, clean, len(REASONS))[:, 1:]
    limits = {reason: calibrate(scores[:, n], recipe.false_rejection_rate) for n, reason in enumerate(REASONS)}
    rejected = {reason: int((scores[:, n] > limits[reason].probability).sum()) for n, reason in enumerate(REASONS)}
    injector = _Injector(own_NWW3, fold_in(SEED, "filter", "measuring", fold))
    return FoldResult(parameters, limits, len(clean), rejected, _measure(parameters, limits, injector))


@dataclass(frozen=True)
class _Injector:
    """Draw pictures with and without defects from wide pictures."""

    wide_NWW3: np.ndarray
    seed: int

    def show(self, reason: Reason | None, index: int, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        other = self.wide_NWW3[rng.integers(len(self.wide_NWW3))]
        return show(reason, self.wide_NWW3[index], other, VIEW, rng)

    def round(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return random pictures, undamaged and with a random defect, and the outcomes."""
        shares = np.array(SHARES) / sum(SHARES)
        rng = np.random.default_rng(fold_in(self.seed, number))
        pictures, outcomes = [], []
        for index in rng.choice(len(self.wide_NWW3), min(ROUND, len(self.wide_NWW3)), replace=False):
            reason = int(rng.choice(len(REASONS), p=shares))
            pictures += [self.show(None, index, rng)[0], self.show(REASONS[reason], index, rng)[0]]
            outcomes += [0, 1 + reason]
        return np.stack(pictures), np.array(outcomes, np.int64)

    def measured(self, reason: Reason) -> Iterator[tuple[np.ndarray, str]]:
        """Yield pictures with a defect, and its kind."""
        for index in range(min(INJECTED, len(self.wide_NWW3))):
            yield self.show(reason, index, np.random.default_rng(fold_in(self.seed, reason, index)))


def _measure(parameters: Tensors, limits: dict[Reason, Limit], injector: _Injector) -> Found:
    """Return how many injected defects exceed the limit of their reason."""
    found: Found = {}
    for number, reason in enumerate(REASONS):
        pictures, kinds = zip(*injector.measured(reason), strict=True)
        exceeds = (
            probabilities(parameters, np.stack(pictures), len(REASONS))[:, 1 + number] > limits[reason].probability
        )
        own = found.setdefault(reason, {})
        for kind in sorted(set(kinds)):
            is_kind = np.array([one == kind for one in kinds])
            own[kind] = int((exceeds & is_kind).sum()), int(is_kind.sum())
    return found
