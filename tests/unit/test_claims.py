"""docs/claims.md has the texts and the figures of all small forms."""

from __future__ import annotations

import json
import re

import claims
import pytest
import yaml

TEXTS, RESULTS = yaml.safe_load(claims.TEXTS.read_text()), json.loads(claims.RESULTS.read_text())


def test_the_page_is_up_to_date() -> None:
    expected = claims.page(TEXTS, RESULTS)
    assert claims.PAGE.read_text() == expected, "run 'python benchmarks/claims.py --page'"


def test_every_claim_has_a_small_form_with_figures_or_says_what_is_missing() -> None:
    assert set(RESULTS) == set(claims.FORMS) <= set(TEXTS["claims"])
    for name in set(TEXTS["claims"]) - set(claims.FORMS):
        assert "Not tested" in TEXTS["claims"][name]["here"]
    for result in RESULTS.values():
        assert result["figures"]
        assert 0 < result["seconds"] <= 15 * 60


@pytest.mark.parametrize("name", RESULTS)
def test_intervals_hold_their_value(name: str) -> None:
    for figure in RESULTS[name]["figures"]:
        if figure["low"] is not None:
            assert figure["low"] <= figure["value"] <= figure["high"]


@pytest.mark.parametrize("name", TEXTS["claims"])
def test_figures_are_those_of_the_linked_sections(name: str) -> None:
    here = TEXTS["claims"][name]["here"]
    sections = "".join(section(*link) for link in re.findall(r"\]\(([\w/.-]+\.md)#([\w-]+)\)", here))
    assert numbers(here) <= numbers(sections)


def numbers(text: str) -> set[str]:
    """Return the decimal numbers below 1 of a text."""
    return set(re.findall(r"(?<![\w.:])\.\d+", text))


def section(page: str, anchor: str) -> str:
    """Return a section of a page, with those below it."""
    parts = re.split(r"^(#+) (.*)\n", (claims.PAGE.parent / page).read_text(), flags=re.MULTILINE)
    levels = [len(marks) for marks in parts[1::3]]
    slugs = [re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in parts[2::3]]
    start = slugs.index(anchor)
    end = next((i for i in range(start + 1, len(levels)) if levels[i] <= levels[start]), len(levels))
    return "".join(parts[3 * i + 3] for i in range(start, end))
