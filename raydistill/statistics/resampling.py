"""Compare paired results over pictures, and measure how much of a gap is closed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import stats

from raydistill.seeding import fold_in
from raydistill.statistics.intervals import NO_INTERVAL, Interval, percentile_interval

# Compute intervals and p-values of paired comparisons over pictures.
#
# The same pictures are measured before and after a change. So pictures are resampled together with
# both of their values, which leaves out the scatter between pictures.

Floats = npt.NDArray[np.float64]
T = TypeVar("T")

NUM_RESAMPLES = 2000
_VALUES_AT_ONCE = 2_000_000  # 16 MB


@dataclass(frozen=True)
class Change:
    """The mean change of a quantity over pictures.

    Attributes
    ----------
    interval
        The mean with its 95 % bootstrap interval; the ends are NaN for fewer than two pictures.
    n
        Number of pictures.
    p_value
        Two-sided, of no change; not adjusted. NaN without pictures.
    """

    interval: Interval
    n: int
    p_value: float


def draws(size: int, seed: int, count: int = NUM_RESAMPLES) -> Iterator[npt.NDArray[np.int64]]:
    """Yield int64 [b, size], the rows of b bootstrap resamples, `count` in total."""
    rng = np.random.default_rng(fold_in(seed, "bootstrap"))
    block = max(1, min(count, _VALUES_AT_ONCE // max(size, 1)))
    for first in range(0, count, block):
        yield rng.integers(size, size=(min(block, count - first), size))


def bootstrap(statistic: Callable[[npt.NDArray[np.int64]], Floats], size: int, seed: int) -> Floats:
    """Return `NUM_RESAMPLES` values of a statistic of rows [b, size] -> [b, ...]."""
    return np.concatenate([statistic(rows) for rows in draws(size, seed)])


def bootstrap_interval(items: Sequence[T], statistic: Callable[[Sequence[T]], float], seed: int) -> Interval:
    """Return a statistic of items, and its bootstrap interval of 1000 draws."""
    rows = (row for block in draws(len(items), seed, 1000) for row in block)
    return percentile_interval(statistic(items), [statistic([items[n] for n in row]) for row in rows])


def mean_of_resamples(values_N: Floats, seed: int) -> Floats:
    """Return the means of `NUM_RESAMPLES` bootstrap resamples."""
    return bootstrap(lambda rows: values_N[rows].mean(axis=1), len(values_N), seed)


def bootstrap_mean(values_N: Floats, seed: int) -> Interval:
    """Return the mean with its 95 % bootstrap interval.

    It is NaN without values; a single value has no interval (NaN ends).
    """
    if not len(values_N):
        return NO_INTERVAL
    mean = float(values_N.mean())
    if len(values_N) == 1:
        return Interval(mean, np.nan, np.nan)
    return percentile_interval(mean, mean_of_resamples(values_N, seed))


def normal_test(value: float, resampled_B: Floats) -> tuple[Interval, float]:
    """Return a statistic with its bootstrap interval, and the p-value of 0.

    The interval is that of 95 %. The p-value is two-sided and takes the statistic as normal, with
    the standard deviation of the resamples. So it may be smaller than one over their number.
    """
    error = float(resampled_B.std())
    p_value = float(2 * stats.norm.sf(abs(value) / error)) if error else float(value == 0)
    return percentile_interval(value, resampled_B), p_value


def share_changed(before_N: npt.NDArray[np.bool_], after_N: npt.NDArray[np.bool_], seed: int) -> Change:
    """Return how much the share of true values falls from before to after.

    The p-value is that of the exact test of McNemar (1947): among the pictures whose value changed,
    either direction has the probability 1/2 if the change has no effect.
    """
    lost, won = int((before_N & ~after_N).sum()), int((~before_N & after_N).sum())
    p_value = float(stats.binomtest(lost, lost + won).pvalue) if lost + won else 1.0
    difference_N = before_N.astype(np.float64) - after_N
    return Change(bootstrap_mean(difference_N, seed), len(before_N), p_value if len(before_N) else np.nan)


def mean_change(before_N: Floats, after_N: Floats, seed: int) -> Change:
    """Return how much the mean falls from before to after.

    The p-value is that of Wilcoxon's signed-rank test.
    """
    difference_N = before_N - after_N
    p_value = np.nan
    if len(difference_N):
        p_value = float(stats.wilcoxon(difference_N).pvalue) if np.any(difference_N != 0) else 1.0
    return Change(bootstrap_mean(difference_N, seed), len(difference_N), p_value)


# Measure how much of a survey gap an adaptation closes, with bootstrap intervals.
#
# With balanced accuracies A on the target of networks without adaptation, with it, and trained on the
# target's labels (the upper bound),
#
#     share = (A_with - A_without) / (A_bound - A_without).
#
# A resample draws galaxies within their class, and networks, with replacement. All three kinds of
# networks see the same galaxies, and those with and without adaptation are paired by their seed, so
# the interval is that of a paired comparison.


def bootstrap_accuracies(
    correct: list[np.ndarray], labels_N: np.ndarray, seed: int, resamples: int = NUM_RESAMPLES
) -> tuple[np.ndarray, np.ndarray]:
    """Return balanced accuracies of several kinds of networks, and of resamples.

    Parameters
    ----------
    correct
        For each of M kinds of networks, bool [S, N]: whether network s is right about galaxy n. All
        have the same seeds, in the same order.
    labels_N
        Classes of the galaxies; the accuracy is the mean over those that occur.
    seed
        Seed of the resamples.
    resamples
        Number R of resamples.

    Returns
    -------
    tuple of numpy.ndarray
        float64 [M] and [R, M].
    """
    stacked_MSN = np.stack(correct).astype(np.float64)
    num_seeds, rng = stacked_MSN.shape[1], np.random.default_rng(seed)
    members = [np.flatnonzero(labels_N == label) for label in np.unique(labels_N)]
    weights_RS = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), resamples) / num_seeds
    sums_RM = np.zeros((resamples, len(correct)))
    for rows in members:
        weights_RN = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), resamples) / len(rows)
        sums_RM += np.einsum("rs,msn,rn->rm", weights_RS, stacked_MSN[:, :, rows], weights_RN, optimize=True)
    plain_M = np.mean([stacked_MSN[:, :, rows].mean(axis=(1, 2)) for rows in members], axis=0)
    return plain_M, sums_RM / len(members)


def difference(first_SN: np.ndarray, second_SN: np.ndarray, labels_N: np.ndarray, seed: int) -> Interval:
    """Return the balanced accuracy of the first networks minus the second's, paired."""
    plain_M, resampled_RM = bootstrap_accuracies([first_SN, second_SN], labels_N, seed)
    return percentile_interval(float(plain_M[0] - plain_M[1]), resampled_RM[:, 0] - resampled_RM[:, 1])


def gap_closed(
    without_SN: np.ndarray, with_SN: np.ndarray, upper_bound_SN: np.ndarray, labels_N: np.ndarray, seed: int
) -> Interval:
    """Return the share of the gap that the adaptation closes.

    All are NaN if the gap is not above 0 in 97.5 % of the resamples: there is no gap to close.
    """
    plain_M, resampled_RM = bootstrap_accuracies([without_SN, with_SN, upper_bound_SN], labels_N, seed)
    gap_R = resampled_RM[:, 2] - resampled_RM[:, 0]
    if np.quantile(gap_R, 0.025) <= 0:
        return NO_INTERVAL
    share = (plain_M[1] - plain_M[0]) / (plain_M[2] - plain_M[0])
    usable = gap_R > 0
    resampled_R = (resampled_RM[usable, 1] - resampled_RM[usable, 0]) / gap_R[usable]
    return percentile_interval(float(share), resampled_R)
