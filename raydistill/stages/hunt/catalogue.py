"""Write the labelled objects of a hunt as a catalogue."""

from __future__ import annotations

import io
import math

import numpy as np

from raydistill.escaping import for_terminal
from raydistill.figures.drawing import Target
from raydistill.figures.image_grids import image_grid
from raydistill.stages.hunt.artifact import RoundSummary
from raydistill.stages.hunt.inputs.labels import FILENAME, LABEL, KnownLabels, match_files
from raydistill.stages.hunt.inputs.survey import HuntedSurvey
from raydistill.stages.hunt.learn.ranking import Reason
from raydistill.statistics.intervals import wilson

SHOWN = 50  # finds in the picture
UCDS = {"object_id": "meta.id;meta.main", "label": "meta.code.class", "score": "stat.probability"}


def catalogue_table(survey: HuntedSurvey, known: KnownLabels) -> list[dict[str, object]]:
    """Return a row for each labelled object.

    Finds come first, then high scores. The score is that with which the object was shown, so before its own label was known; NaN for a
    label without one. `in_class` says whether the label is of the target class.
    """
    positive, ids = dict(zip(known.rows.tolist(), known.positive.tolist(), strict=True)), survey.ids
    rows: dict[int, dict[str, object]] = {}
    names = [row[FILENAME] for row in known.file.rows]
    for row, values in zip(match_files(names, ids, survey.paths, known.file.where), known.file.rows, strict=True):
        rows.setdefault(
            row,
            {
                "object_id": ids[row], "filename": values[FILENAME], "label": values[LABEL], "in_class": positive[row],
                "score": _number(values.get("score", "")), "reason": values.get("reason", ""),
            },
        )  # fmt: skip

    def key(row: dict[str, object]) -> tuple[bool, float, object]:
        score = float(str(row["score"]))
        return not row["in_class"], -score if score == score else math.inf, row["object_id"]

    return sorted(rows.values(), key=key)


def purity_counts(rows: list[dict[str, object]]) -> tuple[int, int]:
    """Return the finds among objects of a high score, and these objects' number."""
    shown = [row["in_class"] for row in rows if row["reason"] == Reason.HIGH_SCORE.value]
    return sum(map(bool, shown)), len(shown)


def to_votable(rows: list[dict[str, object]], summary: RoundSummary) -> bytes:
    """Return the catalogue as a VOTable 1.4, with the purity as PARAMs."""
    from astropy.io.votable import from_table
    from astropy.io.votable.tree import Param
    from astropy.table import Table

    columns = {name: [_text(row[name]) for row in rows] for name in ("object_id", "filename", "label", "reason")}
    table = Table(columns, names=list(columns), dtype=["U"] * len(columns))
    table.add_column(np.array([row["in_class"] for row in rows], bool), 3, "in_class")
    table.add_column(np.array([row["score"] for row in rows], np.float64), 4, "score")
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


def draw_finds(path: Target, survey: HuntedSurvey, rows: list[dict[str, object]], size: int, target: str) -> None:
    """Draw the pictures of the first finds in the order of the catalogue."""
    places = {name: place for place, name in enumerate(survey.ids)}
    found = [row for row in rows if row["in_class"]]
    pictures = survey.pictures.larger([places[str(row["object_id"])] for row in found[:SHOWN]], size)
    images = np.stack(
        [picture if len(picture) == size else np.zeros((size, size, 3), np.uint8) for picture in pictures]
    )
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
