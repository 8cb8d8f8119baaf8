"""Test completeness per group and the slope of the classifier with a nuisance."""

from __future__ import annotations

import numpy as np
import pytest

from raydistill.stages.evaluate.measures.groups import Groups, counts, measure

SIZES = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, np.nan])
LABELS = np.array([0, 1, 0, 1, 0, 1, 0, 1, 0])


def test_groups_are_quantiles_and_leave_out_unknown_values() -> None:
    groups = Groups.of("redshift", SIZES, 2)
    assert groups.edges == (1.0, 4.5, 8.0)
    assert groups.bins.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, -1]
    assert counts(groups, LABELS, 3).tolist() == [[2, 2], [2, 2], [0, 0]]
    for values in (np.full(5, np.nan), np.full(5, 3.0)):
        with pytest.raises(ValueError, match="value of redshift is known"):
            Groups.of("redshift", values, 2)


def test_correct_classifications_are_counted_by_class_and_bin() -> None:
    probabilities = np.zeros((9, 3))
    predicted = np.array([0, 1, 1, 1, 0, 0, 0, 0, 0])
    probabilities[np.arange(9), predicted] = 1
    measured = measure(Groups.of("redshift", SIZES, 2), probabilities, LABELS)
    assert measured["correct"] == [[1, 2], [2, 0], [0, 0]]


def test_slope_is_that_of_a_regression_with_one_intercept_per_class() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=400)
    redshift = rng.uniform(0, 0.1, 400) + 0.05 * labels
    probability = 0.3 + 0.2 * labels - 2.5 * redshift
    probabilities = rng.uniform(0, 0.1, (400, 3))
    probabilities[np.arange(400), labels] = probability + 0.01 * rng.normal(size=400)
    measured = measure(Groups.of("redshift", redshift, 4), probabilities, labels)
    design = np.column_stack([redshift, *(labels == k for k in range(3))])
    expected, *_ = np.linalg.lstsq(design, probabilities[np.arange(400), labels], rcond=None)
    assert measured["slope"] == pytest.approx(expected[0])
    assert measured["slope"] == pytest.approx(-2.5, abs=0.1)


def test_slope_with_the_size_is_per_decade() -> None:
    sizes = np.array([1.0, 10, 100, 1000])
    probabilities = np.column_stack([np.array([0.1, 0.3, 0.5, 0.7]), np.zeros(4)])
    measured = measure(Groups.of("petro_r90", sizes, 2), probabilities, np.zeros(4, int))
    assert measured["slope"] == pytest.approx(0.2)


def test_slope_is_undefined_where_the_nuisance_does_not_vary_within_a_class() -> None:
    groups = Groups.of("redshift", np.array([0.1, 0.2]), 2)
    assert measure(groups, np.eye(2), np.array([0, 1]))["slope"] is None
