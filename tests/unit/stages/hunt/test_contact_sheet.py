"""The contact sheet as a file: offline, escaped, with a reason for each candidate."""

from __future__ import annotations

import numpy as np

from raydistill.stages.hunt.artifact import RoundSummary
from raydistill.stages.hunt.inputs.labels import new_labels
from raydistill.stages.hunt.learn.ranking import Reason
from raydistill.stages.hunt.round import SheetCandidate, contact_sheet
from tests.unit.stages.audit.test_pages import Page, check_offline


def sheet() -> str:
    candidates = [
        SheetCandidate(f"<b>{n}", np.full((8, 8, 3), 10 * n, np.uint8), 0.25 * n, reason)
        for n, reason in enumerate(Reason)
    ]
    summary = RoundSummary("<i>rings", "a </script> survey", 1, 9, 0, 0, 4, "normal", "", ("<u>",))
    return contact_sheet(candidates, new_labels(), summary, "x")


def test_sheet_is_one_file_that_needs_no_network() -> None:
    text = sheet()
    page = Page(text)
    check_offline(page, text)
    assert len(page.all("img")) == 4
    assert all(tag.get("type") == "button" for tag in page.all("button"))
    assert text == sheet()


def test_sheet_escapes_names_and_says_why_each_candidate_is_shown() -> None:
    text = sheet()
    assert "<b>" not in text
    assert "<i>" not in text
    assert "<u>" not in text
    assert "also learned from synthetic galaxies (&lt;u&gt;)" in text
    for why in ("high score (0.000)", "uncertain (0.250)", "diverse: unlike the others (0.500)", "random: exploration"):
        assert why in text
