"""Metrics of a hunt: against scikit-learn, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve

from raydistill.stages.hunt.trials import (
    average_precision,
    discovery_curve,
    rank_metrics,
    recall_at_purity,
)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_and_recall_agree_with_scikit_learn(seed, ties):
    rng = np.random.default_rng(seed)
    positive, scores = rng.random(300) < 0.05, rng.random(300)
    positive[0] = True
    scores = np.round(scores, 1) if ties else scores
    assert average_precision(scores, positive) == pytest.approx(average_precision_score(positive, scores), rel=1e-12)
    precision, recall, _ = precision_recall_curve(positive, scores)
    for purity in (0.05, 0.2, 0.5, 1.0):
        expected = recall[:-1][precision[:-1] >= purity - 1e-12].max(initial=0)
        assert recall_at_purity(scores, positive, purity) == pytest.approx(expected, rel=1e-12)


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


def test_metrics_of_a_survey_without_targets_are_rejected():
    with pytest.raises(ValueError, match="no object is of the target class"):
        average_precision(np.zeros(3), np.zeros(3, bool))


def test_discovery_curve_counts_what_was_found():
    result = np.array([True, False, True, True])
    np.testing.assert_array_equal(discovery_curve(result, np.array([0, 1, 3, 4])), [0, 1, 2, 3])
