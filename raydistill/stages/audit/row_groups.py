"""Number the galaxies of curated sets by row group, and read their pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raydistill.artifacts.tables import decode_images
from raydistill.galaxies.selection import Split
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.row_groups import RowGroup, row_groups

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class AuditedGroup(RowGroup):
    """A row group in an audit.

    Attributes
    ----------
    set_number
        Number of its set in the audit; 0 is the config's own.
    split
        Its part of the set.
    """

    set_number: int
    split: Split

    @property
    def name(self) -> str:
        """Return a name that is unique in the audit."""
        return f"set-{self.set_number}-{self.split}-{self.label:03d}-{self.index:05d}"

    def images(self, size: int) -> Pixels:
        """Return the pictures, uint8 [self.size, size, size, 3]."""
        return np.asarray(decode_images(self.read(["image"])["image"], size))


class Galaxies:
    """All galaxies of some splits, numbered in the order of their row groups.

    Parameters
    ----------
    sets
        Curated sets of one image size.
    splits
        Their parts.
    """

    def __init__(self, sets: Sequence[CuratedSet], splits: Iterable[Split]) -> None:
        self.size, splits = sets[0].summary.image_size, tuple(splits)
        self.groups = [
            AuditedGroup(**asdict(group), set_number=number, split=split)
            for number, one in enumerate(sets)
            for split in splits
            for group in row_groups(one, split)
        ]
        counts = np.array([group.size for group in self.groups], np.int64)
        self.firsts = np.concatenate([[0], np.cumsum(counts)])
        self.labels_N = np.repeat(np.array([group.label for group in self.groups], np.int64), counts)

    def __len__(self) -> int:
        return len(self.labels_N)

    def rows_in(self, number: int, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return which sorted rows lie in a row group, counted from its first row."""
        inside = rows[(rows >= self.firsts[number]) & (rows < self.firsts[number + 1])]
        return inside - self.firsts[number]

    def images(self, rows: npt.NDArray[np.int64]) -> Pixels:
        """Return the pictures of these rows, uint8 [n, H, W, 3].

        One row group is in memory at a time.
        """
        images = np.empty((len(rows), self.size, self.size, 3), np.uint8)
        for number in np.unique(np.searchsorted(self.firsts, rows, side="right") - 1):
            own = (rows >= self.firsts[number]) & (rows < self.firsts[number + 1])
            images[own] = self.groups[number].images(self.size)[rows[own] - self.firsts[number]]
        return images

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a column of all rows."""
        return pa.chunked_array([chunk for group in self.groups for chunk in group.read([name])[name].chunks])
