"""Write the page of an analysis: its sections, in one file that needs no network."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import numpy as np
import numpy.typing as npt

from raydistill.figures.pages import Picture, picture, render
from raydistill.stages.analyse.sections import FigureRecord, SectionRecord, Statement, html_file
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.stages.distill.counts import amount, mosaic
from raydistill.statistics.testing import SIGNIFICANCE
from raydistill.storage import Folder
from raydistill.text import format_number, survey_adjective

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
        amount=amount(distilled.counts),
        num_classes=curated.num_classes,
        num_galaxies=curated.summary.num_train,
        iteration=distilled.selected.iteration,
        content=distilled.manifest.content[:12],
        aligned=curated.summary.aligned,
        level=SIGNIFICANCE,
        shown=SHOWN,
        unfolded=UNFOLDED,
        sections=sections,
        bodies={section.key: folder.read(html_file(section.key)).decode() for section in sections if section.has_html},
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


# Write the gallery: prototypes beside class means and nearest real galaxies.
#
# A slider shows the prototypes during the distillation, and two lists choose classes whose prototypes
# are subtracted. Everything is inside the page; links to survey viewers are followed on request only.

Pixels = npt.NDArray[np.uint8]
MAX_BYTES = 8_000_000  # of the frames of a page: fewer of them where images are large


@dataclass(frozen=True)
class Neighbour:
    """A real galaxy near a prototype.

    Attributes
    ----------
    picture
        Its picture.
    object_id
        Its id.
    class_name
        Its class.
    distance
        Root mean square difference of pixel values in [0, 1], for the best flip or turn.
    votes
        The volunteers' answers, in words; empty without votes.
    links
        Addresses of survey viewers, by name; empty without coordinates.
    """

    picture: Picture
    object_id: str
    class_name: str
    distance: str
    votes: list[str]
    links: dict[str, str]


@dataclass(frozen=True)
class GalleryRow:
    """The pictures of one class: its mean, and the neighbours of its first prototype."""

    name: str
    num_galaxies: int  # training galaxies of the class
    mean: Picture
    neighbour_mean: Picture
    neighbours: list[Neighbour]


def survey_links(ra: float | None, dec: float | None) -> dict[str, str]:
    """Return the addresses of viewers that show a position.

    Parameters
    ----------
    ra, dec
        Position in degrees (ICRS); None where unknown.
    """
    if ra is None or dec is None or not np.isfinite([ra, dec]).all():
        return {}
    place = {"ra": f"{ra:.6f}", "dec": f"{dec:.6f}"}
    return {
        "SDSS": f"https://skyserver.sdss.org/dr18/VisualTools/navi?{urlencode({**place, 'scale': '0.2'})}",
        "Legacy Surveys": f"https://www.legacysurvey.org/viewer?{urlencode({**place, 'layer': 'ls-dr10', 'zoom': '15'})}",
    }


def gallery(rows: Sequence[GalleryRow], counts: Sequence[int], frames: Mapping[int, Pixels]) -> str:
    """Return the gallery as a part of a page.

    Parameters
    ----------
    rows
        The classes, in order.
    counts
        Number of prototypes of each class.
    frames
        Images uint8 [S, H, W, 3] by iteration, sorted by class; the last one is the published set.
    """
    mosaics = [(number, picture(mosaic(frames[number], counts), "")) for number in sorted(frames)]
    return render("gallery.html", rows=rows, counts=counts, frames=thin(mosaics))


def thin(mosaics: list[tuple[int, Picture]]) -> list[tuple[int, Picture]]:
    """Return evenly spaced frames of about `MAX_BYTES`, with the first and last."""
    size = sum(len(mosaic.uri) for _, mosaic in mosaics)
    count = max(2, int(len(mosaics) * MAX_BYTES / size)) if size > MAX_BYTES else len(mosaics)
    if count >= len(mosaics):
        return mosaics
    return [mosaics[round(position)] for position in np.linspace(0, len(mosaics) - 1, count)]


# Write sliders: galaxies generated from the same noise, with one vote changed.


@dataclass(frozen=True)
class Slider:
    """Galaxies of which one answer is changed.

    Attributes
    ----------
    answer
        The answer.
    accepted, total
        Number of galaxies whose change the held-out classifier accepts, and of all.
    galaxies
        For each shown galaxy its pictures, one for each fraction.
    """

    answer: str
    accepted: int
    total: int
    galaxies: Sequence[Sequence[Picture]]


def sliders(fractions: Sequence[float], groups: Sequence[Slider]) -> str:
    """Return HTML with a slider for each answer.

    Parameters
    ----------
    fractions
        The fractions of the answer, by step.
    groups
        The answers.
    """
    return render("counterfactuals.html", fractions=fractions, groups=groups)
