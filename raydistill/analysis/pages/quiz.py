"""Write the quiz: a page that shows pictures one by one, and scores the reader."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from raydistill.analysis.pages.rendering import picture, render

Pixels = npt.NDArray[np.uint8]


def quiz_page(synthetic: Pixels, real: Pixels, survey: str, seed: int) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    synthetic, real
        Pictures uint8 [n, H, W, 3] each.
    survey
        Name of the survey.
    seed
        Decides the order.
    """
    answers = [True] * len(synthetic) + [False] * len(real)
    order = np.random.default_rng(seed).permutation(len(answers))
    pixels = np.concatenate([synthetic, real])
    questions = [
        {"picture": picture(pixels[row], f"galaxy {n}").uri, "synthetic": answers[row]}
        for n, row in enumerate(order, 1)
    ]
    return render("quiz.html", questions=questions, survey=survey)
