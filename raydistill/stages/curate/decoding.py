"""Decode pictures with Ray Data: one row in, one row out.

A picture that cannot be used does not fail its block: its row carries the reason.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data.context import ShuffleStrategy

from raydistill.config import Curate, Images
from raydistill.datasets.base import DataSet, PackedDataSet
from raydistill.errors import CatalogError, describe_arrow_error
from raydistill.galaxies.pictures.files import below
from raydistill.galaxies.pictures.fits import FitsImages
from raydistill.galaxies.pictures.images import RejectedImage, encode_png
from raydistill.galaxies.pictures.mosaics import BandImages, MosaicImages
from raydistill.galaxies.pictures.perceptual_hash import perceptual_hashes
from raydistill.galaxies.pictures.sources import FolderImages, ParquetImages
from raydistill.galaxies.tables.ids import first_of_each
from raydistill.runtime.ray_data import MAX_RETRIES, accepted_deprecations, quiet_context
from raydistill.stages.curate.filter.duplicates import fingerprint
from raydistill.stages.curate.filter.network import FILTER_VIEW, TrainedFilter, filter_view
from raydistill.surveys.finding import absolute
from raydistill.surveys.levels import measure_levels, planes
from raydistill.surveys.survey import ParquetReader, Preparation, read_original

# Upper limit. A core decodes 200 pictures of 424 px a second, 100 if it also aligns them.
ROWS_PER_BLOCK = 512
BLOCKS_PER_CPU = 4  # lower limit for a small survey, so that every CPU has work
# Up to this many pictures, use the simpler shuffle: the other one takes 12 s to start its
# processes.
SIMPLE_SHUFFLE_ROWS = 20_000

PIXELS_AT_ONCE = 2**18  # values whose sums are computed together; they fit into the cache
READ_ERROR = "fault"  # reason of a row that stands for an error of the storage, which ends the stage

# One row per selected galaxy. `sum` and `squares` are exact integers over each channel's pixels.
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
        ("fingerprint", pa.uint64()),
        ("perceptual_hash", pa.binary()),  # null: not comparable
        ("highest", pa.int64()),  # for `LevelChecks`
        ("flat_channels", pa.int64()),
        ("saturated", pa.float64()),
    ]
)


def decode(
    images: Images | DataSet,
    selected: pa.Table,
    curate: Curate,
    workers: int | None = None,
    trained: TrainedFilter | None = None,
) -> Iterator[pa.Table]:
    """Yield tables of schema `DECODED` in order of rank.

    Parameters
    ----------
    images
        Where the pictures are, and how to decode them.
    selected
        The galaxies to decode, with `rank` and `path`.
    curate
        Crop, size and alignment of the pictures.
    workers
        Upper limit of concurrent tasks; None: the CPUs of the cluster.
    trained
        Filter of damaged pictures; None: every picture that can be used is kept.
    """
    context = quiet_context(preserve_order=True)
    simple = len(selected) <= SIMPLE_SHUFFLE_ROWS
    context.shuffle_strategy = ShuffleStrategy.SORT_SHUFFLE_PULL_BASED if simple else ShuffleStrategy.SHUFFLE_V2
    rows = _decoded_rows(images, selected, _Decoder(images, curate, trained), workers)
    yield from rows.iter_batches(batch_format="pyarrow", batch_size=None)


def _decoded_rows(
    images: Images | DataSet, selected: pa.Table, decoder: _Decoder, workers: int | None
) -> ray.data.Dataset:
    if isinstance(images, ParquetImages):
        return _decode_table(images, selected, decoder, workers)
    if isinstance(images, PackedDataSet):
        return _decode_row_groups(images, selected, decoder, workers)
    if isinstance(images, MosaicImages):  # cut-outs of one tile follow one another, so each tile is opened once
        return _decode_folder(images, selected.sort_by("path"), decoder, workers).sort("rank")
    return _decode_folder(images, selected, decoder, workers)


def _decode_table(
    images: ParquetImages, selected: pa.Table, decoder: _Decoder, workers: int | None
) -> ray.data.Dataset:
    """Decode rows of Parquet files in their order, then sort by rank.

    Each block is read from the start of its row group, so there are no more blocks than tasks.
    """
    images = replace(images, uri=absolute(images.uri))
    stored = first_of_each(images.rows(), "object_id")
    places = stored.take(pc.index_in(selected["object_id"], stored["object_id"].combine_chunks()))
    order = [(name, "ascending") for name in ("path", "row_group", "row")]
    todo = places.append_column("rank", selected["rank"]).sort_by(order)
    blocks = _blocks(todo, math.ceil(len(todo) / (BLOCKS_PER_CPU * (workers or _cpus()))))
    reader = ParquetReader(images.uri, images.image_column, images.folder(), images.allow_outside)
    return _map_blocks(blocks, _decode_stored, (reader, images.name, decoder), workers).sort("rank")


def _decode_row_groups(
    images: PackedDataSet, selected: pa.Table, decoder: _Decoder, workers: int | None
) -> ray.data.Dataset:
    """Decode one row group of a stored file per task, then sort by rank."""
    order = [(name, "ascending") for name in ("path", "row_group", "row")]
    todo = selected.select(["path", "row_group", "rank", "row"]).sort_by(order).combine_chunks()
    counted = todo.group_by(["path", "row_group"], use_threads=False).aggregate([([], "count_all")])
    lengths = counted["count_all"].to_pylist()
    firsts = np.cumsum([0, *lengths[:-1]]).tolist()
    row_groups = [todo.slice(first, length) for first, length in zip(firsts, lengths, strict=True)]
    arguments = (replace(images, root=absolute(images.root)), decoder)
    return _map_blocks(row_groups, _decode_row_group, arguments, workers).sort("rank")


def _decode_folder(
    images: FolderImages | BandImages | DataSet, selected: pa.Table, decoder: _Decoder, workers: int | None
) -> ray.data.Dataset:
    """Decode one file or cut-out per picture, in blocks in the order of the table."""
    todo = selected.select(["rank", "path"])
    root = absolute(images.root)
    todo = todo.append_column("at", pa.array([below(root, path) for path in todo["path"].to_pylist()], pa.string()))
    tasks = BLOCKS_PER_CPU * (workers or _cpus())
    rows_per_block = max(1, min(ROWS_PER_BLOCK, math.ceil(len(todo) / tasks)))
    return _map_blocks(_blocks(todo, rows_per_block), _decode_files, (decoder,), workers)


def _blocks(todo: pa.Table, rows: int) -> list[pa.Table]:
    todo = todo.combine_chunks()
    return [todo.slice(first, rows) for first in range(0, len(todo), rows)]


def _map_blocks(
    blocks: list[pa.Table], decode: Any, arguments: tuple[Any, ...], workers: int | None
) -> ray.data.Dataset:
    """Apply `decode(block, *arguments)` to each block, in one task per block."""
    with accepted_deprecations():
        return ray.data.from_arrow(blocks).map_batches(
            decode,
            fn_args=arguments,
            batch_format="pyarrow",
            batch_size=None,
            compute=ray.data.TaskPoolStrategy(size=workers),
            max_retries=MAX_RETRIES,
        )


def _cpus() -> int:
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


@dataclass(frozen=True)
class _Decoder:
    """Decode the rows of a block; it is an argument of the tasks."""

    images: Images | DataSet
    curate: Curate
    trained: TrainedFilter | None

    def row(self, rank: int, source: Any, path: str) -> dict[str, Any]:
        return decode_row(rank, source, path, self.images, self.curate, self.trained)

    def table(self, rows: list[dict[str, Any]]) -> pa.Table:
        return to_table(rows if self.trained is None else self.trained.reject(rows))


def _decode_row_group(batch: pa.Table, images: PackedDataSet, decoder: _Decoder) -> Iterator[pa.Table]:
    """Decode a file's row group by blocks: {path, row_group, rank, row} -> DECODED."""
    path, ranks = batch["path"][0].as_py(), batch["rank"].to_pylist()
    sources = images.read(path, batch["row_group"][0].as_py(), batch["row"].to_pylist())
    decoded = (decoder.row(rank, source, path) for rank, source in zip(ranks, sources, strict=True))
    try:
        yield from _tables(decoded, decoder)
    except CatalogError as error:  # the file cannot be read
        yield pa.Table.from_pylist([_error_row(ranks[0], path, error, path)], DECODED)


