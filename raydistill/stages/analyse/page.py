"""Write the page of an analysis: its sections, in one file that needs no network."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import Any

from raydistill.figures.pages import render
from raydistill.stages.analyse.sections import SIGNIFICANCE, FigureRecord, SectionRecord, Statement, html_file
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.summary import survey_adjective
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.storage import Folder
from raydistill.text import format_number

MAX_VECTOR = 400_000  # bytes: a larger figure is shown as PNG
SHOWN = 5  # significant statements of a section in the summary
UNFOLDED = 12  # rows: a longer table is folded


def analysis_page(
    folder: Folder, curated: CuratedSet, distilled: DistilledSet, sections: Sequence[SectionRecord]
) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    folder
        Where the files of the sections are.
    curated, distilled
        The real galaxies and the prototypes.
    sections
        In the order of the page.
    """
    return render(
        "analysis.html",
        survey=curated.summary.survey,
        adjective=survey_adjective(curated.summary.simulated),
        image_size=curated.summary.image_size,
        ipc=distilled.images_per_class,
        num_classes=curated.num_classes,
        num_galaxies=curated.summary.num_train,
        iteration=distilled.selected.iteration,
        content=distilled.manifest.content[:12],
        aligned=curated.summary.aligned,
        level=SIGNIFICANCE,
        shown=SHOWN,
        unfolded=UNFOLDED,
        sections=sections,
        bodies={one.key: folder.read(html_file(one.key)).decode() for one in sections if one.has_html},
        embed=lambda figure: embed(folder, figure),
        describe=describe,
        cell=cell,
    )


def embed(folder: Folder, figure: FigureRecord) -> str:
    """Return a figure as a data URI: the SVG, or the PNG if the SVG is too large."""
    vector = folder.read(figure.svg)
    kind, content = ("svg+xml", vector) if len(vector) <= MAX_VECTOR else ("png", folder.read(figure.png))
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def describe(statement: Statement) -> str:
    """Return the numbers of a statement: value, 95 % interval, n and p."""
    parts = []
    if math.isfinite(statement.value):
        parts.append(format_number(statement.value))
        if math.isfinite(statement.low) and math.isfinite(statement.high):
            parts.append(f"[{format_number(statement.low)}, {format_number(statement.high)}]")
    parts.append(f"n = {statement.n}")
    if statement.p_value is not None:
        parts.append(f"p = {statement.p_value:.3f}" if statement.p_value >= 0.001 else "p < 0.001")
    return ", ".join(parts)


def cell(value: Any) -> str:
    """Return a cell of a table as text."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return format_number(value) if isinstance(value, float) else str(value)
