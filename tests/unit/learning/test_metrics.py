"""Metrics against scikit-learn, and their intervals against theory."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from raydistill.learning import metrics

sklearn = pytest.importorskip("sklearn.metrics")


def random_answers(seed: int, k: int = 5, n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    g = np.random.default_rng(seed)
    true = g.choice(k, n, p=g.dirichlet(np.ones(k)))
    return np.where(g.random(n) < 0.6, true, g.integers(0, k, n)), true


@pytest.mark.parametrize("seed", range(6))
def test_all_figures_equal_those_of_scikit_learn(seed: int) -> None:
    predicted, true = random_answers(seed)
    matrix = metrics.confusion(torch.from_numpy(predicted), torch.from_numpy(true), 5)
    labels = list(range(5))
    np.testing.assert_array_equal(matrix, sklearn.confusion_matrix(true, predicted, labels=labels))
    assert metrics.accuracy(matrix) == pytest.approx(sklearn.accuracy_score(true, predicted), rel=1e-12)
    options = {"labels": labels, "average": None, "zero_division": np.nan}
    np.testing.assert_allclose(metrics.completeness(matrix), sklearn.recall_score(true, predicted, **options))
    np.testing.assert_allclose(metrics.purity(matrix), sklearn.precision_score(true, predicted, **options))
    occurring = np.unique(true)
    recall = sklearn.recall_score(true, predicted, labels=occurring, average="macro")
    assert metrics.balanced_accuracy(matrix) == pytest.approx(recall, rel=1e-12)


def test_absent_and_never_predicted_classes_do_not_count() -> None:
    matrix = np.array([[3, 1, 0], [0, 0, 0], [2, 0, 0]])
    np.testing.assert_array_equal(metrics.completeness(matrix), [0.75, np.nan, 0])
    np.testing.assert_array_equal(metrics.purity(matrix), [0.6, 0, np.nan])
    assert metrics.balanced_accuracy(matrix) == pytest.approx(0.375)


def test_balanced_accuracy_ignores_class_frequencies() -> None:
    everything_is_smooth = np.array([[990, 0], [10, 0]])
    assert metrics.accuracy(everything_is_smooth) == pytest.approx(0.99)
    assert metrics.balanced_accuracy(everything_is_smooth) == pytest.approx(0.5)


def test_figures_without_objects_are_nan() -> None:
    empty = metrics.confusion(torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long), 3)
    assert empty.shape == (3, 3)
    assert math.isnan(metrics.accuracy(empty))
    assert math.isnan(metrics.balanced_accuracy(empty))


def test_interval_is_that_of_student() -> None:
    summary = metrics.summarise([0.50, 0.52, 0.54, 0.56, 0.58])
    assert summary["mean"] == pytest.approx(0.54)
    assert summary["std"] == pytest.approx(math.sqrt(0.001))
    assert summary["ci95"] == pytest.approx(2.7764451 * math.sqrt(0.001) / math.sqrt(5))
    assert summary["n"] == 5


def test_interval_has_its_nominal_coverage() -> None:
    g = np.random.default_rng(0)
    summaries = [metrics.summarise(list(g.normal(0.6, 0.02, 4))) for _ in range(1000)]
    covered = np.mean([abs(s["mean"] - 0.6) < s["ci95"] for s in summaries])
    assert 0.93 < covered < 0.97


def test_few_or_infinite_values_give_none() -> None:
    assert metrics.summarise([]) == {"mean": None, "std": None, "n": 0, "ci95": None}
    assert metrics.summarise([0.7]) == {"mean": 0.7, "std": None, "n": 1, "ci95": None}
    assert metrics.summarise([0.7, math.nan, math.inf]) == {"mean": 0.7, "std": None, "n": 1, "ci95": None}


# ---- calibration ----


def random_probabilities(seed: int, k: int = 4, n: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities, and classes drawn with them."""
    g = np.random.default_rng(seed)
    probabilities = g.dirichlet(np.full(k, 0.5), n)
    return probabilities, (probabilities.cumsum(axis=1) < g.random((n, 1))).sum(axis=1).clip(max=k - 1)


def test_brier_score_equals_that_of_scikit_learn() -> None:
    probabilities, true = random_probabilities(0)
    expected = sklearn.brier_score_loss(true, probabilities, labels=range(4), scale_by_half=False)
    assert metrics.brier(probabilities, true) == pytest.approx(expected, rel=1e-12)
    assert metrics.brier(np.array([[1.0, 0.0]]), np.array([1])) == 2


def test_classes_drawn_with_the_probabilities_are_calibrated() -> None:
    probabilities, true = random_probabilities(1)
    result = metrics.reliability(probabilities, true)
    assert result.count_B.sum() == len(true)
    assert result.error < 0.015
    bin_means = result.confidence_B[result.count_B > 200], result.accuracy_B[result.count_B > 200]
    np.testing.assert_allclose(*bin_means, atol=0.08)


def test_calibration_error_of_overconfident_predictions_is_their_excess() -> None:
    probabilities = np.tile([0.9, 0.1], (100, 1))
    true = np.arange(100) % 5 == 0  # right in 80 of 100
    assert metrics.reliability(probabilities, true.astype(int)).error == pytest.approx(0.1)
    two = np.concatenate([probabilities, np.tile([0.3, 0.7], (300, 1))])
    mixed = metrics.reliability(two, np.concatenate([true, np.ones(300)]).astype(int))
    assert mixed.error == pytest.approx(0.25 * 0.1 + 0.75 * 0.3)
    assert mixed.count_B[[10, 13]].tolist() == [300, 100]  # (10, 11] / 15 and (13, 14] / 15
    assert np.isnan(mixed.accuracy_B[0])


def test_calibration_of_no_predictions_is_not_a_number() -> None:
    none = np.empty((0, 3)), np.empty(0, int)
    assert math.isnan(metrics.brier(*none))
    assert math.isnan(metrics.reliability(*none).error)


def test_f1_is_the_harmonic_mean_of_completeness_and_purity() -> None:
    confusion = np.array([[8, 2, 0, 0], [1, 3, 0, 0], [2, 2, 0, 0], [0, 0, 0, 0]])
    both = metrics.completeness(confusion)[:2], metrics.purity(confusion)[:2]
    harmonic = 2 / (1 / both[0] + 1 / both[1])
    assert metrics.f1(confusion).tolist() == pytest.approx([*harmonic, 0.0, math.nan], nan_ok=True)
    assert metrics.macro_f1(confusion) == pytest.approx(harmonic.sum() / 3)
    assert math.isnan(metrics.macro_f1(np.zeros((2, 2), int)))
