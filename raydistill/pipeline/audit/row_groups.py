"""List the row groups of curated sets, and read pictures from them.

A row group is the unit of work: a worker reads one, and no process holds a whole split.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.artifacts.curated import CuratedSet, partition
from raydistill.artifacts.tables import decode_images
from raydistill.galaxies.selection import Split
from raydistill.storage import Folder

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class RowGroup:
    """A row group of a curated set.

    Attributes
    ----------
    folder
        URI of the set.
    set_number
        Its number in the audit; 0 is the config's own.
    split, label
        Partition of the set.
    number
        Number of the row group in the partition's file.
    num_rows
        Its galaxies.
    """

    folder: str
    set_number: int
    split: Split
    label: int
    number: int
    num_rows: int

    @property
    def name(self) -> str:
        """Return a name that is unique in the audit."""
        return f"set-{self.set_number}-{self.split}-{self.label:03d}-{self.number:05d}"

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Return the rows, with these columns of `curated.SCHEMA`."""
        with Folder(self.folder).open(partition(self.split, self.label)) as source:
            file = pq.ParquetFile(source, pre_buffer=False)
            return file.read_row_group(self.number, list(columns), use_threads=False)

    def images(self, size: int) -> Pixels:
        """Return the pictures, uint8 [num_rows, size, size, 3]."""
        return np.asarray(decode_images(self.read(["image"])["image"], size))


def row_groups(curated: CuratedSet, set_number: int, splits: Iterable[Split]) -> list[RowGroup]:
    """Return the row groups of these splits, in the order of splits, labels and rows."""
    found = []
    for split in splits:
        for label in range(curated.num_classes):
            if partition(split, label) not in curated.manifest.files:
                continue
            with curated.folder.open(partition(split, label)) as source:
                metadata = pq.ParquetFile(source, pre_buffer=False).metadata
            counts = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
            found += [
                RowGroup(curated.folder.uri, set_number, split, label, number, count)
                for number, count in enumerate(counts)
                if count
            ]
    return found


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
        self.groups = [group for number, one in enumerate(sets) for group in row_groups(one, number, splits)]
        counts = np.array([group.num_rows for group in self.groups], np.int64)
        self.firsts = np.concatenate([[0], np.cumsum(counts)])
        self.labels_N = np.repeat(np.array([group.label for group in self.groups], np.int64), counts)

    def __len__(self) -> int:
        return len(self.labels_N)

    def rows_in(self, number: int, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return which of these sorted rows lie in a row group, counted from its first row."""
        inside = rows[(rows >= self.firsts[number]) & (rows < self.firsts[number + 1])]
        return inside - self.firsts[number]

    def images(self, rows: npt.NDArray[np.int64]) -> Pixels:
        """Return the pictures of these rows, uint8 [n, H, W, 3]; one row group is in memory at a time."""
        images = np.empty((len(rows), self.size, self.size, 3), np.uint8)
        for number in np.unique(np.searchsorted(self.firsts, rows, side="right") - 1):
            own = (rows >= self.firsts[number]) & (rows < self.firsts[number + 1])
            images[own] = self.groups[number].images(self.size)[rows[own] - self.firsts[number]]
        return images

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a column of all rows."""
        return pa.chunked_array([chunk for group in self.groups for chunk in group.read([name])[name].chunks])
