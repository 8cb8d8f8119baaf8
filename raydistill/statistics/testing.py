"""Test many metrics at once, and record each one's value and significance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from raydistill.seeding import fold_in
from raydistill.statistics.permutation import Floats, Groups, Metric, PooledStatistic, Worse

# Test many metrics at once, and control the chance of any false alarm.
#
# The null hypothesis says that the groups are exchangeable. So their permutations give the exact
# distribution of every statistic. The same permutations serve all metrics, which makes the joint
# distribution known too: the step-down maximum test of Westfall and Young (1993, Algorithm 4.1)
# controls the family-wise error rate and uses the correlations of the metrics.

NUM_PARTS = 20  # of the jackknife
TAIL = 0.1  # share of the values of a metric by which it is brought to the scale of others
LEAST_IN_TAIL = 20  # values, of few permutations
_NORMAL_95 = 1.96


def permuted_groups(groups_N: Groups, count: int, seed: int, strata_N: npt.NDArray[np.int64] | None = None) -> Groups:
    """Return random permutations of the groups, int8 [count, N].

    With `strata_N`, such as classes, groups are permuted within each of them.
    """
    rng = np.random.default_rng(fold_in(seed, "permutations"))
    if strata_N is None:
        return np.stack([rng.permutation(groups_N) for _ in range(count)])
    permuted = np.repeat(groups_N[None], count, axis=0)
    for stratum in np.unique(strata_N):
        rows = np.flatnonzero(strata_N == stratum)
        permuted[:, rows] = np.stack([rng.permutation(groups_N[rows]) for _ in range(count)])
    return permuted


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
    Metrics are compared by `tail_scores` of their B + 1 values. Under the null hypothesis these are
    exchangeable, so the test is exact for any B and any correlation of the metrics.
    """
    values = np.concatenate([observed_M[None], null_BM])
    usable = np.isfinite(values).all(0)
    values = np.where(usable, values, 0.0)
    constant = values.std(0) <= 1e-12
    scores = tail_scores(values, worse)
    order = np.argsort(-scores[0], kind="stable")
    # For the metric of rank r: the largest score among it and all that rank after it.
    largest = np.maximum.accumulate(scores[:, order][:, ::-1], axis=1)[:, ::-1]
    raw = (largest[1:] >= scores[0, order] - 1e-9).sum(0)
    stepped = np.maximum.accumulate((1 + raw) / len(values))
    adjusted = np.empty(len(order))
    adjusted[order] = stepped
    return np.where(usable & ~constant, adjusted, 1.0)


