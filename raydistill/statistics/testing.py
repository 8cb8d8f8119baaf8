"""Test many metrics at once, and control the chance of any false alarm.

The null hypothesis says that the groups are exchangeable. So their permutations give the exact
distribution of every statistic. The same permutations serve all metrics, which makes the joint
distribution known too: the step-down maximum test of Westfall and Young (1993, Algorithm 4.1)
controls the family-wise error rate and uses the correlations of the metrics.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raydistill.seeding import fold_in
from raydistill.statistics.permutation import Floats, Groups, Metric, PooledStatistic, Worse

NUM_PARTS = 20  # of the jackknife
_NORMAL_95 = 1.96


def permuted_groups(groups_N: Groups, count: int, seed: int) -> Groups:
    """Return random permutations of the groups, int8 [count, N]."""
    rng = np.random.default_rng(fold_in(seed, "permutations"))
    return np.stack([rng.permutation(groups_N) for _ in range(count)])


def adjusted_p_values(observed_M: Floats, null_BM: Floats, worse: Sequence[Worse]) -> Floats:
    """Return p-values adjusted for the number of metrics.

    Parameters
    ----------
    observed_M
        float64 [M], the values of the observed groups.
    null_BM
        float64 [B, M], the values of their permutations.
    worse
        For each metric the direction that counts against the synthetic set.

    Returns
    -------
    ndarray
        float64 [M], in [1/(B+1), 1]. A metric that is not finite, or constant, has 1.

    Notes
    -----
    Each metric is measured in standard deviations of its B + 1 values. Under the null hypothesis
    these are exchangeable, so the test is exact for any B and any correlation of the metrics.
    """
    values = np.concatenate([observed_M[None], null_BM])
    usable = np.isfinite(values).all(0)
    values = np.where(usable, values, 0.0)
    spread = values.std(0)
    scaled = np.divide(values - values.mean(0), spread, out=np.zeros_like(values), where=spread > 1e-12)
    sign = np.array([{"higher": 1.0, "lower": -1.0, "different": 1.0}[one] for one in worse])
    scores = np.where([one == "different" for one in worse], np.abs(scaled), scaled * sign)
    order = np.argsort(-scores[0], kind="stable")
    # For the metric of rank r: the largest score among it and all that rank after it.
    largest = np.maximum.accumulate(scores[:, order][:, ::-1], axis=1)[:, ::-1]
    raw = (largest[1:] >= scores[0, order] - 1e-9).sum(0)
    stepped = np.maximum.accumulate((1 + raw) / len(values))
    adjusted = np.empty(len(order))
    adjusted[order] = stepped
    return np.where(usable & (spread > 1e-12), adjusted, 1.0)


def holm(p_values_M: Floats) -> Floats:
    """Return p-values [M] adjusted for their number (Holm 1979), for any dependence."""
    order = np.argsort(p_values_M, kind="stable")
    scaled = np.maximum.accumulate(p_values_M[order] * np.arange(len(order), 0, -1))
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(scaled, 1.0)
    return adjusted


def jackknife_error(statistic: PooledStatistic, groups_N: Groups, seed: int) -> Floats:
    r"""Return the standard errors of the metrics by the delete-a-group jackknife.

    Parameters
    ----------
    statistic
        The metrics.
    groups_N
        int8 [N]; each of `NUM_PARTS` random parts is left out in turn.
    seed
        Decides the parts.

    Returns
    -------
    ndarray
        float64 [M].

    Notes
    -----
    .. math:: \sqrt{\tfrac{g - 1}{g} \sum_i (t_i - \bar t)^2}

    The bootstrap would repeat pictures, and a repeated picture has a neighbour at distance 0.
    """
    parts_N = np.random.default_rng(fold_in(seed, "parts")).permutation(np.arange(len(groups_N)) % NUM_PARTS)
    groups_BN = np.where(parts_N == np.arange(NUM_PARTS)[:, None], 0, groups_N).astype(np.int8)
    values = statistic.evaluate(groups_BN)
    errors: Floats = np.sqrt((NUM_PARTS - 1) / NUM_PARTS * ((values - values.mean(0)) ** 2).sum(0))
    return errors


def interval(values_M: Floats, errors_M: Floats, metrics: Sequence[Metric]) -> tuple[Floats, Floats]:
    """Return ends of 95 % intervals for normal errors, clipped to the metrics' bounds."""
    low, high = np.array([metric.bounds for metric in metrics]).T
    return np.clip(values_M - _NORMAL_95 * errors_M, low, high), np.clip(values_M + _NORMAL_95 * errors_M, low, high)
