"""Decoding pictures with Ray Data: one row in, one row out.

A picture that cannot be used costs its own row, never its block: it comes back with a reason.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data.context import ShuffleStrategy
from ray.util.annotations import RayDeprecationWarning

from raydistill.config import Curate, Images
from raydistill.datasets.base import DataSet, StoredSet
from raydistill.errors import CatalogError
from raydistill.galaxies.images import (
    FitsImages,
    FolderImages,
    ParquetImages,
    RejectedImage,
    encode_png,
    inspect,
    prepare,
    read_source,
    stored_source,
)
from raydistill.galaxies.tables import object_ids
from raydistill.storage import arrow_filesystem

ROWS_PER_BLOCK = (
    512  # at most. 424 px pictures decode at 200 a second and core, 100 where they are turned: seconds of work
)
BLOCKS_PER_CPU = 4  # of a small survey, so that all have something to do
FEW = 20_000  # pictures that the simpler of Ray Data's shuffles sorts; the other one starts two pools of processes first, for 12 s

TRIES = 3  # more of a piece whose worker was lost, as Ray's own tasks have; Ray Data would try for ever
READ_ERROR = "fault"  # of the storage, in the column `reason`; ends the stage

# One row per selected galaxy, decoded: `sum` and `squares` are exact integers over the pixels of each colour channel.
DECODED = pa.schema(
    [
        ("rank", pa.int64()),
        ("path", pa.string()),
        ("sha256", pa.string()),
        ("image", pa.binary()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("sum", pa.list_(pa.int64(), 3)),
        ("squares", pa.list_(pa.int64(), 3)),
    ]
)


def decode(images: Images | DataSet, selected: pa.Table, how: Curate, workers: int | None = None) -> Iterator[pa.Table]:
    """Tables of schema `DECODED` in order of rank; workers: at most so many at once."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it narrates every execution, and warns of the line above
    context.execution_options.preserve_order = True
    few = len(selected) <= FEW
    context.shuffle_strategy = ShuffleStrategy.SORT_SHUFFLE_PULL_BASED if few else ShuffleStrategy.SHUFFLE_V2
    rows = _in_order(images, selected, how, workers)
    yield from rows.iter_batches(batch_format="pyarrow", batch_size=None)


def _in_order(images: Images | DataSet, selected: pa.Table, how: Curate, workers: int | None) -> ray.data.Dataset:
    if isinstance(images, ParquetImages):
        return _of_table(images, selected, how, workers)
    if isinstance(images, StoredSet):
        return _of_pieces(images, selected, how, workers)
    return _of_files(images, selected, how, workers)


def _of_table(images: ParquetImages, selected: pa.Table, how: Curate, workers: int | None) -> ray.data.Dataset:
    """The order of a stranger's file is not ours: decoded as it comes, then sorted."""
    ranks = ray.put(dict(zip(selected["object_id"].to_pylist(), range(len(selected)), strict=True)))
    system, path = arrow_filesystem(images.uri)
    rows = ray.data.read_parquet(path, filesystem=system, columns=[images.id_column, images.image_column])
    with _deprecated_arguments():
        return rows.map_batches(
            _DecodeStored, fn_constructor_args=(images, how, ranks), batch_format="pyarrow", batch_size=ROWS_PER_BLOCK,
            concurrency=(1, workers or _cpus()), max_restarts=TRIES, max_task_retries=TRIES,
        ).sort(["rank", "sha256"])  # fmt: skip


def _of_pieces(images: StoredSet, selected: pa.Table, how: Curate, workers: int | None) -> ray.data.Dataset:
    """Files are read as they lie, a piece a task, and what comes of them is sorted."""
    order = [(name, "ascending") for name in ("path", "piece", "row")]
    todo = selected.select(["path", "piece", "rank", "row"]).sort_by(order).combine_chunks()
    counted = todo.group_by(["path", "piece"], use_threads=False).aggregate([([], "count_all")])
    lengths = counted["count_all"].to_pylist()
    firsts = np.cumsum([0, *lengths[:-1]]).tolist()
    pieces = [todo.slice(first, length) for first, length in zip(firsts, lengths, strict=True)]
    arguments = (replace(images, root=_anywhere(images.root)), how)
    return _mapped(pieces, _decode_piece, arguments, workers).sort("rank")


def _of_files(
    images: FolderImages | FitsImages | DataSet, selected: pa.Table, how: Curate, workers: int | None
) -> ray.data.Dataset:
    """A picture a file: in blocks that are in order already."""
    todo = selected.select(["rank", "path"]).combine_chunks()
    root = _anywhere(images.root).rstrip("/")
    todo = todo.append_column("at", pa.array([f"{root}/{path}" for path in todo["path"].to_pylist()], pa.string()))
    tasks = BLOCKS_PER_CPU * (workers or _cpus())
    rows_per_block = max(1, min(ROWS_PER_BLOCK, math.ceil(len(todo) / tasks)))
    blocks = [todo.slice(first, rows_per_block) for first in range(0, len(todo), rows_per_block)]
    return _mapped(blocks, _decode_files, (images, how), workers)


