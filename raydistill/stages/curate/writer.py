"""Write decoded rows to a curated set's Parquet files, and count for its summary."""

from __future__ import annotations

import io
from collections import Counter
from contextlib import ExitStack
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from PIL import Image

from raydistill.artifacts.tables import read_table, write_table
from raydistill.config import Config
from raydistill.errors import CatalogError, listed
from raydistill.galaxies.catalog import votes_array
from raydistill.galaxies.selection import SPLITS, Split
from raydistill.galaxies.tree import DecisionTree
from raydistill.galaxies.trees import GZ2
from raydistill.galaxies.votes import vote_counts
from raydistill.learning.normalise import MINIMUM_STD, PixelSums
from raydistill.log import get_logger
from raydistill.stages.curate.artifact import REJECTED_SCHEMA, SCHEMA, CuratedSet, partition
from raydistill.stages.curate.filter.duplicates import (
    DuplicateFinder,
    NearDuplicateFinder,
    check_duplicates,
    write_near_duplicates,
)
from raydistill.stages.curate.filter.rejections import Rejection, describe_rejections, fix_rejections, rejection
from raydistill.stages.curate.select.selection import Selection
from raydistill.stages.curate.summary import ClassSummary, Levels, Summary
from raydistill.storage import Folder
from raydistill.surveys.survey import Preparation

log = get_logger(__name__)

ROWS_PER_GROUP = 1024  # of the Parquet files; fixed, so that the bytes do not depend on the batches that arrive


