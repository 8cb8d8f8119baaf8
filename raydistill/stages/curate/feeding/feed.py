"""Feed the workers with the training pictures, in the order of `diffusion.order`.

Each worker reads what it needs by Ray Data, whose tasks decode the pictures ahead of the training.
Memory does not grow with the number of pictures: a task holds the files of one window, and a worker
the decoded pictures of two tasks.

A worker reads only the pictures of its own shards. The position of a picture in the training decides
the shard, so neither the number of workers nor a restart changes a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Protocol, cast

import numpy as np
import pyarrow as pa
import ray
import torch

from raydistill.artifacts.tables import decode_images
from raydistill.diffusion.conditions import Conditions
from raydistill.diffusion.order import ImageOrder, Window
from raydistill.diffusion.training import TrainingImages
from raydistill.galaxies.selection import Split
from raydistill.learning.options import ShardedTraining
from raydistill.runtime.ray_data import MAX_RETRIES, accepted_deprecations, quiet_context
from raydistill.seeding import generator as seeded
from raydistill.stages.curate.artifact import CuratedSet, RowGroup, row_groups
from raydistill.stages.curate.select.conditions import ConditionEncoding, columns_of, conditions_of
from raydistill.storage import Folder

WINDOW_BYTES = 2**28  # of the decoded pictures of a window; another value changes the order of large sets
CHUNK = 1024  # pictures that a task decodes at once
TASK_BYTES = 2**26  # of the decoded pictures of a task; a worker holds those of two tasks
COLOURS = 3

Columns = dict[str, np.ndarray]


class Embeds(Protocol):
    """Gives the condition "embedding" of pictures."""

    def apply(self, images_NHWC: np.ndarray | torch.Tensor) -> np.ndarray:
        """Return the embeddings float32 [N, K] of uint8 pictures."""
        ...

    def write(self, folder: Folder) -> None:
        """Write what gives them into the folder of the trained model."""
        ...


@dataclass(frozen=True)
class UsedGroup(RowGroup):
    """A row group, and which of its galaxies are used.

    Its label is -1 if their class is unknown.

    Parameters
    ----------
    used
        Rows that are used; None: all.
    """

    used: tuple[int, ...] | None = None

    @property
    def num_used(self) -> int:
        """The number of galaxies that are used."""
        return self.size if self.used is None else len(self.used)

    def read_used(self, encoding: ConditionEncoding) -> pa.Table:
        """Return the pictures as PNG, what the conditions need, and the column `label`."""
        rows = self.read(["image", *columns_of(encoding)])
        if self.used is not None:
            rows = rows.take(pa.array(self.used, pa.int64()))
        return rows.append_column("label", pa.array([self.label] * len(rows), pa.int64()))


def used_groups(curated: CuratedSet, split: Split) -> tuple[UsedGroup, ...]:
    """Return all row groups of a split, in the order of the classes."""
    return tuple(UsedGroup(**asdict(group)) for group in row_groups(curated, split))


@dataclass(frozen=True)
class Pictures:
    """Pictures of row groups, with their conditions.

    Parameters
    ----------
    groups
        Where they are.
    image_size
        Side of a picture in pixels.
    encoding
        How the properties of galaxies become conditions.
    embedder
        Embeds the pictures; None if the conditions have no embedding.
    """

    groups: tuple[UsedGroup, ...]
    image_size: int
    encoding: ConditionEncoding
    embedder: Embeds | None = None

    def __len__(self) -> int:
        """Return the number of pictures."""
        return sum(group.num_used for group in self.groups)

    def order(self, seed: int) -> ImageOrder:
        """Return the order of the training."""
        sizes = tuple(group.num_used for group in self.groups)
        return ImageOrder(sizes, WINDOW_BYTES // self.bytes_per_picture, seed)

    @property
    def bytes_per_picture(self) -> int:
        """The size of a decoded picture."""
        return COLOURS * self.image_size**2

    def decode(self, rows: pa.Table) -> TrainingImages:
        """Return decoded rows."""
        images_NHWC = decode_images(rows["image"], self.image_size)
        embeddings_NE = None if self.embedder is None else self.embedder.apply(images_NHWC)
        conditions = conditions_of(rows, rows["label"].to_numpy(), images_NHWC, self.encoding, embeddings_NE)
        return TrainingImages(images_NHWC, conditions)

    def choose(self, count: int, seed: int, name: str) -> TrainingImages:
        """Return `count` random pictures, or all if there are fewer; decode no others."""
        return self.decode(self._choose_rows(count, seed, name))

    def choose_images(self, count: int, seed: int, name: str) -> torch.Tensor:
        """Return the pictures of `choose`, uint8 [N, H, W, 3], without their conditions.

        This saves their embeddings, which take long.
        """
        return decode_images(self._choose_rows(count, seed, name)["image"], self.image_size)

    def choose_labelled(self, count: int, seed: int, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the pictures of `choose` and their labels int64 [N]; -1 is unknown."""
        rows = self._choose_rows(count, seed, name)
        return decode_images(rows["image"], self.image_size), torch.from_numpy(rows["label"].to_numpy().copy())

    def _choose_rows(self, count: int, seed: int, name: str) -> pa.Table:
        chosen = torch.randperm(len(self), generator=seeded(seed, name))[:count].sort().values.numpy()
        parts, first = [], 0
        for group in self.groups:
            rows = chosen[(chosen >= first) & (chosen < first + group.num_used)] - first
            if len(rows):
                parts.append(group.read_used(self.encoding).take(rows))
            first += group.num_used
        return pa.concat_tables(parts)


