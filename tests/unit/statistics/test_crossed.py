"""Intervals over seeds and replicates equal Student's t.

They cover the mean of crossed random effects.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from raydistill.statistics.crossed import CHANGES, PROPORTIONS, crossed_difference, crossed_mean


@pytest.mark.parametrize("values", [[0.3, 0.1], [0.3, 0.1, -0.2, 0.5, 0.25]])
def test_one_replicate_gives_students_t(values: list[float]) -> None:
    result = crossed_mean(np.array(values)[:, None])
    expected = stats.ttest_1samp(values, 0.0)
    interval = expected.confidence_interval(0.95)
    assert result.p_value == pytest.approx(expected.pvalue, rel=1e-12)
    assert (result.low, result.high) == pytest.approx((interval.low, interval.high), rel=1e-12)


def test_equal_replicates_give_students_t_over_the_seeds() -> None:
    values = np.array([0.3, 0.1, -0.2, 0.5])
    repeated = crossed_mean(np.repeat(values[:, None], 3, axis=1))
    assert repeated[:4] == pytest.approx(crossed_mean(values[:, None])[:4], rel=1e-12)
    assert (repeated.seeds, repeated.replicates) == (4, 3)


def test_equal_seeds_give_students_t_over_the_replicates() -> None:
    values = np.array([0.3, 0.1, -0.2])
    repeated = crossed_mean(np.repeat(values[None, :], 4, axis=0))
    assert repeated[:4] == pytest.approx(crossed_mean(values[:, None])[:4], rel=1e-12)


def test_interval_has_satterthwaites_degrees_of_freedom() -> None:
    """By hand, the mean squares are 108 (2 degrees), 27 (2) and 4 (4)."""
    result = crossed_mean(np.array([[3.0, 2.0, 7.0], [7.0, 10.0, 13.0], [11.0, 18.0, 19.0]]))
    freedom = 131**2 / (108**2 / 2 + 27**2 / 2 + 4**2 / 4)
    expected = stats.t.interval(0.95, freedom, 10.0, math.sqrt(131 / 9))
    assert (result.low, result.high) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("of_replicates", [0.0, 1.0], ids=["no effect of replicates", "replicates differ"])
def test_interval_covers_the_mean(of_replicates: float) -> None:
    """Cover the mean by 95 % of the intervals; those of t over all values give 70 %."""
    rng, count, held = np.random.default_rng(0), 1500, 0
    for _ in range(count):
        seeds, replicates, rest = rng.normal(size=(6, 1)), rng.normal(size=(1, 4)), rng.normal(size=(6, 4))
        result = crossed_mean(0.7 + seeds + of_replicates * replicates + 0.5 * rest)
        held += result.low <= 0.7 <= result.high
    assert held / count > 0.95 - 4 * math.sqrt(0.95 * 0.05 / count)
    assert held / count < 0.99


def test_seed_with_a_missing_value_is_left_out() -> None:
    values = np.array([[0.1, 0.2], [math.nan, 5.0], [0.4, 0.3]])
    assert crossed_mean(values) == crossed_mean(values[[0, 2]])


def test_single_seed_has_no_interval() -> None:
    result = crossed_mean(np.array([[0.25, 0.75]]))
    assert result.mean == 0.5
    assert all(math.isnan(value) for value in result[1:4])
    assert math.isnan(crossed_mean(np.full((2, 2), math.nan)).mean)


@pytest.mark.parametrize(("value", "p_value"), [(0.0, 1.0), (0.3, 0.0)])
def test_equal_values_have_an_interval_of_length_0(value: float, p_value: float) -> None:
    result = crossed_mean(np.full((4, 2), value))
    assert (result.low, result.high, result.p_value) == (value, value, p_value)


CLASSES = np.repeat([0, 1, 2], [200, 60, 8])


def right(rng: np.random.Generator, networks: int, skill: float) -> np.ndarray:
    """Return whether networks are right about galaxies, some of which are harder.

    Networks differ too, and classes have other sizes and accuracies.
    """
    galaxies = rng.normal(size=len(CLASSES)) + np.array([1.0, 0.3, 0.8])[CLASSES]
    chance = skill + 0.15 * rng.normal(size=(networks, 1)) + galaxies
    return (rng.normal(size=chance.shape) < chance).astype(float)


@pytest.mark.parametrize("networks", [3, 10])
def test_interval_of_balanced_accuracy_covers_new_networks_and_galaxies(networks: int) -> None:
    """That over networks alone covers it too rarely."""
    rng, count, held, held_by_networks = np.random.default_rng(2), 800, 0, 0
    spread = math.sqrt(1 + 1 + 0.15**2)
    truth = float(np.mean(stats.norm.cdf(np.array([1.2, 0.5, 1.0]) / spread)))
    for _ in range(count):
        correct = right(rng, networks, 0.2)
        result = crossed_mean(correct, CLASSES, PROPORTIONS)
        by_network = np.mean([correct[:, k == CLASSES].mean(axis=1) for k in range(3)], axis=0)
        alone = crossed_mean(by_network[:, None])
        assert result.mean == pytest.approx(alone.mean, rel=1e-12)
        held += result.low <= truth <= result.high
        held_by_networks += alone.low <= truth <= alone.high
    assert held / count > 0.95 - 4 * math.sqrt(0.95 * 0.05 / count)
    assert held / count < 0.99
    assert held_by_networks / count < (0.93 if networks == 3 else 0.8)


def test_interval_of_a_difference_covers_and_is_narrower_than_that_of_each() -> None:
    rng, count, held, narrower = np.random.default_rng(3), 600, 0, 0
    spread = math.sqrt(1 + 0.15**2)
    galaxies = rng.normal(size=(4000, 1)) + np.array([1.0, 0.3, 0.8])
    truth = float(np.mean(stats.norm.cdf((galaxies + 0.3) / spread) - stats.norm.cdf(galaxies / spread)))
    for _ in range(count):
        hardness = rng.normal(size=len(CLASSES)) + np.array([1.0, 0.3, 0.8])[CLASSES]
        first, second = (
            (rng.normal(size=(5, len(CLASSES))) < skill + 0.15 * rng.normal(size=(5, 1)) + hardness).astype(float)
            for skill in (0.3, 0.0)
        )
        result = crossed_difference(first, second, CLASSES, CHANGES)
        held += result.low <= truth <= result.high
        alone = crossed_mean(first, CLASSES, PROPORTIONS)
        narrower += result.high - result.low < math.sqrt(2) * (alone.high - alone.low)
    assert held / count > 0.95 - 4 * math.sqrt(0.95 * 0.05 / count)
    assert narrower > 0.9 * count


def test_two_galaxies_that_are_always_right_have_a_wide_interval() -> None:
    result = crossed_mean(np.ones((5, 2)), np.zeros(2, int), PROPORTIONS)
    assert result.mean == 1
    assert result.low < 0.5


def test_strata_have_equal_weight() -> None:
    values = np.array([[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0]])
    assert crossed_mean(values, np.array([0, 0, 0, 1])).mean == 0.5


def test_difference_without_seeds_or_replicates_is_unknown() -> None:
    for first, second in ((np.ones((0, 3)), np.ones((2, 3))), (np.ones((2, 0)), np.ones((2, 0)))):
        result = crossed_difference(first, second)
        assert np.isnan(result[:4]).all()
        assert 0 in result[4:]


def test_difference_of_two_seeds_each_has_an_interval() -> None:
    first, second = np.array([[1.0, 2.0, 4.0], [2.0, 2.5, 5.0]]), np.array([[0.0, 1.5, 3.0], [0.5, 1.0, 2.0]])
    result = crossed_difference(first, second)
    assert result.mean == pytest.approx(first.mean() - second.mean())
    assert result.low < result.mean < result.high
    assert math.isnan(crossed_difference(first[:1], second).low)


def test_variances_of_two_strata_add_up() -> None:
    """Two strata of the same values halve the parts of replicates and interaction."""
    values = np.array([[3.0, 2.0, 7.0], [7.0, 10.0, 13.0], [11.0, 18.0, 19.0]])
    squares, freedom = np.array([108.0, 27.0 / 2, -4.0 / 2]) / 9, np.array([2, 4, 8])  # by hand; the rest has 4 in each
    result = crossed_mean(np.concatenate([values, values], axis=1), np.repeat([0, 1], 3))
    total = squares.sum()
    expected = stats.t.interval(0.95, total**2 / (squares**2 / freedom).sum(), 10.0, math.sqrt(total))
    assert (result.low, result.high) == pytest.approx(expected, rel=1e-9)


def test_equal_sets_change_nothing() -> None:
    values = np.random.default_rng(4).normal(size=(4, 30))
    repeated = crossed_mean(np.repeat(values[:, None], 3, axis=1), CLASSES[:30])
    assert repeated == pytest.approx(crossed_mean(values, CLASSES[:30]), rel=1e-9)


def test_galaxies_that_do_not_matter_leave_seeds_and_sets() -> None:
    values = np.array([[3.0, 2.0, 7.0], [7.0, 10.0, 13.0], [11.0, 18.0, 19.0]])
    result = crossed_mean(np.repeat(values[:, :, None], 5, axis=2))
    assert result[:4] == pytest.approx(crossed_mean(values)[:4], rel=1e-9)


@pytest.mark.parametrize("of_pairs", [0.0, 0.7], ids=["no interactions", "interactions"])
def test_interval_covers_new_seeds_sets_and_galaxies(of_pairs: float) -> None:
    """That over seeds and sets alone covers the mean too rarely."""
    rng, count, held, held_without = np.random.default_rng(5), 1500, 0, 0
    for _ in range(count):
        seeds, sets, galaxies = (
            rng.normal(size=shape) * scale for shape, scale in (((5, 1, 1), 0.4), ((1, 3, 1), 0.2), ((1, 1, 40), 2.0))
        )
        pairs = sum(rng.normal(size=shape) for shape in ((5, 3, 1), (5, 1, 40), (1, 3, 40)))
        values = 0.7 + seeds + sets + galaxies + of_pairs * pairs + rng.normal(size=(5, 3, 40))
        result, without = crossed_mean(values), crossed_mean(values.mean(axis=2))
        held += result.low <= 0.7 <= result.high
        held_without += without.low <= 0.7 <= without.high
    assert held / count > 0.95 - 4 * math.sqrt(0.95 * 0.05 / count)
    assert held / count < 0.995
    assert held_without / count < 0.94
