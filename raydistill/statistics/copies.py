"""Test whether single pictures are copies: of training pictures, or of each other.

A copy is far nearer to its source than to anything else. So its distance to the nearest picture is
divided by that to the fifth nearest. The ratio does not depend on how smooth or bright the pictures
are; it is about 1 for a new picture, and near 0 for a copy.

- *Copies of training pictures* are extremes, and so few that they hardly move a mean. The upper tail
  of the log ratio of held-out pictures is fitted by a generalised Pareto distribution (Pickands 1975,
  doi:10.1214/aos/1176343003). It gives the chance that any of the synthetic pictures lies as far out.
- *Twins*, pictures that repeat each other within the set, come in pairs. Under the null hypothesis
  real and synthetic pictures are exchangeable; permutations divide most pairs.

Shape letters: S synthetic, H held-out, R real and N pooled pictures; B rows of groups; M metrics.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from raydistill.seeding import fold_in
from raydistill.statistics.permutation import SYNTHETIC, Floats, Groups, Metric, PooledStatistic, row_by_row, two_groups
from raydistill.statistics.testing import (
    Finding,
    adjusted_p_values,
    interval,
    jackknife_error,
    make_findings,
    permuted_groups,
)

RANK = 5  # of the neighbour with which the nearest one is compared
TAIL = 0.2  # share of held-out pictures to which the tail is fitted
LEAST_SHAPE, MOST_SHAPE = 0.1, 0.5  # of the tail: a lighter one cannot be told from so few pictures
NEAREST = 64  # neighbours among which those of the own set are searched
OUTERMOST = 0.05  # share of the pictures among which copies are sought
NUM_SIMULATED = 1999
SOFTENING = 0.01  # of the median distance to the last neighbour: an identical picture has a finite logarithm


def isolation(distances_SR: Floats) -> Floats:
    """Return log of the fifth nearest distance over the nearest one, [S].

    Parameters
    ----------
    distances_SR
        float64 [S, R], R of 5 or more; only the five smallest of a row matter.
    """
    nearest = np.sort(np.partition(distances_SR, RANK - 1, axis=1)[:, :RANK], axis=1)
    softening = SOFTENING * np.median(nearest[:, -1]) + np.finfo(float).tiny
    return np.log(nearest[:, -1] + softening) - np.log(nearest[:, 0] + softening)


class _Tail(NamedTuple):
    """Generalised Pareto distributions, by shape and scale, of B samples."""

    shape_B: Floats
    scale_B: Floats

    @classmethod
    def fit(cls, beyond_BM: Floats) -> _Tail:
        """Fit by probability-weighted moments (Hosking & Wallis, doi:10.2307/1269343)."""
        ordered, m = np.sort(beyond_BM, axis=1), beyond_BM.shape[1]
        first = ordered.mean(axis=1)
        second = (ordered * (1 - (np.arange(1, m + 1) - 0.35) / m)).mean(axis=1)
        shape_B = np.clip(2 - first / (first - 2 * second), LEAST_SHAPE, MOST_SHAPE)
        return cls(shape_B, first * (1 - shape_B))

    def chance(self, beyond_BK: Floats) -> Floats:
        """Return the chance of a larger value, [B, K]."""
        shape, scale = self.shape_B[:, None], self.scale_B[:, None]
        return np.asarray((1 + shape * np.maximum(beyond_BK, 0) / scale) ** (-1 / shape))

    def value(self, chance_BK: Floats) -> Floats:
        """Return the values that are exceeded with these chances, [B, K]."""
        shape, scale = self.shape_B[:, None], self.scale_B[:, None]
        return np.asarray(scale / shape * (chance_BK**-shape - 1))


def closest_copies(synthetic_S: Floats, held_out_H: Floats, seed: int) -> Finding:
    """Return the finding about the most isolated pairs.

    A pair is a synthetic picture and the nearest training picture.

    Parameters
    ----------
    synthetic_S, held_out_H
        `isolation` of synthetic and held-out pictures with respect to training pictures.
    seed
        Decides the simulated null distribution.

    Returns
    -------
    Finding
        Its value is -log10 of the smallest chance, see Notes.

    Notes
    -----
    With the fitted chance q_k that a new picture is as isolated as the k-th most isolated one, the
    chance of at least k such pictures among S is that of a binomial distribution. The statistic is
    the smallest of these chances over the outermost `OUTERMOST` of the pictures. So one perfect copy
    counts as well as several imperfect ones. Its null distribution is simulated from the fit, and
    each simulation is fitted again.
    """
    from scipy import special

    rng, count = np.random.default_rng(fold_in(seed, "copies")), len(synthetic_S)
    threshold = float(np.quantile(held_out_H, 1 - TAIL))
    beyond = held_out_H[held_out_H > threshold] - threshold
    ranks = np.arange(1, max(1, round(OUTERMOST * count)) + 1)

    def statistic(tail: _Tail, outermost_BK: Floats) -> Floats:
        chances = np.where(outermost_BK > 0, TAIL * tail.chance(outermost_BK), TAIL)
        smallest = special.betainc(ranks, count - ranks + 1, chances).min(axis=1)
        return np.asarray(-np.log10(np.maximum(smallest, 1e-300)))

    fitted = _Tail.fit(beyond[None])
    value = float(statistic(fitted, (np.sort(synthetic_S)[::-1][: len(ranks)] - threshold)[None])[0])
    share_B1 = rng.beta(len(beyond) + 1, len(held_out_H) - len(beyond), (NUM_SIMULATED, 1))  # beyond the threshold
    chance_BK = np.sort(rng.random((NUM_SIMULATED, count)), axis=1)[:, : len(ranks)] / share_B1
    drawn_BK = np.where(chance_BK < 1, fitted.value(np.minimum(chance_BK, 1)), 0.0)
    null_B = statistic(_Tail.fit(fitted.value(rng.random((NUM_SIMULATED, len(beyond))))), drawn_BK)
    p_value = (1 + int((null_B >= value).sum())) / (1 + NUM_SIMULATED)
    low, high = np.quantile(null_B, (0.025, 0.975)).tolist()
    return Finding(
        "closest_copies", "pixels", "higher", value, value, value, float(null_B.mean()), low, high, p_value,
        significant=False,
    )  # fmt: skip


def twins(
    distances_NN: Floats, seed: int, permutations: int, labels_N: npt.NDArray[np.int64] | None = None
) -> list[Finding]:
    """Return the finding about pictures that repeat each other in the synthetic set.

    Parameters
    ----------
    distances_NN
        float64 [N, N], between all pictures: N / 2 real ones, then as many synthetic ones.
    seed
        Decides the permutations.
    permutations
        Their number.
    labels_N
        Classes, within which pictures are permuted; None: within all.
    """
    statistic, groups_N = _twin_statistic(distances_NN), two_groups(len(distances_NN) // 2, len(distances_NN) // 2)
    values_M = statistic.evaluate(groups_N[None])[0]
    null_BM = statistic.evaluate(permuted_groups(groups_N, permutations, fold_in(seed, "twins"), labels_N))
    ends = interval(values_M, jackknife_error(statistic, groups_N, seed), statistic.metrics)
    return make_findings(statistic.metrics, values_M, ends, null_BM, adjusted_p_values(values_M, null_BM, ["higher"]))


def _twin_statistic(distances_NN: Floats) -> PooledStatistic:
    """Return the mean `isolation` of synthetic pictures within their own set."""
    others_NN = distances_NN + np.diag(np.full(len(distances_NN), np.inf))
    rows_NK = np.argsort(others_NN, axis=1, kind="stable")[:, : min(NEAREST, len(others_NN) - 1)]
    nearest_NK = np.take_along_axis(others_NN, rows_NK, axis=1)
    softening = SOFTENING * np.median(nearest_NK[:, -1]) + np.finfo(float).tiny
    logs_NK = np.log(nearest_NK + softening)

    def mean_isolation(groups_N: Groups) -> Floats:
        of_set = groups_N == SYNTHETIC
        number_SK = of_set[rows_NK[of_set]].cumsum(axis=1)  # of neighbours in the set so far
        first, fifth = ((number_SK >= rank).argmax(axis=1) for rank in (1, RANK))
        fifth = np.where(number_SK[:, -1] >= RANK, fifth, -1)
        logs_SK, rows_S = logs_NK[of_set], np.arange(len(number_SK))
        return np.array([(logs_SK[rows_S, fifth] - logs_SK[rows_S, first]).mean()])

    return PooledStatistic((Metric("twins", "pixels"),), row_by_row(mean_isolation))
