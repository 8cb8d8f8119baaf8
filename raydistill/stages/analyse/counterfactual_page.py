"""Write sliders: galaxies generated from the same noise, with one vote changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raydistill.figures.pages import Picture, render


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
