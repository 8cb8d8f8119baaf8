"""Test the filter's network, and the limits that keep a rate of false rejections."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from raydistill.stages.curate.filter.network import (
    LEAST,
    VIEW,
    binomial_interval,
    calibrate,
    needed_pictures,
    probabilities,
    train_filter,
)


@pytest.mark.parametrize(("count", "rate"), [(99, 0.01), (199, 0.05), (60, 0.1)])
def test_limit_keeps_the_rate(count: int, rate: float) -> None:
    """Scores are uniform, so the true share that a limit rejects is 1 - limit."""
    rng, trials = np.random.default_rng(0), 4000
    limits = [calibrate(rng.random(count), rate) for _ in range(trials)]
    shares = 1 - np.array(limits)
    error = shares.std() / np.sqrt(trials)
    assert shares.mean() < rate + 3 * error
    assert shares.mean() > rate - 1 / (count + 1) - 3 * error


def test_limit_is_at_least_one_half() -> None:
    assert calibrate(np.linspace(0, 0.3, 500), 0.01) == LEAST


def test_rate_needs_enough_pictures() -> None:
    assert [needed_pictures(rate) for rate in (0.01, 0.05, 0.1)] == [99, 19, 9]
    calibrate(np.arange(99) / 99, 0.01)
    with pytest.raises(ValueError, match=r"98 pictures cannot calibrate a rate of 0.01; 99 can"):
        calibrate(np.arange(98) / 98, 0.01)


@pytest.mark.parametrize(("count", "total"), [(0, 20), (3, 20), (20, 20)])
def test_interval_is_that_of_clopper_and_pearson(count: int, total: int) -> None:
    exact = stats.binomtest(count, total).proportion_ci(method="exact")
    assert binomial_interval(count, total) == pytest.approx((count / total, exact.low, exact.high))


def draw(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noise: as it is, with a bright stripe, or dark."""
    rng = np.random.default_rng(number)
    outcomes = rng.integers(3, size=96)
    pictures = rng.normal(60, 10, (96, VIEW, VIEW, 3))
    for picture, outcome in zip(pictures, outcomes, strict=True):
        if outcome == 1:
            row = rng.integers(4, VIEW - 4)
            picture[row : row + 2] = 230
        elif outcome == 2:
            picture *= 0.2
    return np.clip(pictures, 0, 255).astype(np.uint8), outcomes


def test_network_learns_and_repeats_with_any_number_of_threads() -> None:
    threads = torch.get_num_threads()
    first = train_filter(2, draw, 20, 0)
    try:
        torch.set_num_threads(2)
        again = train_filter(2, draw, 20, 0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other) for name, other in train_filter(2, draw, 20, 1).items())
    pictures, outcomes = draw(100)
    result = probabilities(first, pictures, 2)
    assert (result.argmax(axis=1) == outcomes).mean() > 0.95
    np.testing.assert_array_equal(result[7:9], probabilities(first, pictures[7:9], 2))
    assert probabilities(first, pictures[:0], 2).shape == (0, 3)
