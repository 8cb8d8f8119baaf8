"""curate: write pictures and labels of the selected galaxies for all later stages.

    driver    -> vote table or data set: classes, confidences, the best of each class  {rank, path}
    Ray tasks -> a filter of damaged pictures, if requested (`filter_training`)
    Ray Data  -> decode, check, crop, resize, encode: one row in, one row out
                 {rank, image | reason}
    driver    -> one Parquet file per split and class, in order of rank, a row group at a time
    driver    -> whitening of the training pixels, if requested, from sums of the streamed pixels

A picture that cannot be used does not fail its block: its row carries a reason, and
`rejected.parquet` lists it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.artifacts.tables import decode_images
from raydistill.artifacts.tensors import write_whitening
from raydistill.config import Config, Images
from raydistill.datasets.base import DataSet
from raydistill.escaping import for_markdown, markdown_table
from raydistill.figures.image_grids import image_grid
from raydistill.galaxies.selection import SPLITS
from raydistill.learning.normalise import PixelSums, Whitening
from raydistill.log import get_logger, progress
from raydistill.pipeline.checks import warn_of_few_training
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.runtime.failures import translate_errors
from raydistill.runtime.resources import ensure_schedulable
from raydistill.runtime.stages import is_complete, save_figure, stage_context, tracked_run
from raydistill.stages.curate.artifact import NEAR_DUPLICATES, CuratedSet, partition
from raydistill.stages.curate.decoding import decode, raise_read_error
from raydistill.stages.curate.filter import training as filter_training
from raydistill.stages.curate.filter.network import one_thread
from raydistill.stages.curate.select.selection import Selection, select_galaxies
from raydistill.stages.curate.summary import Levels, Summary, log_existing, log_summary
from raydistill.stages.curate.writer import CuratedWriter
from raydistill.storage import Folder, disk_errors
from raydistill.surveys.levels import LevelChecks, chosen_levels, resolve_levels
from raydistill.surveys.survey import Preparation
from raydistill.tracking.tracker import Run, Tracker

log = get_logger(__name__)


def curate(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> CuratedSet:
    """Write the curated set of the plan, or open the existing one.

    Raises
    ------
    ConfigError
        If the settings do not fit the survey.
    CatalogError
        If the survey cannot be read, or a class has no training galaxy.
    """
    config, spec = plan.config, plan.curated
    if is_complete(spec):
        log_existing(spec.folder)
        return CuratedSet.open(spec.folder)
    survey = plan.user_survey()
    selection = select_galaxies(config.curate, survey, plan.truth)  # raises errors of tables before a cluster starts
    filter_training.check_filter(config.curate.filter, selection.galaxies)
    train = selection.class_counts(SPLITS.index("train"))
    warn_of_few_training(train, config.distill, "curate")
    configured = survey if isinstance(survey, DataSet) else survey.images
    images = resolve_levels(configured, selection.galaxies)
    levels = chosen_levels(configured, images)
    with stage_context(plan), tracked_run(plan, spec, tracker, parent_run) as run:
        summary = _write(config, images, levels, selection, spec.folder)
        log_summary(summary)
        record_summary(summary, spec, run)
    return CuratedSet.open(spec.folder)


def _write(config: Config, images: Images | DataSet, levels: Levels, selection: Selection, folder: Folder) -> Summary:
    """Write the files of the curated set, and return its summary."""
    recipe, preparation = config.curate, Preparation.of(config.curate, images)
    num_pixels = 3 * preparation.image_size**2
    for name in ("data", NEAR_DUPLICATES):  # of an interrupted attempt, whose pictures may have been others
        folder.remove(name)
    pixel_sums = PixelSums(num_pixels) if recipe.whitening is not None else None
    writer = CuratedWriter(folder, selection, preparation, pixel_sums, recipe.duplicates == "drop")
    checks = LevelChecks()
    with disk_errors(folder.uri):
        with translate_errors("curate"):
            trained = filter_training.train(config, images, selection.galaxies, folder)
        with progress(len(selection.galaxies), "curating", "pictures") as shown, translate_errors("curate"):
            ensure_schedulable(replace(config.resources, cpus=1, gpus=0))
            for decoded in decode(images, selection.galaxies, recipe, config.resources.workers, trained):
                raise_read_error(decoded, images, started=bool(writer.num_written))
                writer.add(decoded)
                checks.add(decoded)
                shown.advance(len(decoded), rejected=len(writer.rejected))
        writer.close()
    checks.warn(images)
    summary = writer.write_summary(config, levels)
    if pixel_sums is not None:
        log.info("curate: computing the whitening matrix, %d x %d", num_pixels, num_pixels)
        write_whitening(folder, _whitening(pixel_sums, recipe.whitening_eps))
    return summary


def _whitening(pixel_sums: PixelSums, eps: float) -> Whitening:
    """Compute the whitening on one thread: the thread count changes its last bits."""
    with one_thread():
        return pixel_sums.whitening(eps)


# Report a curation in MLflow: counts, a note and pictures.

EXAMPLES = "examples.png"
PER_CLASS = 10  # pictures


def record_summary(summary: Summary, spec: ArtifactSpec, run: Run) -> None:
    """Draw pictures of each class into the artifact; record them, counts and a note."""
    run.metrics({f"kept/{c.name}": c.kept for c in summary.classes}, 0)
    run.metrics({f"rejected/{reason}": count for reason, count in summary.rejected.items()}, 0)
    run.note(_note(summary, spec.folder))
    if any(entry.train for entry in summary.classes):
        save_figure(spec, run, EXAMPLES, lambda path: _draw_examples(path, summary, spec.folder))


def _note(summary: Summary, folder: Folder) -> str:
    head = ("class", "candidates", "kept", "train", "validation", "test")
    classes = [(c.name, c.candidates, c.kept, c.train, c.validation, c.test) for c in summary.classes]
    parts = [
        f"Galaxies of **{for_markdown(summary.survey)}**, {summary.image_size} pixels wide.",
        markdown_table([head, *classes]),
    ]
    parts += _counts("rejected pictures", summary.rejected, "No picture was rejected.")
    parts += _counts("rows of the survey without a class", summary.unassigned, "")
    parts.append(f"Pictures of each class: `{EXAMPLES}` below Artifacts. Files: `{folder}`")
    return "\n\n".join(parts)


def _counts(title: str, counts: Mapping[str, int], without: str) -> list[str]:
    """Return a table of the counts above 0 by reason, or the text for no such counts."""
    if rows := [(reason, count) for reason, count in counts.items() if count]:
        return [markdown_table([(title, "number"), *rows])]
    return [without] if without else []


def _draw_examples(path: Path, summary: Summary, folder: Folder) -> None:
    """Draw the first training pictures of each class.

    The order of their ids is that of no property.
    """
    images, labels = [], []
    for label, entry in enumerate(summary.classes):
        if entry.train:
            with folder.open(partition("train", label)) as source:
                batch = next(
                    pq.ParquetFile(source, pre_buffer=False).iter_batches(
                        PER_CLASS, columns=["image"], use_threads=False
                    )
                )
            images.append(decode_images(pa.chunked_array([batch["image"]]), summary.image_size).numpy())
            labels += [label] * len(batch)
    names = [entry.name for entry in summary.classes]
    image_grid(np.concatenate(images), np.array(labels), names, path, columns=PER_CLASS)
