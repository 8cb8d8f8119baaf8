"""Write the quiz: a page that shows pictures one by one, and scores the reader."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from raydistill.analysis.pages.rendering import picture, render

Pixels = npt.NDArray[np.uint8]


def quiz_page(audited: Pixels, own: Pixels, survey: str, seed: int, other_survey: str = "") -> str:
    """Return the page as HTML.

    Parameters
    ----------
    audited, own
        Pictures uint8 [n, H, W, 3] each: synthetic ones or those of another survey, and real ones.
    survey
        Name of the survey of the real ones.
    seed
        Decides the order.
    other_survey
        Name of the other survey; "": the audited pictures are synthetic.
    """
    answers = [True] * len(audited) + [False] * len(own)
    order = np.random.default_rng(seed).permutation(len(answers))
    pixels = np.concatenate([audited, own])
    questions = [
        {"picture": picture(pixels[row], f"galaxy {n}").uri, "synthetic": answers[row]}
        for n, row in enumerate(order, 1)
    ]
    texts: dict[str, object] = {
        "title": "Real or synthetic?",
        "explanation": "Some were observed, the others are synthetic.",
        "labels": ("Real", "Synthetic"),
        "words": ("real", "synthetic"),
        "keys": ("r", "s"),
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
