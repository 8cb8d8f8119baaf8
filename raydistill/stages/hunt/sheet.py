"""Write the contact sheet: a page on which a person labels a round's candidates.

The page is one file, needs no network, and is driven by the keyboard. The browser keeps the labels,
so a sheet can be left and resumed. It saves all labels, those of earlier rounds too, as one CSV.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raydistill.figures.pages import picture, render
from raydistill.stages.hunt.science.labels import GRADES, WORDS, LabelFile
from raydistill.stages.hunt.science.ranking import Reason

Pixels = npt.NDArray[np.uint8]

EXPLANATIONS = {
    Reason.HIGH_SCORE: "high score",
    Reason.UNCERTAIN: "uncertain",
    Reason.DIVERSE: "diverse: unlike the others",
    Reason.RANDOM: "random: exploration",
}


@dataclass(frozen=True)
class SheetCandidate:
    """A candidate on a contact sheet.

    Attributes
    ----------
    filename
        Its name in the CSV.
    pixels_HWC
        Its picture, uint8 [H, W, 3].
    score
        Probability of the wanted kind; NaN: nothing could be learnt yet.
    reason
        Why it is shown.
    """

    filename: str
    pixels_HWC: Pixels
    score: float
    reason: Reason

    @property
    def shown_score(self) -> str:
        """Return the score with three decimals, or "" without one."""
        return "" if math.isnan(self.score) else f"{self.score:.3f}"

    @property
    def why(self) -> str:
        """Return the reason and the score in words."""
        return EXPLANATIONS[self.reason] + (f" ({self.shown_score})" if self.shown_score else "")


def contact_sheet(
    candidates: Sequence[SheetCandidate],
    labels: LabelFile,
    *,
    survey: str,
    target: str,
    round_number: int,
    threshold: int,
    store: str,
    synthetics: str = "",
) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    candidates
        The candidates, in the order in which they are shown.
    labels
        Labels of earlier rounds; new ones follow in the same form.
    survey
        Name of the survey.
    target
        Name of the wanted kind, such as "dust lane".
    round_number
        Number of the round, from 1.
    threshold
        Smallest grade from 1 to 5 of a wanted object.
    store
        Key under which the browser keeps the labels; other for each round.
    synthetics
        A sentence about synthetic examples, or "".
    """
    grades = labels.scale == "1-5"
    words = GRADES if grades else WORDS[labels.scale]
    question = f"Does it show: {target}? "
    question += f"Grades of {threshold} or more count as found." if grades else ""
    return render(
        "contact_sheet.html",
        title=f"Round {round_number}: {target}",
        survey=survey,
        question=question,
        synthetics=synthetics,
        candidates=[
            {"filename": one.filename, "why": one.why, "picture": picture(one.pixels_HWC, "")} for one in candidates
        ],
        rows=[
            {"filename": one.filename, "why": one.why, "reason": one.reason.value, "score": one.shown_score}
            for one in candidates
        ],
        grades=grades,
        words=list(words),
        shown=list(words) if grades else [f"not {target}", target],
        wanted=[grade for grade in GRADES if int(grade) >= threshold] if grades else [words[1]],
        keys=list(GRADES) if grades else ["n", "y"],
        columns=list(labels.columns),
        before=labels.text,
        line_end=labels.line_end,
        store=f"raydistill-hunt-{store}",
        round=round_number,
    )
