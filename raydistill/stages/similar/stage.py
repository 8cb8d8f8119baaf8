"""similar: find the nearest galaxies in the features of a survey, and show them.

The vectors of a survey are written once, beside its predictions, and serve every later search.
"""

from __future__ import annotations

import shlex
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydistill.artifacts.tables import write_rows
from raydistill.figures.image_grids import image_grid, of_one_size
from raydistill.figures.pages import Pixels, picture, render
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.runtime.stages import is_complete, save_figure, stage_context, tracked_run
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.predict.artifact import open_predictions
from raydistill.stages.pretrain.config import EXPERTS
from raydistill.stages.similar.artifact import (
    NEIGHBOURS,
    NEIGHBOURS_SCHEMA,
    PICTURE,
    SHEET,
    SUMMARY,
    SimilarSheet,
    SimilarSummary,
)
from raydistill.stages.similar.vectors import Vectors
from raydistill.surveys.levels import assume_levels
from raydistill.surveys.opening import open_survey
from raydistill.tracking.tracker import Tracker

log = get_logger(__name__)


def similar(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> SimilarSheet:
    """Write the sheet of the galaxies of the config, or open the existing one.

    Raises
    ------
    ArtifactMissing
        The survey has no predictions yet.
    ArtifactIncompatible
        They have no features.
    ConfigError
        No galaxy is named, or one that the survey does not have.
    """
    from raydistill.stages.similar.artifact import similar_spec

    spec = similar_spec(plan)
    if not is_complete(spec):
        curated = CuratedSet.open(plan.curated.folder)
        with stage_context(plan), tracked_run(plan, spec, tracker, parent_run, curated) as run:
            _write(plan, spec, curated, run)
    return SimilarSheet.open(spec.folder)


def _write(plan: Plan, spec: Any, curated: CuratedSet, run: Any) -> None:
    """Search, and write the files of the sheet."""
    config = plan.config.similar
    searched = plan.config.searched(config.survey)
    pictures = open_survey(plan, searched)
    predictions = open_predictions(plan, pictures, searched, verify=False)
    vectors = Vectors.open(plan.root / f"vectors-{predictions.manifest.identity[:12]}", predictions)
    like, unlike = config.ids("more"), config.ids("less")
    more, less = vectors.rows(like, "similar.more"), vectors.rows(unlike, "similar.less")
    rows, similarities = vectors.nearest(more, less, config.less_weight, config.count)
    ids = vectors.ids.take(pa.array(rows)).to_pylist()
    pictures, _ = assume_levels(pictures, curated.summary.levels)
    shown = [*like, *unlike, *ids]
    places = pc.index_in(pa.array(shown, pa.string()), pictures.objects["object_id"].combine_chunks()).to_pylist()
    pixels = pictures.larger(places, config.picture_size)
    paths = pictures.paths(places)
    first = len(shown) - len(ids)
    table = [
        {"rank": n + 1, "object_id": name, "similarity": float(value), "path": path}
        for n, (name, value, path) in enumerate(zip(ids, similarities, paths[first:], strict=True))
    ]
    write_rows(spec.folder, NEIGHBOURS, table, NEIGHBOURS_SCHEMA)
    described_by = EXPERTS if plan.config.features == EXPERTS else plan.describer.folder.uri
    summary = SimilarSummary(
        pictures.name, like, unlike, described_by, len(vectors.ids), vectors.vectors_NF.shape[1], len(ids)
    )
    spec.folder.write(SUMMARY, summary.to_json())
    spec.folder.write(SHEET, sheet(summary, pixels, table).encode())
    sizes = {"like": len(like), "unlike": len(unlike), "nearest": len(ids)}
    sizes = {name: size for name, size in sizes.items() if size}
    groups = np.repeat(range(len(sizes)), list(sizes.values()))
    images = np.stack(of_one_size(pixels))
    caption = f"{summary.num_objects} galaxies of {pictures.name}"
    save_figure(
        spec, run, PICTURE, lambda path: image_grid(images, groups, list(sizes), path, columns=8, caption=caption)
    )
    best = float(similarities[0]) if len(ids) else float("nan")
    log.info("similar: %d of %d galaxies; similarity of the nearest %.3f", len(ids), len(vectors.ids), best)


def sheet(summary: SimilarSummary, pixels: list[Pixels], table: list[dict[str, Any]]) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    summary
        The search.
    pixels
        Pictures uint8 [H, W, 3]: those of `more`, of `less`, and of the table.
    table
        The nearest galaxies.
    """
    given = [(name, "like this") for name in summary.more] + [(name, "unlike this") for name in summary.less]
    near = [(row["object_id"], f"{row['rank']}. similarity {row['similarity']:.3f}") for row in table]
    cells = [
        {"id": name, "why": why, "word": shlex.quote(name), "picture": picture(image, "")}
        for (name, why), image in zip([*given, *near], pixels, strict=True)
    ]
    return render(
        "similar.html",
        title=f"Galaxies like {', '.join(summary.more)}"[:120],
        survey=summary.survey,
        total=summary.num_objects,
        given=cells[: len(given)],
        near=cells[len(given) :],
        more=list(summary.more),
        less=list(summary.less),
    )
