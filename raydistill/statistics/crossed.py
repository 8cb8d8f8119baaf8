"""Compute intervals of a mean over crossed random factors: seeds and replicates.

Each of S seeds is combined with each of R replicates, such as generators. With the mean squares of
seeds, replicates and their interaction, the variance of the grand mean is

    (MS_S + MS_R - MS_SR) / (S R),

so the interval covers new seeds and new replicates. Its degrees of freedom are Satterthwaite's.
With one replicate this is Student's t over the seeds.

References
----------
Mean squares: Cornfield & Tukey 1956, doi:10.1214/aoms/1177728067. Degrees of freedom: Satterthwaite
1946, doi:10.2307/3002019.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special


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


def crossed_mean(values_SR: npt.NDArray[np.float64]) -> CrossedMean:
    """Return the mean over seeds and replicates.

    Parameters
    ----------
    values_SR
        float64 [S, R], a value per seed and replicate. A seed with a value that is not finite is
        left out.
    """
    values_SR = values_SR[np.isfinite(values_SR).all(axis=1)]
    seeds, replicates = values_SR.shape
    nan = math.nan
    if seeds < 2:
        return CrossedMean(float(values_SR.mean()) if seeds else nan, nan, nan, nan, seeds, replicates)
    mean = float(values_SR.mean())
    variance, freedom = _variance(values_SR)
    error = math.sqrt(variance)
    if error <= 1e-12 * max(1.0, abs(mean)):  # equal values but for rounding
        return CrossedMean(mean, mean, mean, 1.0 if abs(mean) < 1e-12 else 0.0, seeds, replicates)
    half = float(special.stdtrit(freedom, 0.975)) * error
    p_value = 2 * float(special.stdtr(freedom, -abs(mean) / error))
    return CrossedMean(mean, mean - half, mean + half, p_value, seeds, replicates)


def _variance(values_SR: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the variance of the grand mean and its degrees of freedom."""
    seeds, replicates = values_SR.shape
    mean = values_SR.mean()
    of_seeds, of_replicates = values_SR.mean(axis=1) - mean, values_SR.mean(axis=0) - mean
    by_seed = replicates * float((of_seeds**2).sum()) / (seeds - 1)
    if replicates == 1:
        return by_seed / seeds, seeds - 1
    rest_SR = values_SR - mean - of_seeds[:, None] - of_replicates[None, :]
    by_replicate = seeds * float((of_replicates**2).sum()) / (replicates - 1)
    rest = float((rest_SR**2).sum()) / ((seeds - 1) * (replicates - 1))
    squares, freedoms = (by_seed, by_replicate), (seeds - 1.0, replicates - 1.0)
    total = by_seed + by_replicate - rest
    larger = int(by_replicate > by_seed)
    if total <= squares[larger]:  # the variance of the other factor is estimated as 0 or less
        return squares[larger] / (seeds * replicates), freedoms[larger]
    all_freedoms = zip((*squares, rest), (*freedoms, (seeds - 1) * (replicates - 1)), strict=True)
    return total / (seeds * replicates), total**2 / sum(square**2 / freedom for square, freedom in all_freedoms)