def tail_scores(values_BM: Floats, worse: Sequence[Worse]) -> Floats:
    r"""Return how far values lie in the tail of their metric, on one scale.

    Parameters
    ----------
    values_BM
        float64 [B, M], finite.
    worse
        For each metric the direction of its tail; "different" takes distances from the median.

    Returns
    -------
    ndarray
        float64 [B, M]: the distance from the `TAIL` quantile in units of the mean excess over it. For
        an exponential tail a score s has the chance `TAIL` :math:`e^{-s}`.

    Notes
    -----
    Standard deviations are no such scale: a skewed metric, such as the kernel distance of a few
    pictures, often lies seven of them out, and would hide all others from a maximum test. The largest
    excess is left out of the mean, since it may be the effect that is tested.
    """
    sign_M = np.array([-1.0 if side == "lower" else 1.0 for side in worse])
    two_sided_M = np.array([side == "different" for side in worse])
    signed_BM = np.where(two_sided_M, np.abs(values_BM - np.median(values_BM, axis=0)), values_BM * sign_M)
    count = max(round(TAIL * len(values_BM)), min(LEAST_IN_TAIL, len(values_BM) // 2))
    ordered_BM = np.sort(signed_BM, axis=0)[::-1]
    threshold_M = ordered_BM[count]
    excess_M = ordered_BM[1:count].mean(0) - threshold_M
    scale_M = np.where(excess_M > 1e-12, excess_M, signed_BM.std(0))  # equal values have no excess
    distance_BM = signed_BM - threshold_M
    return np.divide(distance_BM, scale_M, out=np.zeros_like(distance_BM), where=scale_M > 1e-12)


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
    return np.sqrt((NUM_PARTS - 1) / NUM_PARTS * ((values - values.mean(0)) ** 2).sum(0))


def interval(values_M: Floats, errors_M: Floats, metrics: Sequence[Metric]) -> tuple[Floats, Floats]:
    """Return ends of 95 % intervals for normal errors, clipped to the metrics' bounds."""
    low, high = np.array([metric.bounds for metric in metrics]).T
    return np.clip(values_M - _NORMAL_95 * errors_M, low, high), np.clip(values_M + _NORMAL_95 * errors_M, low, high)


# Define the record of one metric: value, interval, floor and significance.

SIGNIFICANCE = 0.05  # of one statement of an analysis
AUDIT_LEVEL = 0.01  # chance that an audit of equal distributions reports any finding


@dataclass(frozen=True)
class Finding:
    """One metric of an audit.

    Attributes
    ----------
    metric
        Name of the metric, such as "coverage".
    feature
        Feature space or quantity that it measures.
    worse
        The direction that counts against the synthetic set.
    value
        Its value for the synthetic set; NaN: not testable.
    low, high
        95 % interval of the value.
    floor
        Its mean for real pictures against real pictures, at the same number of pictures.
    floor_low, floor_high
        Range that holds 95 % of such comparisons.
    p_value
        Chance of a value as extreme if both sets have one distribution, adjusted for the number of
        metrics.
    significant
        Whether the p-value is at most the significance level of the audit, and the value lies
        beyond the floor.
    """

    metric: str
    feature: str
    worse: Worse
    value: float
    low: float
    high: float
    floor: float
    floor_low: float
    floor_high: float
    p_value: float
    significant: bool

    @property
    def testable(self) -> bool:
        """Return whether the value could be measured."""
        return bool(np.isfinite(self.value))

    @property
    def beyond_floor(self) -> bool:
        """Return whether the value is worse than 95 % of real-to-real comparisons."""
        above, below = self.value > self.floor_high, self.value < self.floor_low
        return {"higher": above, "lower": below, "different": above or below}[self.worse]

    def adjusted(self, p_value: float) -> Finding:
        """Return the finding with another p-value."""
        return replace(self, p_value=p_value, significant=p_value <= AUDIT_LEVEL and self.beyond_floor)


def make_findings(
    metrics: Sequence[Metric], values_M: Floats, ends: tuple[Floats, Floats], floors_BM: Floats, p_values_M: Floats
) -> list[Finding]:
    """Return one finding per metric.

    Parameters
    ----------
    metrics
        The M metrics.
    values_M, ends
        Their values, and the ends of the intervals.
    floors_BM
        float64 [B, M], the values of B comparisons of real pictures with real pictures.
    p_values_M
        Adjusted p-values.
    """
    known_M = np.isfinite(floors_BM).any(0)
    quantiles = np.nanquantile(np.where(known_M, floors_BM, 0.0), (0.025, 0.975), axis=0)
    low, high = np.where(known_M, quantiles, np.nan)
    columns = (values_M, *ends, floors_BM.mean(0), low, high, p_values_M)
    numbers = ("value", "low", "high", "floor", "floor_low", "floor_high", "p_value")
    rows = np.stack(columns, axis=1).tolist()
    findings = [
        Finding(metric.name, metric.feature, metric.worse, **dict(zip(numbers, row, strict=True)), significant=False)
        for metric, row in zip(metrics, rows, strict=True)
    ]
    return [finding.adjusted(finding.p_value) for finding in findings]


def combine(*families: list[Finding]) -> list[Finding]:
    """Return all findings, Bonferroni-adjusted so that they share one `AUDIT_LEVEL`."""
    used = [family for family in families if family]
    return [finding.adjusted(min(1.0, len(used) * finding.p_value)) for family in used for finding in family]
