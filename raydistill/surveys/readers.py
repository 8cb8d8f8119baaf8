"""Read the pictures of a block of objects, wherever they are stored.

A block is a table with the columns of `cells.OBJECTS`. A reader is small and picklable; every worker has
one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.datasets.base import PackedDataSet, rows_in_block
from raydistill.galaxies.pictures.cells import read_cell
from raydistill.galaxies.pictures.files import Source, below
from raydistill.galaxies.pictures.outside import ALLOW_IMAGES, check_source
from raydistill.storage import arrow_filesystem

ROWS_AT_ONCE = 64  # rows of a Parquet file in memory at once


class Reader(Protocol):
    """Yield the picture of each object of a block: its content, its path, or None."""

    def read(self, objects: pa.Table) -> Iterator[Source]: ...


@dataclass(frozen=True)
class FileReader:
    """Pictures in files of their own, below a folder."""

    root: str

    def read(self, objects: pa.Table) -> Iterator[Source]:
        """Yield paths; None for an object without one."""
        for path in objects["path"].to_pylist():
            yield None if path is None else below(self.root, path)


@dataclass(frozen=True)
class ParquetReader:
    """Pictures in a column of Parquet files on the storage of `root`.

    Relative paths in the column begin at `folder`. Others are refused unless `allow_outside`.
    """

    root: str
    column: str
    folder: str
    allow_outside: bool = False

    def read(self, objects: pa.Table) -> Iterator[Source]:
        """Yield the cells; no more than `ROWS_AT_ONCE` rows are in memory."""
        for (path, row_group), rows in _groups(objects):
            yield from self._cells(path, row_group, rows) if path is not None else (None for _ in rows)

    def _cells(self, path: str, row_group: int, rows: list[int]) -> Iterator[Source]:
        system, _ = arrow_filesystem(self.root)
        with system.open_input_file(path) as stream:
            batches = pq.ParquetFile(stream, pre_buffer=False).iter_batches(
                ROWS_AT_ONCE, row_groups=[row_group], columns=[self.column], use_threads=False
            )
            first = 0
            for batch in batches:
                for row in rows_in_block(rows, first, len(batch)):
                    source = read_cell(batch.column(0)[row - first], self.folder)
                    yield source if self.allow_outside else check_source(source, self.folder, path, ALLOW_IMAGES)
                first += len(batch)
                if first > rows[-1]:
                    return


@dataclass(frozen=True)
class PackedReader:
    """Pictures of a data set with many pictures per file."""

    images: PackedDataSet

    def read(self, objects: pa.Table) -> Iterator[Source]:
        """Yield the encoded pictures."""
        for (path, row_group), rows in _groups(objects):
            yield from self.images.read(path, row_group, rows)


def _groups(objects: pa.Table) -> Iterator[tuple[tuple[Any, Any], list[int]]]:
    """Yield (path, row group) and the rows of each run of objects in one row group."""
    rows = zip(*(objects[name].to_pylist() for name in ("path", "row_group", "row")), strict=True)
    for key, own in groupby(rows, key=lambda row: row[:2]):
        yield (key[0], key[1]), [row for _, _, row in own]
