"""Test whether synthetic pictures repeat training pictures.

Each synthetic picture is compared with its nearest training picture and its nearest held-out one.
A generator that repeats training pictures is nearer to those than chance explains. All training
pictures are searched. There are usually more of them than held-out ones, so the nearest picture is
mostly a training picture: the floor says how often.

Synthetic pictures share neighbours, so they are no independent votes: a sign test over them found
"memorisation" in 15 % of honest sets. Under the null hypothesis it is the *real* pictures that are
exchangeable between training and held-out. The test permutes them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from raydistill.seeding import fold_in
from raydistill.statistics.findings import Finding, make_findings
from raydistill.statistics.nearest import RealNeighbours
from raydistill.statistics.permutation import Bools, Floats, Metric
from raydistill.statistics.testing import NUM_PARTS, adjusted_p_values, interval

NUM_PERMUTATIONS = 999
SOFTENING = 0.01  # of the median distance to the last neighbour: a copy at distance 0 gets a finite logarithm
PICTURE_SIDE = 16  # pixels: memorised pictures agree at this resolution


def memorisation(
    neighbours: Mapping[str, RealNeighbours], seed: int = 0, permutations: int = NUM_PERMUTATIONS
) -> list[Finding]:
    r"""Return two findings per feature space: nearer training pictures, and log ratio.

    Parameters
    ----------
    neighbours
        For each feature space the nearest real pictures of the same synthetic pictures. The real
        pictures and their order are the same in all spaces.
    seed
        Decides the permutations.
    permutations
        Their number.

    Returns
    -------
    list of Finding
        "nearer_to_training": the share of synthetic pictures whose nearest real picture is a
        training picture. "memorisation": the mean of
        :math:`\ln(d_\text{held-out} / d_\text{training})`. The chance that any is significant
        without memorisation is `findings.SIGNIFICANCE`.

    Notes
    -----
    A neighbour beyond the K nearest counts as if it were at the distance of the last one.
    """
    _, training_R = next(iter(neighbours.values())).pooled()
    rng = np.random.default_rng(fold_in(seed, "memorisation"))
    statistics = [_Statistic(one) for one in neighbours.values()]
    values_M = np.concatenate([statistic(training_R).mean(1) for statistic in statistics])
    drawn = [rng.permutation(training_R) for _ in range(permutations)]
    null_BM = np.stack([np.concatenate([one(is_training_R).mean(1) for one in statistics]) for is_training_R in drawn])
    errors_M = np.concatenate([_jackknife_error(statistic(training_R)) for statistic in statistics])
    metrics = [
        metric
        for space in neighbours
        for metric in (Metric("nearer_to_training", space, bounds=(0, 1)), Metric("memorisation", space))
    ]
    p_values_M = adjusted_p_values(values_M, null_BM, ["higher"] * len(values_M))
    return make_findings(metrics, values_M, interval(values_M, errors_M, metrics), null_BM, p_values_M)


class _Statistic:
    """Map a mask of training pictures [R] to two values per synthetic picture, [2, S]."""

    def __init__(self, neighbours: RealNeighbours) -> None:
        nearest, _ = neighbours.pooled()
        self.rows_SK = nearest.rows_SK
        softening = SOFTENING * np.median(nearest.distances_SK[:, -1]) + np.finfo(float).tiny
        self.logs_SK = np.log(nearest.distances_SK + softening)

    def __call__(self, is_training_R: Bools) -> Floats:
        training_SK = is_training_R[self.rows_SK]
        to_training, to_held_out = self._nearest(training_SK), self._nearest(~training_SK)
        return np.stack([training_SK[:, 0].astype(float), to_held_out - to_training])

    def _nearest(self, among_SK: Bools) -> Floats:
        """Return the log distance to the first that counts, or to the last of all."""
        first = np.where(among_SK.any(1), among_SK.argmax(1), among_SK.shape[1] - 1)
        return self.logs_SK[np.arange(len(first)), first]


def _jackknife_error(values_MS: Floats) -> Floats:
    """Return the jackknife standard errors of the means [M].

    A mean needs no parts, but the same formula holds.
    """
    parts = [part for part in np.array_split(np.arange(values_MS.shape[1]), NUM_PARTS) if part.size]
    means = np.stack([np.delete(values_MS, part, axis=1).mean(1) for part in parts])
    errors: Floats = np.sqrt((len(parts) - 1) / len(parts) * ((means - means.mean(0)) ** 2).sum(0))
    return errors


def picture_distances(synthetic_SHWC: Floats, real_RHWC: Floats) -> Floats:
    """Return RMS differences of pictures, for the best of the eight flips and turns.

    Parameters
    ----------
    synthetic_SHWC, real_RHWC
        Pictures [S, H, H, 3] and [R, H, H, 3], black 0 and white 1.

    Returns
    -------
    ndarray
        float64 [S, R], in units of the pixel values, after averaging to less than
        2 `PICTURE_SIDE` pixels a side.
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
    """Return block-averaged pictures of less than 2 `PICTURE_SIDE` pixels a side."""
    block = max(1, pictures_NHWC.shape[1] // PICTURE_SIDE)
    side = pictures_NHWC.shape[1] // block
    start = (pictures_NHWC.shape[1] - side * block) // 2
    cut = pictures_NHWC[:, start : start + side * block, start : start + side * block].astype(float)
    return cut.reshape(len(cut), side, block, side, block, -1).mean(axis=(2, 4))