def _mapped(blocks: list[pa.Table], decode: Any, arguments: tuple[Any, ...], workers: int | None) -> ray.data.Dataset:
    """Each block through `decode(block, *arguments)`, a task each."""
    with _deprecated_arguments():
        return ray.data.from_arrow(blocks).map_batches(
            decode, fn_args=arguments, batch_format="pyarrow", batch_size=None, concurrency=workers, max_retries=TRIES
        )


def _deprecated_arguments() -> warnings.catch_warnings[None]:
    """Ray 2.60 to 2.63 warn of arguments for tasks and actors, which alone bound how often a lost one is started again."""
    return warnings.catch_warnings(action="ignore", category=RayDeprecationWarning)


def _cpus() -> int:
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _anywhere(uri: str) -> str:
    """The path for a worker, whose working folder may be another one."""
    return uri if "://" in uri else os.path.abspath(os.path.expanduser(uri))


def _decode_piece(batch: pa.Table, images: StoredSet, how: Curate) -> Iterator[pa.Table]:
    """{path, piece, rank, row} of one piece of a file -> DECODED, a block at a time."""
    path, ranks = batch["path"][0].as_py(), batch["rank"].to_pylist()
    sources = images.read(path, batch["piece"][0].as_py(), batch["row"].to_pylist())
    decoded = (_row(rank, source, path, images, how) for rank, source in zip(ranks, sources, strict=True))
    try:
        while block := list(islice(decoded, ROWS_PER_BLOCK)):
            yield pa.Table.from_pylist(block, DECODED)
    except CatalogError as error:  # of the file
        yield pa.Table.from_pylist([_fault(ranks[0], path, error, path)], DECODED)


def _decode_files(batch: pa.Table, images: FolderImages | FitsImages | DataSet, how: Curate) -> pa.Table:
    """{rank, path, at} -> DECODED."""
    rows = [_row(rank, at, path, images, how) for rank, path, at in zip(*batch.to_pydict().values(), strict=True)]
    return pa.Table.from_pylist(rows, DECODED)


class _DecodeStored:
    """{id, encoded picture} -> DECODED, for the selected ids only."""

    def __init__(self, images: ParquetImages, how: Curate, ranks: Any) -> None:
        self._images, self._how, self._ranks = images, how, ray.get(ranks)

    def __call__(self, batch: pa.Table) -> pa.Table:
        ids = object_ids(batch[self._images.id_column], self._images.id_column, self._images.uri).to_pylist()
        rows = []
        for index, object_id in enumerate(ids):
            rank = self._ranks.get(object_id)
            if rank is not None:
                cell = stored_source(batch[self._images.image_column][index].as_py())
                rows.append(_row(rank, cell, self._images.name, self._images, self._how))
        return pa.Table.from_pylist(rows, DECODED)


def _row(rank: int, source: Any, path: str, images: Images | DataSet, how: Curate) -> dict[str, Any]:
    """One galaxy: the prepared picture, or why there is none. Photographs may have any shape, and be of one colour."""
    try:
        content, _ = read_source(source)
        original = images.decode(content)
        if isinstance(images, DataSet):
            inspect(original, min_size=how.min_picture_size, max_aspect=math.inf, min_contrast=0, where=path)
        else:
            inspect(original, min_size=how.min_picture_size, where=path)
        pixels = prepare(original, how.crop_fraction, how.image_size, how.align)
    except RejectedImage as error:
        return {"rank": rank, "path": path, "reason": error.reason, "detail": error.fix}
    except CatalogError as error:  # no matter of this picture
        return _fault(rank, path, error, source if isinstance(source, str) else path)
    flat = pixels.reshape(-1, 3).astype(np.int64)
    return {
        "rank": rank,
        "path": path,
        "sha256": hashlib.sha256(content).hexdigest(),
        "image": encode_png(pixels),
        "sum": flat.sum(axis=0).tolist(),
        "squares": (flat**2).sum(axis=0).tolist(),
    }


def _fault(rank: int, path: str, error: CatalogError, where: str) -> dict[str, Any]:
    """An error that ends the stage, as a row, for Ray Data would bring the driver a text of it."""
    detail = json.dumps([error.what, error.where or where, error.fix])
    return {"rank": rank, "path": path, "reason": READ_ERROR, "detail": detail}


def raise_read_error(decoded: pa.Table, images: Images | DataSet, started: bool) -> None:
    """CatalogError for what is no matter of a single picture: a storage in trouble, channels that none of the first pictures has."""
    if isinstance(images, FitsImages) and not started and set(decoded["reason"].to_pylist()) == {"wrong-bands"}:
        raise CatalogError(
            decoded["detail"][0].as_py(), f"{images.root}/{decoded['path'][0].as_py()}",
            "set survey.images.channels to the extensions or planes for red, green and blue",
        )  # fmt: skip
    for detail in decoded.filter(pc.equal(decoded["reason"], READ_ERROR))["detail"].to_pylist()[:1]:
        raise CatalogError(*json.loads(detail))
