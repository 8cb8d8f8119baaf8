"""Compute 95 % intervals of repeated runs, of resamples and of shares.

Shape suffixes: S seeds, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Values = Sequence[float] | npt.NDArray[np.float64]


class Interval(NamedTuple):
    """An estimate and the ends of its 95 % interval; NaN where there is none."""

    value: float
    low: float
    high: float


def known(value: Any) -> Any:
    """Return a value for JSON: None for a number that is not finite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


NO_INTERVAL = Interval(math.nan, math.nan, math.nan)


def half_width(values_S: Values) -> float:
    """Return half the width of the mean's t interval; NaN for fewer than two values."""
    count = len(np.asarray(values_S))
    if count < 2:
        return math.nan
    from scipy import special  # imported late, because results are shown without computing any

    return float(special.stdtrit(count - 1, 0.975)) * float(np.std(values_S, ddof=1)) / math.sqrt(count)


def mean_interval(values_S: Values, test_share: float = 0.0) -> Interval:
    """Return the mean of at least one seed and its interval; NaN ends for one seed.

    Parameters
    ----------
    values_S
        A value for each seed.
    test_share
        Test galaxies over training galaxies, where each value is of another random split of the same
        galaxies. The values are then not independent, and the variance of their mean is (1/S +
        test_share) times theirs (Nadeau & Bengio 2003, Machine Learning 52, 239). 0: independent.
    """
    mean = float(np.mean(values_S))
    half = half_width(values_S) * math.sqrt(1 + len(values_S) * test_share)
    return Interval(mean, mean - half, mean + half)


def paired_difference(values_S: Values, reference_S: Values, test_share: float = 0.0) -> Interval:
    """Return the mean difference to a reference with the same seeds, and its interval."""
    return mean_interval(np.asarray(values_S, float) - np.asarray(reference_S, float), test_share)


def welch_half_width(variances: Sequence[float], counts: Sequence[int]) -> float:
    """Return half the width of a sum's interval (Welch 1947).

    Parameters
    ----------
    variances
        Variance of each term within its group.
    counts
        Number of values, at least 2, whose mean is the term.
    """
    of_means = np.array(variances) / np.array(counts)
    if not (total := float(of_means.sum())):
        return 0.0
    from scipy import special

    freedom = total**2 / float((of_means**2 / (np.array(counts) - 1)).sum())
    return float(special.stdtrit(freedom, 0.975)) * math.sqrt(total)


def wilson(count: int, total: int) -> Interval:
    """Return a share and its Wilson interval; NaN of nothing."""
    if not total:
        return NO_INTERVAL
    from scipy import stats

    low, high = stats.binomtest(count, total).proportion_ci(method="wilson")
    return Interval(count / total, float(low), float(high))


def percentile_interval(value: float, resampled_R: Values) -> Interval:
    """Return an estimate with 2.5 % and 97.5 % quantiles of its resamples, except NaN."""
    low, high = np.nanquantile(resampled_R, (0.025, 0.975))
    return Interval(value, float(low), float(high))
