"""curate: from a survey to the pictures and labels that everything after it sees.

    vote table -> classes, confidences, the best of each class        (driver: labels first, they are small)
               -> {rank, source}                                      (pixels only of what was selected)
    Ray Data   -> decode, check, crop, resize, encode                 ({rank, image | reason}, one row in, one row out)
               -> one Parquet file per split and class, in order      (driver: streams, holds a row group at a time)

A picture that cannot be used costs its own row, never its block: it comes back with a reason and is listed in `rejected.parquet`.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray

from raydistill.artifacts.curated import REJECTED_SCHEMA, SCHEMA, SPLITS, ClassSummary, CuratedSet, Summary, partition
from raydistill.artifacts.storage import Folder
from raydistill.config import CatalogSurvey, Config, Curate, Images
from raydistill.core.normalise import MINIMUM_STD
from raydistill.errors import CatalogError, ConfigError, RaydistillError
from raydistill.galaxies.classes import ClassTree, load_class_tree
from raydistill.galaxies.dialects import read_catalog
from raydistill.galaxies.files import object_ids
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
from raydistill.galaxies.selection import assign, report, select, split_of
from raydistill.log import get_logger, progress
from raydistill.pipeline.cluster import attached, plain_errors
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.stage import recorded, skipped
from raydistill.pipeline.tracking import Run, Tracker

log = get_logger(__name__)

ROWS_PER_BLOCK = 128  # 424 px pictures decode at about 100 a second and core: a block is a second's work
ROWS_PER_GROUP = 1024  # of the Parquet files; fixed, so that the bytes do not depend on how batches arrived

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


def curate(config: Config, tracker: Tracker, parent_run: str | None = None) -> CuratedSet:
    """Write the curated set of the config, or open the one that exists."""
    plan = Plan(config)
    place = plan.curated
    if not skipped(place):
        survey = plan.user_survey()
        chosen = _choose(config.curate, survey)  # what is wrong with a table shows before a cluster is started
        with attached(config.resources), recorded(plan, place, tracker, parent_run) as run:
            summary = _curate(config, survey.images, chosen, place.folder)
            _describe(summary, run)
    return CuratedSet.open(place.folder)


class _Chosen(NamedTuple):
    """The selected galaxies in the order of the files; galaxies per class before selection; rejections without a picture."""

    galaxies: pa.Table
    candidates: list[int]
    missing: list[dict[str, Any]]
    tree: ClassTree


def _choose(how: Curate, survey: CatalogSurvey) -> _Chosen:
    tree = load_class_tree(how.classes)
    log.info("curate: reading %s", survey.catalog)
    with _placed("survey.", ConfigError):
        catalog = read_catalog(survey.catalog, survey.dialect, fractions=survey.fractions, columns=survey.columns)
    with _placed(f"{survey.catalog}, ", CatalogError):
        assigned = assign(catalog, tree, thresholds=how.thresholds, min_votes=how.min_votes)
    found, missing = _locate(survey.images, assigned)
    with _placed("curate.", CatalogError):
        selected = select(found, per_class=how.per_class, min_confidence=how.min_confidence, balance=how.balance)
    if not len(selected):
        raise CatalogError(
            f"none of {len(catalog)} galaxies was selected ({len(assigned)} have a class, {len(found)} of those a picture)",
            survey.catalog, "check survey.images, curate.classes and curate.min_confidence",
        )  # fmt: skip
    candidates = report(assigned, selected)["candidates"].to_pylist()
    return _Chosen(_in_order(selected, how.split), candidates, missing, tree)


@contextmanager
def _placed(prefix: str, kind: type[RaydistillError]) -> Iterator[None]:
    """Errors of rooms that do not know the config, with the place in it."""
    try:
        yield
    except kind as error:
        raise kind(error.what, prefix + error.where, error.fix) from error


def _curate(config: Config, images: Images, chosen: _Chosen, folder: Folder) -> Summary:
    writer = _Writer(folder, chosen.galaxies, chosen.tree)
    with progress(len(chosen.galaxies), "curating", "galaxies") as shown, plain_errors():
        for decoded in _decode(images, chosen.galaxies, config.curate):
            writer.add(decoded)
            shown.advance(len(decoded), rejected=len(writer.rejected))
    writer.close(chosen.missing)
    return writer.summarise(config, chosen.candidates)


def _locate(images: Images, assigned: pa.Table) -> tuple[pa.Table, list[dict[str, Any]]]:
    """The galaxies that have a picture, with its path as column `path`; and rejections for those that have none.

    Pictures inside Parquet are not looked for here: which ids are in there shows when it is read.
    """
    if isinstance(images, ParquetImages):
        images.dataset()
        return assigned.append_column("path", pa.array([images.uri] * len(assigned), pa.string())), []
    ids = assigned["object_id"].to_pylist()
    paths = images.paths(ids)
    missing = [_rejection(i, "", "missing", images.root) for i, path in zip(ids, paths, strict=True) if path is None]
    with_path = assigned.append_column("path", pa.array(paths, pa.string()))
    return with_path.filter(pc.is_valid(with_path["path"])), missing


def _in_order(selected: pa.Table, fractions: tuple[float, float, float]) -> pa.Table:
    """The selected galaxies with their split and rank, in the order of the files to be written."""
    split = split_of(selected["object_id"].to_pylist(), fractions)
    table = selected.append_column("split", pa.array([SPLITS.index(s) for s in split], pa.int8()))
    table = table.sort_by([("split", "ascending"), ("label", "ascending"), ("object_id", "ascending")])
    return table.append_column("rank", pa.array(range(len(table)), pa.int64()))


# ---- decoding, in Ray Data ----


def _decode(images: Images, selected: pa.Table, how: Curate) -> Iterator[pa.Table]:
    """Tables of schema `DECODED` in order of rank."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it narrates every execution, and warns of the line above
    context.execution_options.preserve_order = True
    if isinstance(images, ParquetImages):
        # The order of a stranger's file is not ours: decode as it comes, then sort.
        ranks = ray.put(dict(zip(selected["object_id"].to_pylist(), range(len(selected)), strict=True)))
        rows = ray.data.read_parquet(images.uri, columns=[images.id_column, images.image_column])
        rows = rows.map_batches(
            _DecodeStored, fn_constructor_args=(images, how, ranks), batch_format="pyarrow", batch_size=ROWS_PER_BLOCK,
            concurrency=(1, max(1, int(ray.cluster_resources().get("CPU", 1)))),
        ).sort("rank")  # fmt: skip
    else:
        todo = selected.select(["rank", "path"]).combine_chunks()
        blocks = [todo.slice(first, ROWS_PER_BLOCK) for first in range(0, len(todo), ROWS_PER_BLOCK)]
        decode: Any = _decode_files
        rows = ray.data.from_arrow(blocks).map_batches(
            decode, fn_args=(images, how), batch_format="pyarrow", batch_size=None
        )
    yield from rows.iter_batches(batch_format="pyarrow", batch_size=ROWS_PER_BLOCK)


