"""Find the nearest real pictures of each synthetic picture, block by block.

A training set need not fit into memory: the distances to a block of real pictures are cut to the
nearest ones, and merged with those of other blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raydistill.statistics.permutation import Bools, Floats

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
