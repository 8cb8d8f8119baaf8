"""Test whether synthetic pictures repeat training pictures.

Each synthetic picture is compared with its nearest training picture and its nearest held-out one.
A generator that repeats training pictures is nearer to those than chance explains. All training
pictures are searched. There are usually more of them than held-out ones, so the nearest picture is
mostly a training picture: the floor says how often.

Synthetic pictures share neighbours, so they are not independent votes: a sign test over them found
"memorisation" in 15 % of honest sets. Under the null hypothesis it is the *real* pictures that are
exchangeable between training and held-out. The test permutes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raydistill.seeding import fold_in
from raydistill.statistics.permutation import Bools, Floats, Metric
from raydistill.statistics.testing import (
    NUM_PARTS,
    Finding,
    adjusted_p_values,
    interval,
    make_findings,
    permuted_groups,
)

NUM_PERMUTATIONS = 999
SOFTENING = 0.01  # of the median distance to the last neighbour: a copy at distance 0 gets a finite logarithm
PICTURE_SIDE = 16  # pixels: memorised pictures agree at this resolution


def memorisation(
    neighbours: Mapping[str, RealNeighbours], seed: int = 0, permutations: int = NUM_PERMUTATIONS,
    labels_R: npt.NDArray[np.int64] | None = None,
) -> list[Finding]:  # fmt: skip
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
    labels_R
        Classes of the training and held-out pictures, within which they are permuted; None: within
        all.

    Returns
    -------
    list of Finding
        "nearer_to_training": the share of synthetic pictures whose nearest real picture is a
        training picture. "memorisation": the mean of
        :math:`\ln(d_\text{held-out} / d_\text{training})`. The chance that any is significant
        without memorisation is `testing.AUDIT_LEVEL`.

    Notes
    -----
    A neighbour beyond the K nearest counts as if it were at the distance of the last one.
    """
    statistics = {space: _Statistic(nearest) for space, nearest in neighbours.items()}
    names = ("nearer_to_training", "memorisation")
    return _findings(statistics, names, fold_in(seed, "memorisation"), permutations, labels_R)


def two_generators(
    halves: RealNeighbours, num_first: int, seed: int = 0, permutations: int = NUM_PERMUTATIONS,
    labels_R: npt.NDArray[np.int64] | None = None,
) -> list[Finding]:  # fmt: skip
    r"""Return two findings about generators of disjoint halves of the galaxies.

    Parameters
    ----------
    halves
        Nearest pictures of both training halves (the first as `training`, the second as
        `held_out`) of the first generator's pictures, followed by those of the second.
    num_first
        Pictures of the first generator.
    seed, permutations, labels_R
        As of `memorisation`; the classes are those of the first, then of the second half.

    Returns
    -------
    list of Finding
        "nearer_to_own_half": the share of pictures whose nearest training picture is one of their
        own generator. "own_half": the mean of :math:`\ln(d_\text{other} / d_\text{own})`.

    Notes
    -----
    Generators of disjoint galaxies tell memorisation from generalisation: Kadkhodaie et al. 2024
    (arXiv:2310.02557), for galaxies Campagne 2025 (arXiv:2503.23127). They look at samples beside
    their nearest training picture; this is a test of it. Without memorisation the pictures do not
    depend on the division of the galaxies into halves, which the test permutes. It needs no
    held-out galaxies, and the generators may differ in quality.
    """
    of_second_S = np.arange(len(halves.training.rows_SK)) >= num_first
    statistics = {"pixels": _Statistic(halves, of_second_S)}
    names = ("nearer_to_own_half", "own_half")
    return _findings(statistics, names, fold_in(seed, "two generators"), permutations, labels_R)


def _findings(
    statistics: Mapping[str, _Statistic], names: tuple[str, str], seed: int, permutations: int,
    labels_R: npt.NDArray[np.int64] | None,
) -> list[Finding]:  # fmt: skip
    """Return two findings of these names per feature space."""
    training_R = next(iter(statistics.values())).training_R

    def means(is_training_R: Bools) -> Floats:
        return np.concatenate([statistic(is_training_R).mean(1) for statistic in statistics.values()])

    values_M = means(training_R)
    drawn = permuted_groups(training_R.astype(np.int8), permutations, seed, labels_R).astype(bool)
    null_BM = np.stack([means(is_training_R) for is_training_R in drawn])
    errors_M = np.concatenate([_jackknife_error(statistic(training_R)) for statistic in statistics.values()])
    metrics = [
        metric for space in statistics for metric in (Metric(names[0], space, bounds=(0, 1)), Metric(names[1], space))
    ]
    p_values_M = adjusted_p_values(values_M, null_BM, ["higher"] * len(values_M))
    return make_findings(metrics, values_M, interval(values_M, errors_M, metrics), null_BM, p_values_M)


