"""Write the quiz: a page that shows pictures one by one, and scores the reader."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from raydistill.figures.pages import picture, render
from raydistill.stages.audit.artifact import AuditSummary

Pixels = npt.NDArray[np.uint8]


def quiz_page(audited: Pixels, own: Pixels, summary: AuditSummary, seed: int) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    audited, own
        Pictures uint8 [n, H, W, 3] each: synthetic ones or those of another survey, and the survey's.
    summary
        Names of the surveys.
    seed
        Decides the order.
    """
    answers = [True] * len(audited) + [False] * len(own)
    order = np.random.default_rng(seed).permutation(len(answers))
    pixels = np.concatenate([audited, own])
    questions = [
        {"picture": picture(pixels[row], f"galaxy {n}").uri, "synthetic": answers[row]}
        for n, row in enumerate(order, 1)
    ]
    survey, other_survey, ours = summary.survey, summary.other_survey, summary.words.own
    texts: dict[str, object] = {
        "title": f"{ours.capitalize()} or synthetic?",
        "explanation": f"Some are {ours} galaxies of {survey}, the others are synthetic.",
        "labels": (ours.capitalize(), "Synthetic"),
        "words": (ours, "synthetic"),
        "keys": ("1", "2") if summary.simulated else ("r", "s"),
    }
    if other_survey:
        texts = {
            "title": "Which survey?",
            "explanation": f"Some are of {survey}, the others of {other_survey}.",
            "labels": (survey, other_survey),
            "words": (f"of {survey}", f"of {other_survey}"),
            "keys": ("1", "2"),
        }
    return render("quiz.html", questions=questions, survey=survey, **texts)
