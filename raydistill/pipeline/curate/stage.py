"""curate: from a survey to the pictures and labels that everything after it sees.

    vote table -> classes, confidences, the best of each class        (driver: labels first, they are small)
    or the index of a data set
               -> {rank, source}                                      (pixels only of what was selected)
    Ray Data   -> decode, check, crop, resize, encode                 ({rank, image | reason}, one row in, one row out)
               -> one Parquet file per split and class, in order      (driver: streams, holds a row group at a time)
    training pixels -> their whitening, where it is wanted            (driver: sums as they stream by, one matrix at the end)

A picture that cannot be used costs its own row, never its block: it comes back with a reason and is listed in `rejected.parquet`.
"""

from __future__ import annotations

import io
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from raydistill.artifacts.curated import REJECTED_SCHEMA, SCHEMA, SPLITS, ClassSummary, CuratedSet, Summary, partition
from raydistill.artifacts.tensors import write_whitening
from raydistill.config import Config, Images
from raydistill.core.normalise import MINIMUM_STD, PixelSums, Whitening
from raydistill.datasets.base import DataSet
from raydistill.errors import CatalogError
from raydistill.galaxies.classes import ClassTree
from raydistill.log import get_logger, progress
from raydistill.pipeline.curate.decoding import decode, raise_read_error
from raydistill.pipeline.curate.selection import Selection, rejection, select_galaxies
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.runtime.failures import translate_errors
from raydistill.pipeline.runtime.resources import ensure_schedulable
from raydistill.pipeline.runtime.stages import is_complete, stage_context, tracked_run
from raydistill.pipeline.tracking.tracker import Run, Tracker
from raydistill.storage import Folder, disk_errors

log = get_logger(__name__)

ROWS_PER_GROUP = 1024  # of the Parquet files; fixed, so that the bytes do not depend on how batches arrived


def curate(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> CuratedSet:
    """Write the curated set of the plan, or open the one that exists."""
    config, spec = plan.config, plan.curated
    if not is_complete(spec):
        survey = plan.user_survey()
        chosen = select_galaxies(config.curate, survey)  # what is wrong with a table shows before a cluster is started
        with stage_context(plan), tracked_run(plan, spec, tracker, parent_run) as run:
            images = survey if isinstance(survey, DataSet) else survey.images
            summary = _curate(config, images, chosen, spec.folder)
            _describe(summary, run)
        return CuratedSet.open(spec.folder)
    found = CuratedSet.open(spec.folder)
    if dropped := sum(found.summary.rejected.values()):
        log.info(
            "curate: %d pictures were dropped when it was made; to try them again remove %s", dropped, found.folder
        )
    return found


def _curate(config: Config, images: Images | DataSet, chosen: Selection, folder: Folder) -> Summary:
    folder.remove("data")  # of a stopped attempt, which may have met other pictures
    whiten = config.curate.whitening is not None
    sums = PixelSums(3 * config.curate.image_size**2) if whiten else None
    writer = _Writer(folder, chosen.galaxies, chosen.tree, config.curate.image_size, sums)
    with disk_errors(folder.uri):
        with progress(len(chosen.galaxies), "curating", "pictures") as shown, translate_errors("curate"):
            ensure_schedulable(config.resources, 1, 0, "")
            for decoded in decode(images, chosen.galaxies, config.curate, config.resources.workers):
                raise_read_error(decoded, images, started=bool(writer.kept))
                writer.add(decoded)
                shown.advance(len(decoded), rejected=len(writer.rejected))
        writer.close(chosen.missing)
    summary = writer.summarise(config, chosen)
    if sums is not None:
        log.info("curate: computes the whitening, a matrix of %d²", 3 * config.curate.image_size**2)
        write_whitening(folder, _whitening(sums, config.curate.whitening_eps))
    return summary


def _whitening(sums: PixelSums, eps: float) -> Whitening:
    """On one thread: their number would decide the last bits, and a survey gives the same set on every machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return sums.whitening(eps)
    finally:
        torch.set_num_threads(threads)


@dataclass
class _Writer:
    """Writes decoded rows, which come in order of rank, to the files of their split and class. side: of a picture, in pixels. sums: of
    the training pixels."""

    folder: Folder
    selected: pa.Table
    tree: ClassTree
    side: int
    sums: PixelSums | None
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
        rows = self._once(decoded.to_pylist())
        self._note_missing(rows)
        good = [row for row in rows if row["reason"] is None]
        self.rejected += [
            rejection(self._value("object_id", r["rank"]), r["path"], r["reason"], r["detail"])
            for r in rows
            if r["reason"] is not None
        ]
        keys = [(self._value("split", row["rank"]), self._value("label", row["rank"])) for row in good]
        for key in sorted(set(keys)):
            self._append(key, [row for row, own in zip(good, keys, strict=True) if own == key])

    def _once(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Each rank's first row: a file of pictures may hold a galaxy twice."""
        first = {row["rank"]: row for row in reversed(rows) if row["rank"] >= self._next_rank}
        return [first[rank] for rank in sorted(first)]

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

    @property
    def kept(self) -> int:
        """How many galaxies were written so far."""
        return self._kept.total()

    def summarise(self, config: Config, chosen: Selection) -> Summary:
        """Counts and channel statistics; CatalogError for a class without a training galaxy."""
        classes = tuple(self._class(k, name, chosen.candidates[k]) for k, name in enumerate(self.tree.names))
        rejected = dict(sorted(Counter(row["reason"] for row in self.rejected).items()))
        empty = [entry.name for entry in classes if not entry.train]
        if empty:
            reasons = ", ".join(f"{count} {reason}" for reason, count in rejected.items())
            fix = "lower curate.min_confidence, enlarge the training split, or choose other classes"
            if reasons:
                reasons = f" (rejected pictures: {reasons}; first: {self.rejected[0]['source'] or self.rejected[0]['object_id']})"
                fix = f"{self.folder.uri}/rejected.parquet lists them; mend them, or {fix}"
            raise CatalogError(f"no training galaxy in: {', '.join(empty)}{reasons}", "curate", fix)
        for split in SPLITS[1:]:
            if absent := [entry.name for entry in classes if not getattr(entry, split)]:
                what = "curate: the %s split has no galaxy of: %s; balanced accuracy is that of the other classes"
                log.warning(what, split, ", ".join(absent))
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
            rejected=rejected,
            aligned=config.curate.align,
            unassigned=chosen.unassigned,
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
                    rejection(self._value("object_id", absent), self._value("path", absent), "missing", "")
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
            self._train_pixels += len(rows) * self.side**2
            if self.sums is not None:
                pictures = [np.asarray(Image.open(io.BytesIO(row["image"]))) for row in rows]
                self.sums.add(torch.from_numpy(np.stack(pictures)))
        while sum(map(len, self._buffer)) >= ROWS_PER_GROUP:
            self._flush(ROWS_PER_GROUP)

    def _table(self, rows: list[dict[str, Any]]) -> pa.Table:
        own = self.selected.take([row["rank"] for row in rows])
        names = self.tree.names
        columns = {
            "object_id": own["object_id"],
            "class_name": pa.array([names[label] for label in own["label"].to_pylist()], pa.string()),
            **{name: own[name] for name in ("ra", "dec", "petro_r90", "redshift", "confidence")},
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
