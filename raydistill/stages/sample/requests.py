"""The rows of a synthetic set before its pictures are made: one table per block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from raydistill.diffusion.conditions import Conditions
from raydistill.stages.sample.artifact import NO_CLASS, SCHEMA, object_id
from raydistill.stages.sample.blocks import Block, indices
from raydistill.stages.sample.pools import Pool
from raydistill.stages.sample.starts import Starts

# The columns of a finished block: those of the set, and the label, which is part of its file names.
BLOCK_SCHEMA = SCHEMA.append(pa.field("label", pa.int32()))
# Samples of one block that are still without pictures.
REQUEST_SCHEMA = pa.schema(
    [
        *(own for own in BLOCK_SCHEMA if own.name != "image"),
        ("block", pa.string()),  # name of its file
        ("picture", pa.binary()),  # PNG of a real galaxy to start from, or to inject into
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
        Real galaxies to start from; None: sampling starts from noise.
    """

    pools: Sequence[Pool]
    class_names: Sequence[str]
    identity: str
    generator: str | None
    guidance: float | None
    seed: int
    made_by: str = "generator"
    starts: Starts | None = None

    def labels(self, pool: int, numbers: np.ndarray) -> np.ndarray:
        """Return the labels of a pool's samples, int64 [B]; -1 for none."""
        own = self.pools[pool]
        return own.galaxies.labels_N[own.rows(numbers, indices(pool, len(self.pools), numbers), self.seed)]

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
        own = pool.galaxies.take(rows)
        names = [None if label == NO_CLASS else self.class_names[label] for label in own.labels_N]
        columns = {
            "object_id": [object_id(self.identity, int(index)) for index in index_B],
            "class_name": names,
            "petro_r90": pa.array(own.petro_r90_N, from_pandas=True),
            "confidence": pa.array(own.confidence_N, from_pandas=True),
            "votes": [None if np.isnan(votes_A).all() else votes_A.tolist() for votes_A in own.votes_NA],
            "synthetic": [True] * len(numbers),
            "index": index_B,
            "condition": _nullable(pool.conditions[torch.from_numpy(rows)]),
            "guidance": [self.guidance] * len(numbers),
            "origin": list(own.origins),
            "generator": [self.generator] * len(numbers),
            "seed": [self.seed] * len(numbers),
            "made_by": [self.made_by] * len(numbers),
            "label": own.labels_N,
            "block": [block.name] * len(numbers),
            **{name: column.take(pa.array(rows)) for name, column in pool.columns.items()},
        }
        if self.starts is not None:
            columns |= self.starts.columns(own.labels_N, own.origins, index_B, self.seed)
        arrays = [
            _array(columns[own.name], own.type) if own.name in columns else pa.nulls(len(numbers), own.type)
            for own in REQUEST_SCHEMA
        ]
        return pa.Table.from_arrays(arrays, schema=REQUEST_SCHEMA)


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    """Return values or a column of another table as an array of this type."""
    return values.combine_chunks().cast(kind) if isinstance(values, pa.ChunkedArray) else pa.array(values, kind)


def _nullable(conditions: Conditions) -> list[list[float | None]]:
    """Return the values of conditions, None where unknown."""
    pairs = zip(conditions.values_BV.tolist(), conditions.known_BV.tolist(), strict=True)
    return [[one if known else None for one, known in zip(*row, strict=True)] for row in pairs]


def read_conditions(column: pa.ChunkedArray) -> Conditions:
    """Return the conditions of the column `condition`."""
    rows = column.to_pylist()
    values = torch.tensor([[0.0 if one is None else one for one in row] for row in rows]).reshape(len(rows), -1)
    known = torch.tensor([[one is not None for one in row] for row in rows], dtype=torch.bool)
    return Conditions(values, known.reshape(len(rows), -1))
