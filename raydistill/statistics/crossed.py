"""Compute intervals of a mean over crossed factors, such as networks and galaxies.

Each of S seeds is combined with each of R replicates. With the mean squares of seeds, replicates and
their interaction, the variance of the grand mean is

    (MS_S + MS_R - MS_SR) / (S R),

so the interval covers new seeds and new replicates. Its degrees of freedom are Satterthwaite's.
With one replicate this is Student's t over the seeds.

Seeds may also be combined with each of M sets, such as samples of several generators. The variance
from seeds and sets, at these replicates, then takes the place of MS_S / (S R), and the three
interactions with the replicates that of MS_SR: MS_SR + MS_MR - MS_SMR, each over S M R.

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
from typing import Any, NamedTuple

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
        float64 [S, R], a value per seed and replicate; or [S, M, R] with M sets. A seed with a
        value that is not finite is left out.
    strata_R
        Stratum of each replicate; None: a single one.
    added
        Values that the scatter of each stratum takes as well, such as `PROPORTIONS`.
    """
    values_SMR = values_SR[:, None] if values_SR.ndim == 2 else values_SR
    values_SMR = values_SMR[np.isfinite(values_SMR).all(axis=(1, 2))]
    seeds, _, replicates = values_SMR.shape
    if not seeds or not replicates:
        return CrossedMean(*(math.nan,) * 4, seeds, replicates)
    strata = _strata(strata_R, replicates)
    means_SM = _row_means(values_SMR, strata)
    mean = float(means_SM.mean())
    if seeds < 2:
        return CrossedMean(mean, math.nan, math.nan, math.nan, seeds, replicates)
    of_replicates = _over_replicates(values_SMR.mean(axis=(0, 1)), strata, added)
    of_seeds, rest = _over_seeds_and_sets(means_SM), _interactions(values_SMR, strata)
    return _with_interval(mean, [of_seeds], of_replicates, [rest], seeds, replicates)


def crossed_difference(
    first_SR: Values, second_TR: Values, strata_R: npt.NDArray[np.integer] | None = None, added: Sequence[float] = ()
) -> CrossedMean:
    """Return the mean of first minus second, for the same replicates.

    Seeds are independent. Parameters are as in `crossed_mean`. The replicates are paired, which leaves out their scatter.
    """
    seeds, replicates = min(len(first_SR), len(second_TR)), first_SR.shape[1]
    strata = _strata(strata_R, replicates)
    if not seeds or not replicates:
        return CrossedMean(*(math.nan,) * 4, seeds, replicates)
    mean = float(_row_means(first_SR, strata).mean() - _row_means(second_TR, strata).mean())
    if seeds < 2:
        return CrossedMean(mean, math.nan, math.nan, math.nan, seeds, replicates)
    both = (first_SR, second_TR)
    of_replicates = _over_replicates(first_SR.mean(axis=0) - second_TR.mean(axis=0), strata, added)
    return _with_interval(
        mean, [_over_seeds(values, strata) for values in both], of_replicates,
        [_interaction(values, strata) for values in both], seeds, replicates,
    )  # fmt: skip


def ratio_values(part_SR: npt.NDArray[Any], whole_SR: npt.NDArray[Any]) -> Values:
    """Return linearised values whose mean is a ratio, for `crossed_mean`.

    Parameters
    ----------
    part_SR, whole_SR
        Numbers or booleans, [..., R]. The ratio r is that of their means over the replicates.

    Returns
    -------
    numpy.ndarray
        r + (part - r whole) / mean(whole), float64 [..., R]; NaN where the whole is 0.
    """
    mean = whole_SR.mean(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = part_SR.mean(axis=-1, keepdims=True) / mean
        return np.asarray(ratio + (part_SR - ratio * whole_SR) / mean)


def _strata(strata_R: npt.NDArray[np.integer] | None, replicates: int) -> list[npt.NDArray[np.intp]]:
    """Return the replicates of each stratum."""
    if strata_R is None:
        return [np.arange(replicates)]
    return [np.flatnonzero(strata_R == stratum) for stratum in np.unique(strata_R)]


def _row_means(values_SR: Values, strata: Sequence[npt.NDArray[np.intp]]) -> Values:
    """Return the average over the strata of their means, [S] or [S, M]."""
    return np.mean([values_SR[..., members].mean(axis=-1) for members in strata], axis=0)


def _over_seeds(values_SR: Values, strata: Sequence[npt.NDArray[np.intp]]) -> _Part:
    return _of_means(_row_means(values_SR, strata))


def _of_means(means_S: Values) -> _Part:
    return _Part(float(means_S.var(ddof=1)) / len(means_S), len(means_S) - 1)


def _over_seeds_and_sets(means_SM: Values) -> _Part:
    """Return the variance from seeds and sets."""
    of_seeds = _of_means(means_SM.mean(axis=1))
    if means_SM.shape[1] == 1:
        return of_seeds
    rest = _interaction(means_SM, [np.arange(means_SM.shape[1])])
    return _Part(*_combine([of_seeds], _of_means(means_SM.mean(axis=0)), [rest]))


def _over_replicates(means_R: Values, strata: Sequence[npt.NDArray[np.intp]], added: Sequence[float]) -> _Part:
    """Return the variance from replicates, whose values are means over seeds."""
    parts = []
    for members in strata:
        values = np.concatenate([means_R[members], added])
        if len(values) > 1:
            parts.append(_Part(float(values.var(ddof=1)) / len(values) / len(strata) ** 2, len(values) - 1))
    return _sum(parts)


def _interactions(values_SMR: Values, strata: Sequence[npt.NDArray[np.intp]]) -> _Part:
    """Return the variance from interactions of seeds and sets with replicates."""
    with_seeds = _interaction(values_SMR.mean(axis=1), strata)
    if values_SMR.shape[1] == 1:
        return with_seeds
    with_sets = _interaction(values_SMR.mean(axis=0), strata)
    return _Part(*_combine([with_seeds], with_sets, [_interaction(values_SMR, strata)]))


def _interaction(values: Values, strata: Sequence[npt.NDArray[np.intp]]) -> _Part:
    """Return the variance of the interaction of all axes; the last one has strata."""
    total, freedom = 0.0, 0.0
    for members in strata:
        if len(members) > 1:
            rest = values[..., members]
            for axis in range(rest.ndim):
                rest = rest - rest.mean(axis=axis, keepdims=True)
            free = math.prod(length - 1 for length in rest.shape)
            total += float((rest**2).sum()) / free / rest.size / len(strata) ** 2
            freedom += free
    return _Part(total, max(freedom, 1.0))


def _with_interval(
    mean: float, of_seeds: Sequence[_Part], of_replicates: _Part, rest: Sequence[_Part], seeds: int, replicates: int
) -> CrossedMean:
    variance, freedom = _combine(of_seeds, of_replicates, rest)
    error = math.sqrt(variance)
    if error <= 1e-12 * max(1.0, abs(mean)):  # equal values but for rounding
        return CrossedMean(mean, mean, mean, 1.0 if abs(mean) < 1e-12 else 0.0, seeds, replicates)
    from scipy import special  # a fifth of a second, which commands that open a report do not need

    half = float(special.stdtrit(freedom, 0.975)) * error
    p_value = 2 * float(special.stdtr(freedom, -abs(mean) / error))
    return CrossedMean(mean, mean - half, mean + half, p_value, seeds, replicates)


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