def _decode_files(batch: pa.Table, decoder: _Decoder) -> pa.Table:
    """Decode files: {rank, path, at} -> DECODED."""
    rows = [decoder.row(rank, at, path) for rank, path, at in zip(*batch.to_pydict().values(), strict=True)]
    return decoder.table(rows)


def _decode_stored(batch: pa.Table, reader: ParquetReader, name: str, decoder: _Decoder) -> Iterator[pa.Table]:
    """Decode rows of Parquet files: OBJECTS and rank -> DECODED."""
    ranks = batch["rank"].to_pylist()
    decoded = (decoder.row(rank, source, name) for rank, source in zip(ranks, reader.read(batch), strict=True))
    try:
        yield from _tables(decoded, decoder)
    except (OSError, pa.ArrowException, CatalogError) as error:
        what = f"cannot be read as a Parquet table ({describe_arrow_error(error)})"
        fault = error if isinstance(error, CatalogError) else CatalogError(what, reader.root, "download it again")
        yield pa.Table.from_pylist([_error_row(ranks[0], name, fault, name)], DECODED)


def _tables(decoded: Iterator[dict[str, Any]], decoder: _Decoder) -> Iterator[pa.Table]:
    while block := list(islice(decoded, ROWS_PER_BLOCK)):
        yield decoder.table(block)


