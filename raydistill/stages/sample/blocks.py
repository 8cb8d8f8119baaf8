"""Blocks of samples: the unit of work, of resuming, and of equal bits.

Sample number n of pool p, of P pools, has the index n P + p in the set. Block b of a pool holds its
samples b B to (b + 1) B - 1. A block is one batch of the generator, so its bits depend on nothing
but its contents.

Without a filter the blocks of a pool are known beforehand. With a filter, further blocks are
sampled in rounds until enough samples were recognised. A round only decides what is sampled next:
the set keeps the first recognised samples of each pool, so rounds do not change it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, order=True)
class Block:
    """A block of samples.

    Attributes
    ----------
    pool
        Number of the pool.
    number
        Number of the block within the pool.
    """

    pool: int
    number: int

    @property
    def name(self) -> str:
        """Return the name of the file that holds the block until the set is complete."""
        return f"block-{self.pool:04d}-{self.number:07d}.parquet"


@dataclass
class PoolProgress:
    """The samples of one pool so far.

    Attributes
    ----------
    wanted
        Samples to keep.
    limit
        Samples at most.
    block_size
        Samples of a full block.
    kept
        Samples kept of each finished block, from the first.
    """

    wanted: int
    limit: int
    block_size: int
    kept: list[int] = field(default_factory=list)

    @property
    def num_blocks(self) -> int:
        """The blocks of the limit."""
        return math.ceil(self.limit / self.block_size)

    @property
    def total_kept(self) -> int:
        """The samples to keep so far."""
        return min(self.wanted, sum(self.kept))

    @property
    def num_sampled(self) -> int:
        """The samples of the finished blocks."""
        return min(self.limit, len(self.kept) * self.block_size)

    def numbers(self, block: int) -> np.ndarray:
        """Return the numbers of a block's samples, int64 [B]; the last may be smaller."""
        first = block * self.block_size
        return np.arange(first, min(self.limit, first + self.block_size), dtype=np.int64)

    def next_blocks(self) -> range:
        """Return the numbers of the next blocks; empty if no more are needed or possible.

        The share of recognised samples is estimated by the rule of succession, (k + 1) / (n + 2).
        """
        done, missing = len(self.kept), self.wanted - sum(self.kept)
        if missing <= 0:
            return range(done, done)
        share = (sum(self.kept) + 1) / (self.num_sampled + 2) if done else 1.0
        return range(done, min(self.num_blocks, done + math.ceil(missing / share / self.block_size)))


def share_equally(total: int, num_pools: int) -> list[int]:
    """Return how many of `total` samples each pool has; the first pools have one more.

    >>> share_equally(8, 3)
    [3, 3, 2]
    """
    return [total // num_pools + (pool < total % num_pools) for pool in range(num_pools)]


def next_blocks(progress: Sequence[PoolProgress]) -> list[Block]:
    """Return the blocks to sample next, of all pools."""
    return [Block(pool, number) for pool, own in enumerate(progress) for number in own.next_blocks()]


def count_wanted(progress: Sequence[PoolProgress], kept: Mapping[Block, int | None]) -> int:
    """Return the number of wanted samples; a filter's surplus does not count.

    Parameters
    ----------
    progress
        The samples of each pool before this round.
    kept
        Samples kept of each block of this round; None if the block is not finished.
    """
    totals = [sum(own.kept) for own in progress]
    for block, count in kept.items():
        totals[block.pool] += count or 0
    return sum(min(own.wanted, total) for own, total in zip(progress, totals, strict=True))


def indices(pool: int, num_pools: int, numbers: np.ndarray) -> np.ndarray:
    """Return the indices in the set of samples of a pool, int64 [B]."""
    return numbers * num_pools + pool
