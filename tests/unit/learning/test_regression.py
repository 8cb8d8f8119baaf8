"""Regressions cover as many new galaxies as they promise."""

from __future__ import annotations

import numpy as np
import pytest

from raydistill.learning.regression import COVERAGE, Regression


def galaxies(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features, and values with skewed errors of different size."""
    features = rng.normal(size=(count, 6))
    errors = (rng.exponential(size=count) - 1) * np.exp(features[:, 0])
    return features, features @ np.arange(6) + errors


def test_intervals_hold_the_promised_share_of_new_values_also_of_skewed_errors() -> None:
    held = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        features, values = galaxies(rng, 200)
        model = Regression.fit(features, values, np.arange(200) < 60, seed)
        new, truth = galaxies(rng, 500)
        estimate = model(new)
        held.append(((estimate.low_N <= truth) & (truth <= estimate.high_N)).mean())
    # Exactly ceil(61 * .95) / 61 = .951 in expectation; the standard error of 60 fits is .004.
    assert COVERAGE - 0.01 < np.mean(held) < COVERAGE + 0.015


def test_intervals_are_wider_where_errors_are_larger() -> None:
    rng = np.random.default_rng(0)
    model = Regression.fit(*galaxies(rng, 2000), np.arange(2000) < 400, 0)
    near, far = np.zeros((1, 6)), np.array([[1.5, 0, 0, 0, 0, 0]])
    widths = [float((of.high_N - of.low_N)[0]) for of in (model(near), model(far))]
    assert 2.5 < widths[1] / widths[0] < 8  # e^1.5 = 4.5


def test_a_model_without_a_clue_still_covers() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_t(2, size=1000)
    model = Regression.fit(rng.normal(size=(1000, 4)), values, np.arange(1000) < 200, 0)
    estimate = model(rng.normal(size=(4000, 4)))
    truth = rng.standard_t(2, size=4000)
    assert ((estimate.low_N <= truth) & (truth <= estimate.high_N)).mean() == pytest.approx(COVERAGE, abs=0.03)


@pytest.mark.parametrize(
    ("count", "calibration", "message"), [(60, 18, "19 to calibrate"), (30, 19, "20 galaxies to fit")]
)
def test_too_few_galaxies_give_no_interval(count: int, calibration: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Regression.fit(*galaxies(np.random.default_rng(0), count), np.arange(count) < calibration, 0)


def test_equal_values_are_no_quantity() -> None:
    features, _ = galaxies(np.random.default_rng(0), 100)
    with pytest.raises(ValueError, match="all values are equal"):
        Regression.fit(features, np.ones(100), np.arange(100) < 30, 0)