class CuratedWriter:
    """Write decoded rows, which arrive by rank, to one file per split and class.

    Parameters
    ----------
    folder
        Of the curated set.
    selection
        The galaxies to which the ranks refer.
    preparation
        Of the pictures.
    pixel_sums
        Accumulates the training pixels; None if no whitening is requested.
    drop_duplicates
        Reject a picture that an earlier split has.
    """

    def __init__(
        self,
        folder: Folder,
        selection: Selection,
        preparation: Preparation,
        pixel_sums: PixelSums | None,
        drop_duplicates: bool = False,
    ) -> None:
        self._folder, self._selection, self._preparation, self._pixel_sums = folder, selection, preparation, pixel_sums
        self._galaxies = selection.galaxies
        self._duplicates = DuplicateFinder(selection.galaxies["split"].to_numpy())
        self._near_duplicates = NearDuplicateFinder(selection.galaxies["split"].to_numpy())
        self._drop_duplicates = drop_duplicates
        self.rejected: list[Rejection] = []
        self._counts: Counter[tuple[int, int]] = Counter()  # (split, label) -> galaxies
        self._lowest_confidence: dict[int, float] = {}  # by label
        self._channel_sums = np.zeros((2, 3), np.int64)  # of the training pixels and of their squares
        self._num_train_pixels = 0
        self._next_rank = 0
        self._buffer: list[pa.Table] = []
        self._open_key: tuple[int, int] | None = None  # (split, label) of the open file
        self._stack = ExitStack()
        self._parquet: Any = None

    @property
    def num_written(self) -> int:
        """Return the number of galaxies written so far."""
        return self._counts.total()

    def add(self, decoded: pa.Table) -> None:
        """Write rows of schema `DECODED`; a row with a reason is listed as rejected."""
        rows = self._first_of_each_rank(decoded.to_pylist())
        for row in rows:
            self._reject_skipped(row["rank"])
            self._next_rank = row["rank"] + 1
        for row in rows:
            if row["reason"] is not None:
                self._reject(row["rank"], row["path"], row["reason"], row["detail"])
        good = [row for row in rows if row["reason"] is None and not self._is_dropped(row)]
        keys = [(self._value("split", row["rank"]), self._value("label", row["rank"])) for row in good]
        for key in sorted(set(keys)):
            self._append(key, [row for row, shard in zip(good, keys, strict=True) if shard == key])

    def _is_dropped(self, row: dict[str, Any]) -> bool:
        """Return whether a row is a copy to be dropped; it is then listed as rejected."""
        original = self._duplicates.find(row["rank"], row["fingerprint"])
        if original is None:
            self._near_duplicates.remember(row["rank"], row["perceptual_hash"])
        if original is None or not self._drop_duplicates:
            self._duplicates.remember(row["rank"], row["fingerprint"])
            return False
        split, other = SPLITS[self._value("split", original)], self._value("object_id", original)
        detail = f"the {split} split has the same picture: {other}"
        self._reject(row["rank"], row["path"], "duplicate", detail)
        return True

    def close(self) -> None:
        """Write the buffered rows, the rejected galaxies and the numbers of votes."""
        try:
            self._reject_skipped(len(self._galaxies))
            self._finish_file()
        finally:
            self._stack.close()
        self.rejected += self._selection.missing
        self.rejected.sort(key=lambda row: row["object_id"])
        with self._folder.writing("rejected.parquet") as path:
            pq.write_table(pa.Table.from_pylist(self.rejected, REJECTED_SCHEMA), path)
        write_vote_totals(self._folder, self._galaxies)

    def write_summary(self, config: Config, levels: Levels | None = None) -> Summary:
        """Write and return the summary: counts, and channel statistics of training pixels.

        `levels` are those of `Summary`.

        Raises
        ------
        CatalogError
            If a class has no training galaxy, or if `curate.duplicates` rejects equal pictures.
        """
        rejected = dict(sorted(Counter(row["reason"] for row in self.rejected).items()))
        names, candidates = self._selection.tree.names, self._selection.candidates
        classes = tuple(self._class_summary(label, name, candidates[label]) for label, name in enumerate(names))
        self._check_splits(classes, getattr(config.survey, "images", config.survey))
        check_duplicates(self._duplicates, self._galaxies, config.curate.duplicates)
        near_duplicates = write_near_duplicates(self._folder, self._near_duplicates, self._galaxies)
        mean = self._channel_sums[0] / self._num_train_pixels / 255
        std = np.sqrt(np.maximum(self._channel_sums[1] / self._num_train_pixels / 255**2 - mean**2, 0))
        summary = Summary(
            survey=config.name,
            simulated=config.survey.kind == "simulated",
            image_size=self._preparation.image_size,
            crop_fraction=self._preparation.crop_fraction,
            mean=tuple(mean.tolist()),
            std=tuple(np.maximum(std, MINIMUM_STD).tolist()),
            classes=classes,
            rejected=rejected,
            aligned=self._preparation.align,
            unassigned=self._selection.unassigned,
            duplicates=self._duplicates.counts | self._duplicates.repeated()[0],
            near_duplicates=near_duplicates,
            levels=levels or {},
            tree=self._tree_of_votes(),
        )
        self._folder.write("summary.json", summary.to_json())
        return summary

    def _tree_of_votes(self) -> str:
        tree = self._selection.tree.tree
        return tree.name if tree != GZ2 and "votes" in self._galaxies.column_names else ""

    def _class_summary(self, label: int, name: str, candidates: int) -> ClassSummary:
        train, validation, test = counts = [self._counts[split, label] for split in range(len(SPLITS))]
        return ClassSummary(name, candidates, sum(counts), train, validation, test, self._lowest_confidence.get(label))

    def _check_splits(self, classes: tuple[ClassSummary, ...], images: Any) -> None:
        """Raise for a class without training galaxies; warn of one that a split lacks."""
        if empty := {label: entry.name for label, entry in enumerate(classes) if not entry.train}:
            of_empty = [row for row in self.rejected if row["label"] in empty]
            reasons = f" ({describe_rejections(of_empty)})" if of_empty else ""
            fix = "enlarge the training split, or choose other classes"
            if of_empty:
                fix = f"{fix_rejections(of_empty, images)}; {self._folder.uri}/rejected.parquet lists them"
            raise CatalogError(f"no training galaxy in: {listed([*empty.values()])}{reasons}", "curate", fix)
        for split in SPLITS[1:]:
            if absent := [entry.name for entry in classes if not getattr(entry, split)]:
                what = "curate: the %s split has no galaxy of: %s; balanced accuracy is that of the other classes"
                log.warning(what, split, listed(absent))

    def _value(self, column: str, rank: int) -> Any:
        return self._galaxies[column][rank].as_py()

    def _first_of_each_rank(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Drop later rows of a rank: a file of pictures may contain a galaxy twice."""
        first = {row["rank"]: row for row in reversed(rows) if row["rank"] >= self._next_rank}
        return [first[rank] for rank in sorted(first)]

    def _reject_skipped(self, rank: int) -> None:
        """Reject the galaxies before `rank` that did not arrive.

        A Parquet file may lack their ids.
        """
        for skipped in range(self._next_rank, rank):
            self._reject(skipped, self._value("path", skipped), "missing", "")

    def _reject(self, rank: int, source: str, reason: str, detail: str) -> None:
        object_id, label = self._value("object_id", rank), self._value("label", rank)
        self.rejected.append(rejection(object_id, source, reason, detail, label))

    def _append(self, key: tuple[int, int], rows: list[dict[str, Any]]) -> None:
        """Buffer rows of one file, and write the row groups that are full."""
        if key != self._open_key:
            self._finish_file()
            self._open_file(key)
        self._buffer.append(self._table(rows))
        self._count(key, rows)
        while sum(map(len, self._buffer)) >= ROWS_PER_GROUP:
            self._flush()

    def _count(self, key: tuple[int, int], rows: list[dict[str, Any]]) -> None:
        split, label = key
        self._counts[key] += len(rows)
        lowest = min(self._value("confidence", row["rank"]) for row in rows)
        self._lowest_confidence[label] = min(self._lowest_confidence.get(label, lowest), lowest)
        if SPLITS[split] != "train":
            return
        self._channel_sums += np.array([[row["sum"] for row in rows], [row["squares"] for row in rows]]).sum(axis=1)
        self._num_train_pixels += len(rows) * self._preparation.image_size**2
        if self._pixel_sums is not None:
            pictures = [np.asarray(Image.open(io.BytesIO(row["image"]), formats=["PNG"])) for row in rows]
            self._pixel_sums.add(torch.from_numpy(np.stack(pictures)))

    def _table(self, rows: list[dict[str, Any]]) -> pa.Table:
        kept = self._galaxies.take([row["rank"] for row in rows])
        names = self._selection.tree.names
        columns = {
            "object_id": kept["object_id"],
            "class_name": pa.array([names[label] for label in kept["label"].to_pylist()], pa.string()),
            **{name: kept[name] for name in ("ra", "dec", "petro_r90", "redshift", "confidence")},
            "votes": kept["votes"] if "votes" in kept.column_names else pa.nulls(len(kept), SCHEMA.field("votes").type),
            "source": pa.array([{"path": r["path"], "sha256": r["sha256"]} for r in rows], SCHEMA.field("source").type),
            "image": pa.array([row["image"] for row in rows], pa.binary()),
        }
        return pa.table(columns).cast(SCHEMA)

    def _open_file(self, key: tuple[int, int]) -> None:
        self._open_key = key
        path = self._stack.enter_context(self._folder.writing(partition(SPLITS[key[0]], key[1])))
        self._parquet = self._stack.enter_context(pq.ParquetWriter(path, SCHEMA, compression="zstd"))

    def _flush(self) -> None:
        """Write one row group of the buffered rows."""
        rows = pa.concat_tables(self._buffer)
        self._parquet.write_table(rows.slice(0, ROWS_PER_GROUP).combine_chunks(), row_group_size=ROWS_PER_GROUP)
        self._buffer = [rows.slice(ROWS_PER_GROUP)] if len(rows) > ROWS_PER_GROUP else []

    def _finish_file(self) -> None:
        if self._buffer:
            self._flush()
        self._stack.close()
        self._open_key = None


# Keep each galaxy's number of votes beside a curated set: `vote_totals.parquet`.
#
# It exists only where the survey's table has numbers of votes. With the fractions of the curated set
# it gives counts (`galaxies.votes.vote_counts`).

VOTE_TOTALS = "vote_totals.parquet"  # object_id, total_votes: float64, the answers to all questions


def write_vote_totals(folder: Folder, galaxies: pa.Table) -> None:
    """Write the totals of galaxies, sorted by object id; nothing if none is known."""
    if "votes" not in galaxies.column_names or galaxies["total_votes"].null_count == len(galaxies):
        return
    totals = galaxies.select(["object_id", "total_votes"]).filter(pc.is_valid(galaxies["total_votes"]))
    write_table(folder, VOTE_TOTALS, totals.sort_by("object_id").combine_chunks())


def load_vote_totals(curated: CuratedSet, split: Split) -> np.ndarray:
    """Return votes on all questions per galaxy, float64 [N]; NaN where unknown."""
    ids = curated.table(split, ["object_id"])["object_id"].to_pylist()
    if VOTE_TOTALS not in curated.manifest.files:
        return np.full(len(ids), np.nan)
    known = dict(zip(*(column.to_pylist() for column in read_table(curated.folder, VOTE_TOTALS).columns), strict=True))
    return np.array([known.get(object_id, np.nan) for object_id in ids], np.float64)


def load_vote_counts(curated: CuratedSet, split: Split, tree: DecisionTree) -> np.ndarray:
    """Return the number of votes for each answer of the tree, float64 [N, A].

    Rows are in the order of `CuratedSet.load`.
    """
    fractions = votes_array(curated.table(split, ["votes"]), tree)
    return vote_counts(fractions, load_vote_totals(curated, split), tree)
