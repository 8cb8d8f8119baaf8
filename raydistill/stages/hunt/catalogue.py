"""Write the labelled objects of a hunt as a catalogue."""

from __future__ import annotations

import io
import math
from typing import NamedTuple

import numpy as np

from raydistill.escaping import for_terminal
from raydistill.figures.drawing import Target
from raydistill.figures.image_grids import image_grid, of_one_size
from raydistill.stages.hunt.artifact import RoundSummary
from raydistill.stages.hunt.inputs.labels import FILENAME, LABEL, KnownLabels
from raydistill.stages.hunt.inputs.survey import HuntedSurvey
from raydistill.stages.hunt.learn.ranking import Reason
from raydistill.statistics.intervals import wilson

SHOWN = 50  # finds in the picture
UCDS = {"object_id": "meta.id;meta.main", "label": "meta.code.class", "score": "stat.probability"}


class Labelled(NamedTuple):
    """A labelled object.

    Attributes
    ----------
    row
        Its row in the survey.
    object_id, filename, label, reason
        Its id, and what the file of labels says; "" for what it does not say.
    in_class
        Whether the label is of the target class.
    score
        With which it was shown, so before its own label was known; NaN without one.
    """

    row: int
    object_id: str
    filename: str
    label: str
    in_class: bool
    score: float
    reason: str


def catalogue_table(survey: HuntedSurvey, known: KnownLabels) -> list[Labelled]:
    """Return the labelled objects: finds first, then by falling score, then by id."""
    positive, ids = dict(zip(known.rows.tolist(), known.positive.tolist(), strict=True)), survey.ids
    rows: dict[int, Labelled] = {}
    for values in known.file.rows:
        row, score = known.row_of[values[FILENAME]], _number(values.get("score", ""))
        texts = values[FILENAME], values[LABEL]
        rows.setdefault(row, Labelled(row, ids[row], *texts, positive[row], score, values.get("reason", "")))
    return sorted(
        rows.values(),
        key=lambda row: (not row.in_class, math.inf if math.isnan(row.score) else -row.score, row.object_id),
    )


def purity_counts(rows: list[Labelled]) -> tuple[int, int]:
    """Return the finds among objects of a high score, and these objects' number."""
    shown = [row.in_class for row in rows if row.reason == Reason.HIGH_SCORE.value]
    return sum(shown), len(shown)


def to_votable(rows: list[Labelled], summary: RoundSummary) -> bytes:
    """Return the catalogue as a VOTable 1.4, with the purity as PARAMs."""
    from astropy.io.votable import from_table
    from astropy.io.votable.tree import Param
    from astropy.table import Table

    columns = {
        name: [_text(getattr(row, name)) for row in rows] for name in ("object_id", "filename", "label", "reason")
    }
    table = Table(columns, names=list(columns), dtype=["U"] * len(columns))
    table.add_column(np.array([row.in_class for row in rows], bool), 3, "in_class")
    table.add_column(np.array([row.score for row in rows], np.float64), 4, "score")
    table["score"].description = "probability of the target class, before the label was known"
    table["label"].description = f"by a person who looked at the picture: {summary.scale}"
    document = from_table(table)
    for field in document.get_first_table().fields:
        field.ucd = UCDS.get(field.name)
    document.description = _text(f"{summary.target}: objects of {summary.survey} that a person has labelled")
    (resource,) = document.resources
    purity = wilson(summary.high_found, summary.high_shown)
    for name, value in (("purity", purity.value), ("purity_low", purity.low), ("purity_high", purity.high)):
        resource.params.append(Param(document, ID=name, name=name, datatype="double", value=value))
    for name, count in (("found", summary.high_found), ("shown", summary.high_shown)):
        resource.params.append(Param(document, ID=name, name=f"high scores {name}", datatype="int", value=count))
    written = io.BytesIO()
    document.to_xml(written)
    return written.getvalue()


def draw_finds(path: Target, survey: HuntedSurvey, rows: list[Labelled], size: int, target: str) -> None:
    """Draw the pictures of the first finds in the order of the catalogue."""
    found = [row for row in rows if row.in_class]
    images = np.stack(of_one_size(survey.pictures.larger([row.row for row in found[:SHOWN]], size)))
    caption = f"{len(found)} objects of {survey.pictures.name} labelled as {target}; by falling score"
    image_grid(images, np.zeros(len(images), np.int64), [""], path, columns=10, caption=_text(caption))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _text(value: object) -> str:
    """Return text that XML can hold."""
    return for_terminal(str(value)).replace("\ufffe", "").replace("\uffff", "")
