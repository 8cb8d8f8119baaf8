"""Metrics of a hunt, by hand and from their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from raydistill.stages.hunt.trials import discovery_curve, rank_metrics


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_and_recall_follow_their_definitions(seed, ties):
    rng = np.random.default_rng(seed)
    positive, scores = rng.random(300) < 0.05, rng.random(300)
    positive[0] = True
    scores = np.round(scores, 1) if ties else scores
    selections = [scores >= threshold for threshold in sorted(set(scores), reverse=True)]  # never splits a tie
    purity = np.array([positive[chosen].mean() for chosen in selections])
    completeness = np.array([positive[chosen].sum() / positive.sum() for chosen in selections])
    expected = (np.diff(completeness, prepend=0) * purity).sum()
    for required in (0.05, 0.2, 0.5, 1.0):
        result = rank_metrics(scores, positive, required)
        assert result.average_precision == pytest.approx(expected, rel=1e-12)
        assert result.recall_at_purity == completeness[purity >= required].max(initial=0)


def test_metrics_by_hand():
    scores = np.linspace(1, 0, 1000)
    positive = np.zeros(1000, bool)
    positive[[0, 1, 4, 9, 99, 100]] = True
    result = rank_metrics(scores, positive, 0.5)
    assert result.purity_of_top == 4 / 10
    assert result.found_in_first == 5
    assert result.recall_at_purity == 3 / 6  # 3 of the first 5; the fourth comes at 4 of 10
    expected = (1 + 1 + 3 / 5 + 4 / 10 + 5 / 100 + 6 / 101) / 6
    assert result.average_precision == pytest.approx(expected, rel=1e-12)


def test_a_purity_that_no_selection_has_gives_no_recall():
    assert rank_metrics(np.array([0.9, 0.5, 0.1]), np.array([False, True, False]), 0.6).recall_at_purity == 0


def test_discovery_curve_counts_what_was_found():
    result = np.array([True, False, True, True])
    np.testing.assert_array_equal(discovery_curve(result, np.array([0, 1, 3, 4])), [0, 1, 2, 3])
