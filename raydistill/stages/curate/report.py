"""Report a curation in MLflow: counts, a note and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.artifacts.tables import decode_images
from raydistill.escaping import for_markdown, markdown_table
from raydistill.figures.image_grids import image_grid
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.runtime.stages import save_figure
from raydistill.stages.curate.artifact import partition
from raydistill.stages.curate.summary import Summary
from raydistill.storage import Folder
from raydistill.tracking.tracker import Run

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
