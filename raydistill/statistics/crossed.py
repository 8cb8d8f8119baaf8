"""Compute intervals of a mean over crossed factors, such as networks and galaxies.

Each of S seeds is combined with each of R replicates. With the mean squares of seeds, replicates and
their interaction, the variance of the grand mean is

    (MS_S + MS_R - MS_SR) / (S R),

so the interval covers new seeds and new replicates. Its degrees of freedom are Satterthwaite's.
With one replicate this is Student's t over the seeds.

Replicates may have strata, of which the mean takes the average: galaxies have classes, and the
balanced accuracy is the average over these. The variances of the strata's means then add up.

References
----------
Mean squares: Cornfield & Tukey 1956, doi:10.1214/aoms/1177728067. Degrees of freedom: Satterthwaite
1946, doi:10.2307/3002019. Proportions of few galaxies: Agresti & Caffo 2000,
doi:10.1080/00031305.2000.10474560.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from operator import sub
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

# Values that are added to each stratum when its scatter is estimated, since the scatter of few
# proportions of 0 or 1 is underestimated: a success and a failure, or half of each kind of change.
PROPORTIONS = (0.0, 1.0)
CHANGES = (-math.sqrt(0.5), math.sqrt(0.5))


class CrossedMean(NamedTuple):
    """A mean, its 95 % interval, and the p-value of the hypothesis that it is 0.

    Interval and p-value are NaN for a single seed, or where no value is finite.
    """

    mean: float
    low: float
    high: float
    p_value: float
    seeds: int
    replicates: int


class _Part(NamedTuple):
    """A part of the variance of a mean, and its degrees of freedom."""

    variance: float
    freedom: float


def crossed_mean(
    values_SR: Values, strata_R: npt.NDArray[np.integer] | None = None, added: Sequence[float] = ()
) -> CrossedMean:
    """Return the mean over seeds and replicates.

    Parameters
    ----------
    values_SR
        float64 [S, R], a value per seed and replicate. A seed with a value that is not finite is
        left out.
    strata_R
        Stratum of each replicate; None: a single one.
    added
        Values that the scatter of each stratum takes as well, such as `PROPORTIONS`.
    """
    return _crossed([values_SR[np.isfinite(values_SR).all(axis=1)]], strata_R, added)


def crossed_difference(
    first_SR: Values, second_TR: Values, strata_R: npt.NDArray[np.integer] | None = None, added: Sequence[float] = ()
) -> CrossedMean:
    """Return the mean of first minus second, for the same replicates.

    Seeds are independent. Parameters are as in `crossed_mean`. The replicates are paired, which leaves out their scatter.
    """
    return _crossed([first_SR, second_TR], strata_R, added)


def _crossed(sets: Sequence[Values], strata_R: npt.NDArray[np.integer] | None, added: Sequence[float]) -> CrossedMean:
    """Return the mean of the first values, less that of the second if there are two."""
    seeds, replicates = min(map(len, sets)), sets[0].shape[1]
    if not seeds or not replicates:
        return CrossedMean(*(math.nan,) * 4, seeds, replicates)
    strata = _strata(strata_R, replicates)
    mean = float(reduce(sub, [_row_means(values, strata).mean() for values in sets]))
    if seeds < 2:
        return CrossedMean(mean, math.nan, math.nan, math.nan, seeds, replicates)
    of_replicates = _over_replicates(reduce(sub, [values.mean(axis=0) for values in sets]), strata, added)
    of_seeds, rest = ([part(values, strata) for values in sets] for part in (_over_seeds, _interaction))
    variance, freedom = _combine(of_seeds, of_replicates, rest)
    error = math.sqrt(variance)
    if error <= 1e-12 * max(1.0, abs(mean)):  # equal values but for rounding
        return CrossedMean(mean, mean, mean, 1.0 if abs(mean) < 1e-12 else 0.0, seeds, replicates)
    from scipy import special  # a fifth of a second, which commands that open a report do not need

    half = float(special.stdtrit(freedom, 0.975)) * error
    p_value = 2 * float(special.stdtr(freedom, -abs(mean) / error))
    return CrossedMean(mean, mean - half, mean + half, p_value, seeds, replicates)


def _strata(strata_R: npt.NDArray[np.integer] | None, replicates: int) -> list[npt.NDArray[np.intp]]:
    """Return the replicates of each stratum."""
    if strata_R is None:
        return [np.arange(replicates)]
    return [np.flatnonzero(strata_R == stratum) for stratum in np.unique(strata_R)]


def _row_means(values_SR: Values, strata: Sequence[npt.NDArray[np.intp]]) -> Values:
    """Return the average over the strata of their means, [S]."""
    return np.mean([values_SR[:, members].mean(axis=1) for members in strata], axis=0)


def _over_seeds(values_SR: Values, strata: Sequence[npt.NDArray[np.intp]]) -> _Part:
    means_S = _row_means(values_SR, strata)
    return _Part(float(means_S.var(ddof=1)) / len(means_S), len(means_S) - 1)


def _over_replicates(means_R: Values, strata: Sequence[npt.NDArray[np.intp]], added: Sequence[float]) -> _Part:
    """Return the variance from replicates, whose values are means over seeds."""
    parts = []
    for members in strata:
        values = np.concatenate([means_R[members], added])
        if len(values) > 1:
            parts.append(_Part(float(values.var(ddof=1)) / len(values) / len(strata) ** 2, len(values) - 1))
    return _sum(parts)


def _interaction(values_SR: Values, strata: Sequence[npt.NDArray[np.intp]]) -> _Part:
    """Return the variance of the interaction, which both other parts hold."""
    total, freedom = 0.0, 0.0
    for members in strata:
        if len(members) > 1:
            values = values_SR[:, members]
            rest = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
            free = (len(values) - 1) * (len(members) - 1)
            total += float((rest**2).sum()) / free / values.size / len(strata) ** 2
            freedom += free
    return _Part(total, max(freedom, 1.0))


def _combine(of_seeds: Sequence[_Part], of_replicates: _Part, rest: Sequence[_Part]) -> _Part:
    """Return the variance of the grand mean and its degrees of freedom."""
    seeds = _sum(of_seeds)
    total = seeds.variance + of_replicates.variance - sum(part.variance for part in rest)
    larger = max(seeds, of_replicates)
    if total <= larger.variance:  # the variance of the other factor is estimated as 0 or less
        return larger
    return _Part(total, total**2 / sum(p.variance**2 / p.freedom for p in (*of_seeds, of_replicates, *rest)))


def _sum(parts: Sequence[_Part]) -> _Part:
    total = sum(part.variance for part in parts)
    squares = sum(part.variance**2 / part.freedom for part in parts)
    return _Part(total, total**2 / squares if squares else 1.0)
