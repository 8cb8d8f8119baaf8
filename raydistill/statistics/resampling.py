"""Compute intervals and p-values of paired comparisons over pictures.

The same pictures are measured before and after a change. So pictures are resampled together with
both of their values, which leaves out the scatter between pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import stats

from raydistill.seeding import fold_in
from raydistill.statistics.intervals import NO_INTERVAL, Interval, percentile_interval

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
    """Return `NUM_RESAMPLES` values of a statistic of rows [b, size] -> [b]."""
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