@dataclass(frozen=True)
class Feed:
    """The batches of one worker.

    Parameters
    ----------
    pictures
        All training pictures.
    training
        Batch size, shards and steps.
    seed
        Root of the order.
    rank, world_size
        The worker computes the shards rank, rank + world_size, …
    """

    pictures: Pictures
    training: ShardedTraining
    seed: int
    rank: int
    world_size: int

    def batches(self, first_step: int) -> Iterator[list[TrainingImages]]:
        """Yield the pictures of each shard of this worker from `first_step` to the last.

        They are on the CPU.
        """
        count = self.training.batch_size // self.training.shards
        num_shards = self.training.shards // self.world_size
        rest = TrainingImages.empty(self.pictures.image_size, self.pictures.encoding.layout)
        for part in self._decoded(first_step):
            rest = rest.followed_by(part)
            while len(rest.images_NHWC) >= count * num_shards:
                yield [rest.rows(slice(n * count, (n + 1) * count)) for n in range(num_shards)]
                rest = rest.rows(slice(count * num_shards, None))

    def _decoded(self, first_step: int) -> Iterator[TrainingImages]:
        """Yield this worker's pictures in order, while Ray Data decodes the next task."""
        decoding: Future[ray.data.Dataset] | None = None
        with ThreadPoolExecutor(1) as ahead:
            for task in self.tasks(first_step):
                following = ahead.submit(self._decode, task)
                yield from _parts(decoding)
                decoding = following
            yield from _parts(decoding)

    def _decode(self, task: range) -> ray.data.Dataset:
        """Return the decoded pictures of one task.

        Each task is a data set of its own, which ends before its pictures are used. Ray Data's
        executor runs in this process. While a block waits for the training, it would look for work
        without pause, which took a whole core (dev/log.md, 2026-11-26).
        """
        quiet_context(preserve_order=True)
        with accepted_deprecations():
            # The workers of the group may hold all CPUs of the cluster, so the task reserves none.
            rows = ray.data.from_items([{"first": task.start, "last": task.stop}]).map_batches(
                self.load, batch_format="pyarrow", batch_size=None, num_cpus=0, max_retries=MAX_RETRIES
            )
        return rows.materialize()

    def tasks(self, first_step: int) -> Iterator[range]:
        """Yield the positions of each task, from step `first_step` to the last."""
        size = max(1, TASK_BYTES // self.pictures.bytes_per_picture)
        end = self.training.steps * self.training.batch_size
        for first in range(first_step * self.training.batch_size, end, size):
            yield range(first, min(first + size, end))

    def load(self, task: pa.Table) -> Iterator[Columns]:
        """Yield this worker's decoded pictures for the positions of a task, in order."""
        first, last = task["first"][0].as_py(), task["last"][0].as_py()
        tables: dict[int, pa.Table] = {}
        for window in self.pictures.order(self.seed).windows(first, last):
            groups = self.pictures.groups
            tables = {
                n: tables[n] if n in tables else groups[n].read_used(self.pictures.encoding) for n in window.groups
            }
            chosen = window.rows_N.numpy()[self._own(window, first, last)]
            rows = pa.concat_tables([tables[n] for n in window.groups])
            for start in range(0, len(chosen), CHUNK):
                yield _to_columns(self.pictures.decode(rows.take(chosen[start : start + CHUNK])))

    def _own(self, window: Window, first: int, last: int) -> np.ndarray:
        """Return which pictures of a window are this worker's, between two positions."""
        positions = np.arange(window.first, window.first + len(window.rows_N))
        shards = positions % self.training.batch_size // (self.training.batch_size // self.training.shards)
        return (positions >= first) & (positions < last) & (shards % self.world_size == self.rank)


def _parts(decoding: Future[ray.data.Dataset] | None) -> Iterator[TrainingImages]:
    """Yield the parts of a decoded task, once it is."""
    if decoding is not None:
        for batch in decoding.result().iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
            yield _from_columns(cast(Columns, batch))


def _to_columns(images: TrainingImages) -> Columns:
    """Return arrays for Ray Data: NaN is unknown, and empty columns are left out."""
    values_BV, known_BV = images.conditions.values_BV, images.conditions.known_BV
    columns = {"image": images.images_NHWC.numpy()}
    if values_BV.shape[1]:
        columns["condition"] = torch.where(known_BV, values_BV, torch.nan).numpy()
    return columns


def _from_columns(columns: Columns) -> TrainingImages:
    images_NHWC = torch.from_numpy(np.array(columns["image"]))  # a copy, as torch writes to no shared memory
    values_BV = torch.from_numpy(np.array(columns.get("condition", np.empty((len(images_NHWC), 0), np.float32))))
    return TrainingImages(images_NHWC, Conditions(values_BV, ~values_BV.isnan()))
