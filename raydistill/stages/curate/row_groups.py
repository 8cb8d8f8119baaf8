"""List the row groups of a curated set, and read columns of one.

A row group is the unit of work: a process reads one at a time, and never a whole split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.galaxies.selection import Split
from raydistill.stages.curate.artifact import CuratedSet, partition
from raydistill.storage import Folder


@dataclass(frozen=True)
class RowGroup:
    """A row group of a file of a curated set.

    Parameters
    ----------
    folder, file, index
        URI of the set, name of the file, and number of the row group in it.
    label
        Class of its galaxies.
    size
        Number of its galaxies.
    """

    folder: str
    file: str
    index: int
    label: int
    size: int

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Return all rows, with these columns of `curated.SCHEMA`."""
        with Folder(self.folder).open(self.file) as source:
            file = pq.ParquetFile(source, pre_buffer=False)
            return file.read_row_group(self.index, list(columns), use_threads=False)


def row_groups(curated: CuratedSet, split: Split) -> list[RowGroup]:
    """Return a split's row groups with galaxies, in the order of labels and rows."""
    groups = []
    for label in range(curated.num_classes):
        name = partition(split, label)
        if name in curated.manifest.files:
            with curated.folder.open(name) as source:
                metadata = pq.ParquetFile(source, pre_buffer=False).metadata
            sizes = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
            groups += [
                RowGroup(curated.folder.uri, name, index, label, size) for index, size in enumerate(sizes) if size
            ]
    return groups