def _decode_files(batch: pa.Table, images: FolderImages | FitsImages, how: Curate) -> pa.Table:
    """{rank, path} -> DECODED."""
    rows = [_row(rank, path, path, images, how) for rank, path in zip(*batch.to_pydict().values(), strict=True)]
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
                rows.append(_row(rank, cell, self._images.uri, self._images, self._how))
        return pa.Table.from_pylist(rows, DECODED)


def _row(rank: int, source: Any, path: str, images: Images, how: Curate) -> dict[str, Any]:
    """One galaxy: the prepared picture, or why there is none."""
    try:
        content, _ = read_source(source)
        original = images.decode(content)
        inspect(original, min_size=how.min_picture_size, where=path)
        pixels = prepare(original, how.crop_fraction, how.image_size)
    except RejectedImage as error:
        return {"rank": rank, "path": path, "reason": error.reason, "detail": error.fix}
    flat = pixels.reshape(-1, 3).astype(np.int64)
    return {
        "rank": rank,
        "path": path,
        "sha256": hashlib.sha256(content).hexdigest(),
        "image": encode_png(pixels),
        "sum": flat.sum(axis=0).tolist(),
        "squares": (flat**2).sum(axis=0).tolist(),
    }


# ---- writing, on the driver ----


@dataclass
class _Writer:
    """Writes decoded rows, which come in order of rank, to the files of their split and class."""

    folder: Folder
    selected: pa.Table
    tree: ClassTree
    rejected: list[dict[str, Any]] = field(default_factory=list)
    _kept: Counter[tuple[int, int]] = field(default_factory=Counter)
    _lowest: dict[int, float] = field(default_factory=dict)
    _sums: np.ndarray = field(default_factory=lambda: np.zeros((2, 3), np.int64))
    _train_pixels: int = 0
    _next_rank: int = 0
    _buffer: list[pa.Table] = field(default_factory=list)
    _open: tuple[int, int] | None = None
    _stack: ExitStack = field(default_factory=ExitStack)
    _parquet: Any = None

    def add(self, decoded: pa.Table) -> None:
        rows = decoded.to_pylist()
        self._note_missing(rows)
        good = [row for row in rows if row["reason"] is None]
        self.rejected += [
            _rejection(self._value("object_id", r["rank"]), r["path"], r["reason"], r["detail"])
            for r in rows
            if r["reason"] is not None
        ]
        keys = [(self._value("split", row["rank"]), self._value("label", row["rank"])) for row in good]
        for key in sorted(set(keys)):
            self._append(key, [row for row, own in zip(good, keys, strict=True) if own == key])

    def close(self, missing: list[dict[str, Any]]) -> None:
        """Write what is buffered, and the list of the rejected."""
        try:
            self._note_missing([], end=True)
            self._finish_file()
        finally:
            self._stack.close()
        self.rejected += missing
        self.rejected.sort(key=lambda row: row["object_id"])
        with self.folder.writing("rejected.parquet") as path:
            pq.write_table(pa.Table.from_pylist(self.rejected, REJECTED_SCHEMA), path)

    def summarise(self, config: Config, candidates: list[int]) -> Summary:
        """Counts and channel statistics; CatalogError for a class without a training galaxy."""
        classes = tuple(self._class(label, name, candidates[label]) for label, name in enumerate(self.tree.names))
        empty = [entry.name for entry in classes if not entry.train]
        if empty:
            raise CatalogError(
                f"no training galaxy in: {', '.join(empty)}", "curate",
                "lower curate.min_confidence, enlarge the training split, or choose other classes",
            )  # fmt: skip
        mean = self._sums[0] / self._train_pixels / 255
        std = np.sqrt(np.maximum(self._sums[1] / self._train_pixels / 255**2 - mean**2, 0))
        summary = Summary(
            survey=config.name,
            simulated=config.survey.kind == "simulated",
            image_size=config.curate.image_size,
            crop_fraction=config.curate.crop_fraction,
            mean=tuple(mean.tolist()),
            std=tuple(np.maximum(std, MINIMUM_STD).tolist()),
            classes=classes,
            rejected=dict(sorted(Counter(row["reason"] for row in self.rejected).items())),
        )
        self.folder.write("summary.json", summary.to_json())
        return summary

    def _class(self, label: int, name: str, candidates: int) -> ClassSummary:
        counts = [self._kept[split, label] for split in range(len(SPLITS))]
        train, validation, test = counts
        return ClassSummary(name, candidates, sum(counts), train, validation, test, self._lowest.get(label))

    def _value(self, column: str, rank: int) -> Any:
        return self.selected[column][rank].as_py()

    def _note_missing(self, rows: list[dict[str, Any]], end: bool = False) -> None:
        """Ranks that never came: a Parquet file of pictures without these ids."""
        for rank in [*(row["rank"] for row in rows), *([len(self.selected)] if end else [])]:
            for absent in range(self._next_rank, rank):
                self.rejected.append(
                    _rejection(self._value("object_id", absent), self._value("path", absent), "missing", "")
                )
            self._next_rank = rank + 1

    def _append(self, key: tuple[int, int], rows: list[dict[str, Any]]) -> None:
        if key != self._open:
            self._finish_file()
            self._open = key
            path = self._stack.enter_context(self.folder.writing(partition(SPLITS[key[0]], key[1])))
            self._parquet = self._stack.enter_context(pq.ParquetWriter(path, SCHEMA, compression="zstd"))
        self._buffer.append(self._table(rows))
        self._kept[key] += len(rows)
        lowest = min(self._value("confidence", row["rank"]) for row in rows)
        self._lowest[key[1]] = min(self._lowest.get(key[1], lowest), lowest)
        if SPLITS[key[0]] == "train":
            self._sums += np.array([[row["sum"] for row in rows], [row["squares"] for row in rows]]).sum(axis=1)
            self._train_pixels += len(rows) * self._pixels(rows[0])
        while sum(map(len, self._buffer)) >= ROWS_PER_GROUP:
            self._flush(ROWS_PER_GROUP)

    def _pixels(self, row: dict[str, Any]) -> int:
        width, height = (int.from_bytes(row["image"][at : at + 4], "big") for at in (16, 20))  # PNG's header
        return width * height

    def _table(self, rows: list[dict[str, Any]]) -> pa.Table:
        own = self.selected.take([row["rank"] for row in rows])
        names = self.tree.names
        columns = {
            "object_id": own["object_id"],
            "class_name": pa.array([names[label] for label in own["label"].to_pylist()], pa.string()),
            **{name: own[name] for name in ("ra", "dec", "petro_r90", "confidence")},
            "votes": own["votes"] if "votes" in own.column_names else pa.nulls(len(own), SCHEMA.field("votes").type),
            "source": pa.array([{"path": r["path"], "sha256": r["sha256"]} for r in rows], SCHEMA.field("source").type),
            "image": pa.array([row["image"] for row in rows], pa.binary()),
        }
        return pa.table(columns).cast(SCHEMA)

    def _flush(self, count: int) -> None:
        rows = pa.concat_tables(self._buffer)
        self._parquet.write_table(rows.slice(0, count).combine_chunks(), row_group_size=count)
        self._buffer = [rows.slice(count)] if len(rows) > count else []

    def _finish_file(self) -> None:
        if self._buffer:
            self._flush(ROWS_PER_GROUP)
        self._stack.close()
        self._open = None


def _rejection(object_id: str, source: str, reason: str, detail: str) -> dict[str, Any]:
    return {"object_id": object_id, "source": source, "reason": reason, "detail": detail}


def _describe(summary: Summary, run: Run) -> None:
    """The table a person wants to see: candidates, kept, lowest confidence per class."""
    width = max(len(entry.name) for entry in summary.classes)
    log.info(
        "%-*s %10s %6s %6s %6s %6s %10s", width, "class", "candidates", "kept", "train", "valid", "test", "lowest p"
    )
    for c in summary.classes:
        lowest = "-" if c.lowest_confidence is None else f"{c.lowest_confidence:.3f}"
        log.info(
            "%-*s %10d %6d %6d %6d %6d %10s", width, c.name, c.candidates, c.kept, c.train, c.validation, c.test, lowest
        )
    if summary.rejected:
        log.warning(
            "rejected: %s (listed in rejected.parquet)", ", ".join(f"{n} {r}" for r, n in summary.rejected.items())
        )
    run.metrics({f"kept/{c.name}": c.kept for c in summary.classes}, 0)
    run.metrics({f"rejected/{reason}": count for reason, count in summary.rejected.items()}, 0)