class _Statistic:
    """Map a mask of training pictures [R] to two values per synthetic picture, [2, S].

    For the pictures of `swapped_S`, the training pictures are those outside the mask.
    """

    def __init__(self, neighbours: RealNeighbours, swapped_S: Bools | None = None) -> None:
        nearest, self.training_R = neighbours.pooled()
        self.rows_SK = nearest.rows_SK
        self.swapped_S1 = np.zeros((len(self.rows_SK), 1), bool) if swapped_S is None else swapped_S[:, None]
        softening = SOFTENING * np.median(nearest.distances_SK[:, -1]) + np.finfo(float).tiny
        self.logs_SK = np.log(nearest.distances_SK + softening)

    def __call__(self, is_training_R: Bools) -> Floats:
        training_SK = is_training_R[self.rows_SK] ^ self.swapped_S1
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
    return np.sqrt((len(parts) - 1) / len(parts) * ((means - means.mean(0)) ** 2).sum(0))


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
    return np.sqrt(best.clip(0) / flat_real.shape[1])


def shrink(pictures_NHWC: Floats) -> Floats:
    """Return block-averaged pictures of less than 2 `PICTURE_SIDE` pixels a side."""
    block = max(1, pictures_NHWC.shape[1] // PICTURE_SIDE)
    side = pictures_NHWC.shape[1] // block
    start = (pictures_NHWC.shape[1] - side * block) // 2
    cut = pictures_NHWC[:, start : start + side * block, start : start + side * block].astype(float)
    return cut.reshape(len(cut), side, block, side, block, -1).mean(axis=(2, 4))


# Find the nearest real pictures of each synthetic picture, block by block.
#
# A training set need not fit into memory: the distances to a block of real pictures are cut to the
# nearest ones, and merged with those of other blocks.

MIN_NEAREST, MAX_NEAREST = 64, 256
NEAREST_PER_RATIO = 16  # times 1 + training / held-out: all are training pictures once in e^16

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Neighbours:
    """The K nearest real pictures of each of S synthetic pictures, the nearest first.

    Attributes
    ----------
    rows_SK
        int64 [S, K], rows of the real pictures.
    distances_SK
        float64 [S, K].
    """

    rows_SK: Ints
    distances_SK: Floats

    @staticmethod
    def of(distances_SR: Floats, count: int, first_row: int = 0) -> Neighbours:
        """Return the nearest real pictures by distance; ties keep the order of rows.

        Parameters
        ----------
        distances_SR
            float64 [S, R].
        count
            K, if there are as many real pictures.
        first_row
            Row of the first real picture.
        """
        order = np.argsort(distances_SR, axis=1, kind="stable")[:, :count]
        return Neighbours(order + first_row, np.take_along_axis(distances_SR, order, axis=1))

    @staticmethod
    def none(num_synthetic: int) -> Neighbours:
        """Return no neighbours of so many synthetic pictures."""
        return Neighbours(np.empty((num_synthetic, 0), np.int64), np.empty((num_synthetic, 0)))

    def merged(self, other: Neighbours, count: int) -> Neighbours:
        """Return the nearest of these and of others, whose rows are larger."""
        rows = np.concatenate([self.rows_SK, other.rows_SK], axis=1)
        nearest = Neighbours.of(np.concatenate([self.distances_SK, other.distances_SK], axis=1), count)
        return Neighbours(np.take_along_axis(rows, nearest.rows_SK, axis=1), nearest.distances_SK)


@dataclass(frozen=True)
class RealNeighbours:
    """The nearest training and held-out pictures of synthetic pictures.

    Attributes
    ----------
    training, held_out
        Each with the rows of its own set.
    num_training, num_held_out
        Pictures of the two sets.
    """

    training: Neighbours
    held_out: Neighbours
    num_training: int
    num_held_out: int

    @staticmethod
    def of(distances_SR: Floats, num_training: int) -> RealNeighbours:
        """Return the neighbours, given distances to training, then held-out pictures."""
        num_held_out = distances_SR.shape[1] - num_training
        count = num_nearest(num_training, num_held_out)
        training, held_out = distances_SR[:, :num_training], distances_SR[:, num_training:]
        return RealNeighbours(
            Neighbours.of(training, count), Neighbours.of(held_out, count), num_training, num_held_out
        )

    def pooled(self) -> tuple[Neighbours, Bools]:
        """Return the nearest of both sets, and which pictures [R] are training pictures.

        The rows of held-out pictures follow those of training pictures.
        """
        held_out = Neighbours(self.held_out.rows_SK + self.num_training, self.held_out.distances_SK)
        nearest = self.training.merged(held_out, num_nearest(self.num_training, self.num_held_out))
        return nearest, np.arange(self.num_training + self.num_held_out) < self.num_training

    def closest(self, count: int) -> Ints:
        """Return the synthetic pictures nearest to a training picture, int64 [count].

        They are sorted by the distance to the training picture, over that to the held-out one.
        """
        tiny = np.finfo(float).tiny
        ratio_S = (self.training.distances_SK[:, 0] + tiny) / (self.held_out.distances_SK[:, 0] + tiny)
        return np.argsort(ratio_S, kind="stable")[:count]


def num_nearest(num_training: int, num_held_out: int) -> int:
    """Return how many neighbours the test needs.

    Most synthetic pictures then have a neighbour in either set.
    """
    wanted = math.ceil(NEAREST_PER_RATIO * (1 + num_training / num_held_out))
    return min(max(wanted, MIN_NEAREST), MAX_NEAREST)
