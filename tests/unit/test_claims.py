"""docs/claims.md has the texts and the figures of all small forms."""

from __future__ import annotations

import json

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
