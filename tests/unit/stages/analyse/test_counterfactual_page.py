"""Sliders of counterfactuals: labels, one shown picture per galaxy, escaped text."""

from __future__ import annotations

import re

import numpy as np

from raydistill.figures.pages import Picture, picture
from raydistill.stages.analyse.report.page import Slider, sliders

FRACTIONS = (0.0, 0.5, 1.0)


def steps(number: int) -> list[Picture]:
    return [picture(np.full((4, 4, 3), 60 * step, np.uint8), f"galaxy {number}, bar {step}") for step in range(3)]


def test_each_galaxy_shows_the_first_of_its_pictures() -> None:
    page = sliders(FRACTIONS, [Slider("bar: bar", 2, 16, [steps(0), steps(1)]), Slider("odd: yes", 0, 16, [])])
    images = re.findall(r"<img [^>]*>", page)
    assert [" hidden" in image for image in images] == [False, True, True] * 2
    assert all("alt=" in image for image in images)
    (slider,) = re.findall(r'<input type="range"[^>]*>', page)  # an answer without accepted galaxies has none
    assert 'max="2"' in slider
    identifier = re.search(r'id="([^"]*)"', slider)
    assert identifier is not None
    assert f'<label for="{identifier[1]}">' in page
    assert "accepts 0 of 16. None is shown." in page


def test_names_are_escaped() -> None:
    assert "<b>" not in sliders(FRACTIONS, [Slider("<b>bar</b>", 1, 1, [steps(0)])])
