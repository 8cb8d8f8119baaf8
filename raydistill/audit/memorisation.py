"""Test whether synthetic pictures repeat training pictures.

Each synthetic picture is compared with its nearest training picture and its nearest held-out one,
in reference sets of equal size. A generator that has learned the distribution is as near to one as
to the other. A generator that repeats training pictures is nearer to those.

Synthetic pictures share neighbours, so they are no independent votes: a sign test over them found
"memorisation" in 15 % of honest sets. Under the null hypothesis it is the *real* pictures that are
exchangeable between training and held-out. The test permutes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raydistill.audit.findings import Finding, make_findings
from raydistill.audit.statistics import Floats, Metric
from raydistill.audit.testing import NUM_PARTS, adjusted_p_values, interval
from raydistill.errors import RaydistillError
from raydistill.seeding import fold_in

NUM_PERMUTATIONS = 999
NUM_NEAREST = 64  # a permutation puts all of them on one side once in 2^63
SOFTENING = 0.01  # of the median distance: a copy at distance 0 gets a finite logarithm
PICTURE_SIDE = 16  # pixels: memorised pictures agree at this resolution

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class NearestPairs:
    """For each synthetic picture its nearest training and held-out picture.

    Attributes
    ----------
    training_S, held_out_S
        int64 [S], rows of the training and the held-out set.
    training_distance_S, held_out_distance_S
        float64 [S].
    """

    training_S: Ints
    held_out_S: Ints
    training_distance_S: Floats
    held_out_distance_S: Floats

    def closest(self, count: int) -> Ints:
        """Return the synthetic pictures int64 [count] that are nearest to a training picture.

        They are sorted by the distance to the training picture, over that to the held-out one.
        """
        tiny = np.finfo(float).tiny
        ratio_S = (self.training_distance_S + tiny) / (self.held_out_distance_S + tiny)
        return np.argsort(ratio_S, kind="stable")[:count]


def nearest_pairs(distances_SR: Floats) -> NearestPairs:
    """Return the nearest pairs from distances to training and held-out pictures, in two equal halves."""
    half = distances_SR.shape[1] // 2
    training, held_out = distances_SR[:, :half], distances_SR[:, half:]
    return NearestPairs(training.argmin(1), held_out.argmin(1), training.min(1), held_out.min(1))


def memorisation(distances: Mapping[str, Floats], seed: int = 0, permutations: int = NUM_PERMUTATIONS) -> list[Finding]:
    r"""Return two findings per feature space: the share of nearer training pictures, and the log ratio.

    Parameters
    ----------
    distances
        For each feature space float64 [S, 2 R]: distances of S synthetic pictures to R training
        and then R held-out pictures, in the same order in all spaces.
    seed
        Decides the permutations.
    permutations
        Their number.

    Returns
    -------
    list of Finding
        "nearer_to_training": the share of synthetic pictures whose nearest real picture is a
        training picture; 0.5 without memorisation. "memorisation": the mean of
        :math:`\ln(d_\text{held-out} / d_\text{training})`; 0 without memorisation. The chance that
        any is significant without memorisation is `findings.SIGNIFICANCE`.

    Raises
    ------
    RaydistillError
        The numbers of training and held-out pictures differ.
    """
    for space, distances_SR in distances.items():
        if distances_SR.shape[1] % 2:
            raise RaydistillError("the reference sets differ in size", f"audit, {space}", "give two of one size")
    num_real = next(iter(distances.values())).shape[1]
    training_R = np.arange(num_real) < num_real // 2
    rng = np.random.default_rng(fold_in(seed, "memorisation"))
    statistics = [_Statistic(distances_SR) for distances_SR in distances.values()]
    values_M = np.concatenate([statistic(training_R).mean(1) for statistic in statistics])
    drawn = [rng.permutation(training_R) for _ in range(permutations)]
    null_BM = np.stack([np.concatenate([one(is_training_R).mean(1) for one in statistics]) for is_training_R in drawn])
    errors_M = np.concatenate([_jackknife_error(statistic(training_R)) for statistic in statistics])
    metrics = [
        metric
        for space in distances
        for metric in (Metric("nearer_to_training", space, bounds=(0, 1)), Metric("memorisation", space))
    ]
    p_values_M = adjusted_p_values(values_M, null_BM, ["higher"] * len(values_M))
    return make_findings(metrics, values_M, interval(values_M, errors_M, metrics), null_BM, p_values_M)


class _Statistic:
    """Map which real pictures are training pictures to two numbers per synthetic picture, [2, S]."""

    def __init__(self, distances_SR: Floats) -> None:
        self.order = np.argsort(distances_SR, axis=1, kind="stable")[:, :NUM_NEAREST]
        softened = distances_SR + SOFTENING * np.median(distances_SR) + np.finfo(float).tiny
        self.logs = np.log(np.take_along_axis(softened, self.order, axis=1))

    def __call__(self, is_training_R: npt.NDArray[np.bool_]) -> Floats:
        training = is_training_R[self.order]
        to_training, to_held_out = self._nearest(training), self._nearest(~training)
        return np.stack([training[:, 0].astype(float), to_held_out - to_training])

    def _nearest(self, among: npt.NDArray[np.bool_]) -> Floats:
        """Return the log distance to the first that counts, or to the last of all."""
        first = np.where(among.any(1), among.argmax(1), among.shape[1] - 1)
        return self.logs[np.arange(len(first)), first]


def _jackknife_error(values_MS: Floats) -> Floats:
    """Return the standard error of the means [M]; a mean needs no parts, but the same formula holds."""
    parts = [part for part in np.array_split(np.arange(values_MS.shape[1]), NUM_PARTS) if part.size]
    means = np.stack([np.delete(values_MS, part, axis=1).mean(1) for part in parts])
    errors: Floats = np.sqrt((len(parts) - 1) / len(parts) * ((means - means.mean(0)) ** 2).sum(0))
    return errors


def picture_distances(synthetic_SHWC: Floats, real_RHWC: Floats) -> Floats:
    """Return root mean square differences of pictures, for the best of the eight flips and turns.

    Parameters
    ----------
    synthetic_SHWC, real_RHWC
        Pictures [S, H, H, 3] and [R, H, H, 3], black 0 and white 1.

    Returns
    -------
    ndarray
        float64 [S, R], in units of the pixel values, after averaging to at most `PICTURE_SIDE`
        pixels a side.
    """
    synthetic, real = shrink(synthetic_SHWC), shrink(real_RHWC)
    flat_real = real.reshape(len(real), -1)
    squares_R = (flat_real**2).sum(1)
    best = np.full((len(synthetic), len(real)), np.inf)
    for turns in range(4):
        for flip in (False, True):
            turned = np.rot90(synthetic, turns, axes=(1, 2))
            flat = (turned[:, :, ::-1] if flip else turned).reshape(len(synthetic), -1)
            np.minimum(best, (flat**2).sum(1)[:, None] + squares_R - 2 * flat @ flat_real.T, out=best)
    distances: Floats = np.sqrt(best.clip(0) / flat_real.shape[1])
    return distances


def shrink(pictures_NHWC: Floats) -> Floats:
    """Return pictures averaged over whole blocks of pixels, at most `PICTURE_SIDE` to 2 `PICTURE_SIDE` a side."""
    block = max(1, pictures_NHWC.shape[1] // PICTURE_SIDE)
    side = pictures_NHWC.shape[1] // block
    start = (pictures_NHWC.shape[1] - side * block) // 2
    cut = pictures_NHWC[:, start : start + side * block, start : start + side * block].astype(float)
    return cut.reshape(len(cut), side, block, side, block, -1).mean(axis=(2, 4))
