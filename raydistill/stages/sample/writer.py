"""Merge the files of finished blocks into a synthetic set: one file per class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.artifacts.tables import unpack_table
from raydistill.stages.sample.artifact import NO_CLASS, SCHEMA, SyntheticClass, partition
from raydistill.stages.sample.blocks import Block, PoolProgress
from raydistill.stages.sample.requests import Requests
from raydistill.storage import Folder, checked

ROWS_PER_GROUP = 1024  # of the Parquet files; fixed, so that the bytes do not depend on the blocks


class SampleWriter:
    """Write rows to one file per class; within a class they arrive in index order.

    Parameters
    ----------
    folder
        Of the synthetic set.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._files: dict[int, pq.ParquetWriter] = {}
        self._buffers: dict[int, list[pa.Table]] = {}
        self.kept: dict[int, int] = {}  # rows by label

    def __enter__(self) -> SampleWriter:
        self._stack.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            for label in self._files:
                self._flush(label)
        self._stack.__exit__(*error)  # type: ignore[arg-type]

    def add(self, rows: pa.Table) -> None:
        """Write the rows of a block, of `BLOCK_SCHEMA`."""
        labels = rows["label"].to_numpy()
        for label in np.unique(labels).tolist():
            own = rows.filter(pa.array(labels == label)).select(SCHEMA.names)
            if label not in self._files:
                path = self._stack.enter_context(self._folder.writing(partition(label)))
                self._files[label] = self._stack.enter_context(pq.ParquetWriter(path, SCHEMA, compression="zstd"))
            self._buffers.setdefault(label, []).append(own)
            self.kept[label] = self.kept.get(label, 0) + len(own)
            if sum(map(len, self._buffers[label])) >= ROWS_PER_GROUP:
                self._flush(label, whole_groups=True)

    def _flush(self, label: int, whole_groups: bool = False) -> None:
        """Write the buffered rows of a class, or only those that fill row groups."""
        rows = pa.concat_tables(self._buffers[label])
        end = len(rows) - len(rows) % ROWS_PER_GROUP if whole_groups else len(rows)
        self._files[label].write_table(rows.slice(0, end).combine_chunks(), row_group_size=ROWS_PER_GROUP)
        self._buffers[label] = [rows.slice(end)]


def merge_blocks(
    folder: Folder, blocks: Folder, progress: Sequence[PoolProgress], requests: Requests
) -> dict[int, SyntheticClass]:
    """Write the files of a set, and return the counts of each class.

    Parameters
    ----------
    folder
        Of the synthetic set.
    blocks
        Folder of the finished blocks.
    progress
        The finished blocks of each pool.
    requests
        Gives the labels of the samples.

    Returns
    -------
    dict of int to SyntheticClass
        By label; -1 holds the samples without a class.
    """
    sampled = dict.fromkeys((NO_CLASS, *range(len(requests.class_names))), 0)
    with SampleWriter(folder) as writer:
        for pool, own in enumerate(progress):
            last = -1
            for rows in _kept_rows(blocks, pool, own):
                writer.add(rows)
                last = rows["index"][-1].as_py()
            needed = last // len(progress) + 1 if own.total_kept == own.wanted else own.num_sampled
            labels, counts = np.unique(requests.labels(pool, np.arange(needed)), return_counts=True)
            for label, count in zip(labels.tolist(), counts.tolist(), strict=True):
                sampled[label] += count
    names = {NO_CLASS: "", **dict(enumerate(requests.class_names))}
    return {label: SyntheticClass(names[label], count, writer.kept.get(label, 0)) for label, count in sampled.items()}


def _kept_rows(blocks: Folder, pool: int, progress: PoolProgress) -> Iterator[pa.Table]:
    """Yield the rows of a pool's blocks, up to the wanted number."""
    missing = progress.wanted
    for number, kept in enumerate(progress.kept):
        if take := min(missing, kept):
            yield unpack_table(checked.require(blocks, Block(pool, number).name)).slice(0, take)
        missing -= take
