"""Merge finished blocks into a synthetic set, and describe it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.artifacts.tables import decode_images, unpack_table
from raydistill.figures.image_grids import image_grid
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.runtime.stages import save_figure
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.sample.artifact import NO_CLASS, SCHEMA, SyntheticClass, SyntheticSummary, partition
from raydistill.stages.sample.sources.kinds import OpenedSource
from raydistill.stages.sample.sources.requests import Block, PoolProgress, Requests
from raydistill.storage import Folder, checked
from raydistill.tracking.tracker import Run

# Describe a synthetic set: its summary, a grid of its pictures, and log lines.

log = get_logger(__name__)

GRID_COLUMNS = 10
GRID_IMAGES = 20  # of each class


def summarise(
    plan: Plan,
    curated: CuratedSet,
    source: OpenedSource,
    classes: dict[int, SyntheticClass],
) -> SyntheticSummary:
    """Return the summary of a set, with the counts of each class by label."""
    config, survey = plan.config.sample, curated.summary
    return SyntheticSummary(
        **survey.origin,
        mean=survey.mean,
        std=survey.std,
        tree=survey.tree,
        classes=tuple(entry for label, entry in sorted(classes.items()) if label != NO_CLASS),
        unlabelled=classes[NO_CLASS],
        generator=source.generator,
        condition=source.condition,
        guidance=None if source.sampling is None else source.sampling.guidance,
        steps=None if source.sampling is None else source.sampling.steps,
        seed=config.seed,
        min_probability=None if config.filter is None else config.filter.min_probability,
        source=source.description,
    )


def draw_grid(plan: Plan, summary: SyntheticSummary, run: Run) -> None:
    """Draw the first samples of each class under a title that calls them synthetic."""
    entries = [(label, class_.name) for label, class_ in enumerate(summary.classes) if class_.kept]
    entries += [(NO_CLASS, "no class")] if summary.unlabelled.kept else []
    if not entries:
        return
    firsts = [_first_images(plan.synthetic.folder, label, summary.image_size) for label, _ in entries]
    rows = np.repeat(np.arange(len(entries)), [len(images) for images in firsts])
    heading, caption = describe_source(summary)

    def draw(path: Path) -> None:
        names = [name for _, name in entries]
        image_grid(np.concatenate(firsts), rows, names, path, columns=GRID_COLUMNS, caption=caption, heading=heading)

    save_figure(plan.synthetic, run, "grid.png", draw)


def describe_source(summary: SyntheticSummary) -> tuple[str, str]:
    """Return a heading on how the pictures were made, and a caption with parameters."""
    seed, kind = f"seed {summary.seed}", summary.source["kind"]
    if kind == "injection":
        model = summary.source["model"]["kind"].replace("_", " ")
        return f"synthetic galaxies: {model} injected into galaxies of {summary.survey}", seed
    if kind == "recombination":
        return f"synthetic galaxies: parts of galaxies of {summary.survey}, put together anew", seed
    if kind == "simulator":
        return "synthetic galaxies, simulated and not observed", seed
    heading = f"synthetic galaxies, sampled and not observed (trained on {summary.survey})"
    return heading, f"guidance {summary.guidance:g}   ·   {seed}   ·   generator {str(summary.generator)[:12]}"


def _first_images(folder: Folder, label: int, size: int) -> np.ndarray:
    """Return the first images of a class, uint8 [n, H, W, 3]."""
    with folder.open(partition(label)) as source:
        batches = pq.ParquetFile(source, pre_buffer=False).iter_batches(
            GRID_IMAGES, columns=["image"], use_threads=False
        )
        return np.asarray(decode_images(pa.Table.from_batches([next(batches)])["image"], size))


def log_summary(summary: SyntheticSummary, run: Run) -> None:
    """Log and record how many samples of each class were kept."""
    entries = [
        *summary.classes,
        *([replace(summary.unlabelled, name="no class")] if summary.unlabelled.sampled else []),
    ]
    width = max(5, *(len(entry.name) for entry in entries))
    log.info("%-*s %8s %8s %8s", width, "class", "sampled", "kept", "share")
    for entry in entries:
        share = "-" if entry.share is None else f"{entry.share:.3f}"
        log.info("%-*s %8d %8d %8s", width, entry.name, entry.sampled, entry.kept, share)
    run.metrics({f"sampled/{entry.name}": entry.sampled for entry in entries}, 0)
    run.metrics({f"kept/{entry.name}": entry.kept for entry in entries}, 0)
    if summary.min_probability is not None:
        run.metrics({f"share/{entry.name}": entry.share for entry in entries if entry.share is not None}, 0)


# Merge the files of finished blocks into a synthetic set: one file per class.

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
            of_class = rows.filter(pa.array(labels == label)).select(SCHEMA.names)
            if label not in self._files:
                path = self._stack.enter_context(self._folder.writing(partition(label)))
                self._files[label] = self._stack.enter_context(pq.ParquetWriter(path, SCHEMA, compression="zstd"))
            self._buffers.setdefault(label, []).append(of_class)
            self.kept[label] = self.kept.get(label, 0) + len(of_class)
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
        for pool, state in enumerate(progress):
            last = -1
            for rows in _kept_rows(blocks, pool, state):
                writer.add(rows)
                last = rows["index"][-1].as_py()
            needed = last // len(progress) + 1 if state.total_kept == state.wanted else state.num_sampled
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