def decode_row(
    rank: int,
    source: Any,
    path: str,
    images: Images | DataSet,
    curate: Curate,
    trained: TrainedFilter | None = None,
) -> dict[str, Any]:
    """Return one galaxy's row: its prepared picture, or the reason why there is none.

    With a filter, the row also has the view that the filter sees.
    """
    preparation = Preparation.of(curate, images)
    try:
        contents, original = read_original(source, path, images, preparation)
    except RejectedImage as error:
        # A table may name a file that is not there; of a folder, `path` is that file.
        tried = source if isinstance(source, str) and not source.endswith(path) else path
        return {"rank": rank, "path": tried, "reason": error.reason, "detail": error.fix}
    except CatalogError as error:  # the storage, not this picture, is at fault
        return _error_row(rank, path, error, source if isinstance(source, str) else path)
    pixels = preparation.apply(original)
    row = {
        "rank": rank,
        "path": path,
        "sha256": hashlib.sha256(b"".join(contents)).hexdigest(),
        "image": encode_png(pixels),
        "fingerprint": fingerprint(pixels),
        "pixels": pixels,  # for `to_table`
    }
    return (
        row if trained is None else row | {FILTER_VIEW: filter_view(original, curate.crop_fraction, preparation.centre)}
    )


def to_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Return rows of `decode_row` as a table with the hashes, sums and levels."""
    good = [row for row in rows if "pixels" in row]
    if good:
        pixels_NHWC = np.stack([row["pixels"] for row in good])
        for row, value in zip(good, perceptual_hashes(pixels_NHWC), strict=True):
            row["perceptual_hash"] = value
        at_once = max(1, PIXELS_AT_ONCE // pixels_NHWC[0].size)
        for first in range(0, len(good), at_once):
            _add_numbers(good[first : first + at_once], pixels_NHWC[first : first + at_once])
    return pa.Table.from_pylist(rows, DECODED)


def _add_numbers(rows: list[dict[str, Any]], pixels_NHWC: np.ndarray) -> None:
    """Add the sums and levels of prepared pictures to their rows."""
    planes_N3P = planes(pixels_NHWC)
    numbers = measure_levels(planes_N3P) | {
        "sum": planes_N3P.sum(axis=2, dtype=np.int64).tolist(),
        "squares": np.square(planes_N3P, dtype=np.uint32).sum(axis=2, dtype=np.int64).tolist(),
    }
    for name, values in numbers.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value


def _error_row(rank: int, path: str, error: CatalogError, where: str) -> dict[str, Any]:
    """Return an error as a row: Ray Data would hand the driver only its text."""
    detail = json.dumps([error.what, error.where or where, error.fix])
    return {"rank": rank, "path": path, "reason": READ_ERROR, "detail": detail}


def raise_read_error(decoded: pa.Table, images: Images | DataSet, started: bool) -> None:
    """Raise CatalogError for an error that no single picture explains.

    It is an error of the storage, or channels that none of the first pictures has.
    """
    if isinstance(images, FitsImages) and not started and set(decoded["reason"].to_pylist()) == {"wrong-bands"}:
        raise CatalogError(
            decoded["detail"][0].as_py(), f"{images.root}/{decoded['path'][0].as_py()}",
            "set survey.images.channels to the extensions or planes for red, green and blue",
        )  # fmt: skip
    for detail in decoded.filter(pc.equal(decoded["reason"], READ_ERROR))["detail"].to_pylist()[:1]:
        raise CatalogError(*json.loads(detail))
