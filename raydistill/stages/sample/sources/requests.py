"""Blocks of samples, and the rows of each before its pictures are made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from raydistill.diffusion.conditions import Conditions
from raydistill.stages.sample.artifact import NO_CLASS, SCHEMA, object_id
from raydistill.stages.sample.sources.pools import Pool, SimilarGalaxies, Starts

# The rows of a synthetic set before its pictures are made: one table per block.

# The columns of a finished block: those of the set, and the label, which is part of its file names.
BLOCK_SCHEMA = SCHEMA.append(pa.field("label", pa.int32()))
# Samples of one block that are still without pictures.
REQUEST_SCHEMA = pa.schema(
    [
        *(field for field in BLOCK_SCHEMA if field.name != "image"),
        ("block", pa.string()),  # name of its file
        ("picture", pa.binary()),  # PNG of a real galaxy to start from, to inject into, or to take parts of
        ("similar", pa.binary()),  # PNG of the galaxy `start` of a recombination
        ("simulated_class", pa.int64()),  # class of the simulator
    ]
)


@dataclass(frozen=True)
class Requests:
    """Write the rows of blocks.

    Attributes
    ----------
    pools
        Where the conditions come from.
    class_names
        Names of the classes, by label.
    identity
        Identity of the set.
    generator
        Content digest of the generator; None for another source.
    guidance
        Scale of the guidance; None for another source.
    seed
        Root of noise and random choices.
    made_by
        Kind of the source.
    starts
        Real galaxies to start from, or the other galaxies of a recombination; None: there are none.
    """

    pools: Sequence[Pool]
    class_names: Sequence[str]
    identity: str
    generator: str | None
    guidance: float | None
    seed: int
    made_by: str = "generator"
    starts: Starts | SimilarGalaxies | None = None

    def labels(self, pool: int, numbers: np.ndarray) -> np.ndarray:
        """Return the labels of a pool's samples, int64 [B]; -1 for none."""
        chosen = self.pools[pool]
        return chosen.galaxies.labels_N[chosen.rows(numbers, indices(pool, len(self.pools), numbers), self.seed)]

    def table(self, block: Block, numbers: np.ndarray) -> pa.Table:
        """Return the rows of a block, in order of index.

        Parameters
        ----------
        block
            The block.
        numbers
            int64 [B], numbers of its samples within the pool.

        Returns
        -------
        pyarrow.Table
            Of `REQUEST_SCHEMA`, B rows.
        """
        pool = self.pools[block.pool]
        index_B = indices(block.pool, len(self.pools), numbers)
        rows = pool.rows(numbers, index_B, self.seed)
        galaxies = pool.galaxies.take(rows)
        names = [None if label == NO_CLASS else self.class_names[label] for label in galaxies.labels_N]
        columns = {
            "object_id": [object_id(self.identity, int(index)) for index in index_B],
            "class_name": names,
            "petro_r90": pa.array(galaxies.petro_r90_N, from_pandas=True),
            "confidence": pa.array(galaxies.confidence_N, from_pandas=True),
            "votes": [None if np.isnan(votes_A).all() else votes_A.tolist() for votes_A in galaxies.votes_NA],
            "synthetic": [True] * len(numbers),
            "index": index_B,
            "condition": _nullable(pool.conditions[torch.from_numpy(rows)]),
            "guidance": [self.guidance] * len(numbers),
            "origin": list(galaxies.origins),
            "generator": [self.generator] * len(numbers),
            "seed": [self.seed] * len(numbers),
            "made_by": [self.made_by] * len(numbers),
            "label": galaxies.labels_N,
            "block": [block.name] * len(numbers),
            **{name: column.take(pa.array(rows)) for name, column in pool.columns.items()},
        }
        if self.starts is not None:
            columns |= self.starts.columns(galaxies.labels_N, galaxies.origins, index_B, self.seed)
        arrays = [
            _array(columns[field.name], field.type) if field.name in columns else pa.nulls(len(numbers), field.type)
            for field in REQUEST_SCHEMA
        ]
        return pa.Table.from_arrays(arrays, schema=REQUEST_SCHEMA)


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    """Return values or a column of another table as an array of this type."""
    return values.combine_chunks().cast(kind) if isinstance(values, pa.ChunkedArray) else pa.array(values, kind)


def _nullable(conditions: Conditions) -> list[list[float | None]]:
    """Return the values of conditions, None where unknown."""
    pairs = zip(conditions.values_BV.tolist(), conditions.known_BV.tolist(), strict=True)
    return [[value if known else None for value, known in zip(*row, strict=True)] for row in pairs]


def read_conditions(column: pa.ChunkedArray) -> Conditions:
    """Return the conditions of the column `condition`."""
    rows = column.to_pylist()
    values = torch.tensor([[0.0 if value is None else value for value in row] for row in rows]).reshape(len(rows), -1)
    known = torch.tensor([[value is not None for value in row] for row in rows], dtype=torch.bool)
    return Conditions(values, known.reshape(len(rows), -1))


# Blocks of samples: the unit of work, of resuming, and of equal bits.
#
# Sample number n of pool p, of P pools, has the index n P + p in the set. Block b of a pool holds its
# samples b B to (b + 1) B - 1. A block is one batch of the generator, so its bits depend on nothing
# but its contents.
#
# Without a filter the blocks of a pool are known beforehand. With a filter, further blocks are
# sampled in rounds until enough samples were recognised. A round only decides what is sampled next:
# the set keeps the first recognised samples of each pool, so rounds do not change it.


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
    return [Block(pool, number) for pool, state in enumerate(progress) for number in state.next_blocks()]


def count_wanted(progress: Sequence[PoolProgress], kept: Mapping[Block, int | None]) -> int:
    """Return the number of wanted samples; a filter's surplus does not count.

    Parameters
    ----------
    progress
        The samples of each pool before this round.
    kept
        Samples kept of each block of this round; None if the block is not finished.
    """
    totals = [sum(state.kept) for state in progress]
    for block, count in kept.items():
        totals[block.pool] += count or 0
    return sum(min(state.wanted, total) for state, total in zip(progress, totals, strict=True))


def indices(pool: int, num_pools: int, numbers: np.ndarray) -> np.ndarray:
    """Return the indices in the set of samples of a pool, int64 [B]."""
    return numbers * num_pools + pool
