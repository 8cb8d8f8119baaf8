"""Describe a synthetic set: its summary, a grid of its pictures, and log lines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.artifacts.tables import decode_images
from raydistill.figures.image_grids import image_grid
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.runtime.stages import save_figure
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.sample.artifact import NO_CLASS, SyntheticClass, SyntheticSummary, partition
from raydistill.stages.sample.opening import OpenedSource
from raydistill.storage import Folder
from raydistill.tracking.tracker import Run

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
    config, own = plan.config.sample, curated.summary
    return SyntheticSummary(
        survey=own.survey,
        simulated=own.simulated,
        image_size=own.image_size,
        crop_fraction=own.crop_fraction,
        aligned=own.aligned,
        mean=own.mean,
        std=own.std,
        tree=own.tree,
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
    entries = [(label, one.name) for label, one in enumerate(summary.classes) if one.kept]
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
