"""Test comparing prototypes with their class: false alarms, power, missing values."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from raydistill.morphology.comparison import (
    MIN_GALAXIES,
    JointComparison,
    band,
    class_p_values,
    compare_class,
    compare_jointly,
    find_testable,
)
from raydistill.morphology.measures import FLAG, MEASURES, SCHEMA, SERSIC_FLAG
from raydistill.morphology.pictures import high_frequency

RNG = np.random.default_rng(0)
MIXING = np.random.default_rng(5).normal(size=(6, 6))  # correlates the measures


@pytest.mark.parametrize("count", [1, 4])
def test_galaxies_taken_as_prototypes_give_few_false_alarms(count: int) -> None:
    """The chance that any of six correlated measures has p <= 0.1 is at most 0.1."""
    alarms = 0
    for seed in range(300):
        values = RNG.standard_t(4, size=(60 + count, 6)) @ MIXING
        alarms += class_p_values(values[:count], values[count:], 99, seed).min() <= 0.1
    assert alarms / 300 < 0.1 + 3 * np.sqrt(0.1 * 0.9 / 300)


@pytest.mark.parametrize("count", [1, 4])
def test_a_far_measure_is_found_and_the_others_are_not(count: int) -> None:
    galaxies = RNG.normal(size=(200, 6))
    prototypes = RNG.normal(size=(count, 6)) * 0.3
    prototypes[:, 2] += 8
    p_values = class_p_values(prototypes, galaxies, 999, 0)
    assert p_values[2] == pytest.approx(1 / (201 if count == 1 else 1000))
    assert np.delete(p_values, 2).min() > 0.2


def test_a_missing_value_says_nothing() -> None:
    galaxies, prototypes = RNG.normal(size=(100, 2)), np.array([[np.nan, 9.0]])
    galaxies[:10, 0] = np.nan
    p_values = class_p_values(prototypes, galaxies, 99, 0)
    assert p_values[0] == 1
    assert p_values[1] == pytest.approx(1 / 101)


def rows(values: np.ndarray, flag: int = 0) -> pa.Table:
    """Return rows whose measures all have these values [N]."""
    columns: dict[str, object] = dict.fromkeys(MEASURES, values)
    columns |= {name: [flag] * len(values) for name in (FLAG, SERSIC_FLAG)}
    missing = {name: [None] * len(values) for name in SCHEMA.names if name not in columns}
    return pa.table({name: pa.array((columns | missing)[name], SCHEMA.field(name).type) for name in SCHEMA.names})


def test_percentiles_are_those_of_the_galaxies() -> None:
    galaxies = rows(np.arange(200.0))
    first, four = (compare_class(rows(np.array([149.5])), galaxies, ["gini"], count, 99, 0)[0] for count in (1, 4))
    assert (first.median, first.num_galaxies, first.num_prototypes) == (99.5, 200, 1)
    assert first.percentile == pytest.approx(75)
    assert 68 < first.percentile_low < 70 < 79 < first.percentile_high < 82
    assert first.p_value is not None
    assert four.p_value == pytest.approx(min(4 * first.p_value, 1))


def test_invalid_prototypes_and_small_classes_are_not_compared() -> None:
    galaxies = rows(np.arange(50.0))
    flagged = compare_class(rows(np.array([10.0]), flag=2), galaxies, ["gini", "ellipticity"], 1, 99, 0)
    assert (flagged[0].p_value, flagged[0].num_prototypes) == (None, 0)
    assert flagged[1].p_value is not None
    few = rows(np.arange(float(MIN_GALAXIES - 1)))
    assert compare_class(rows(np.array([1.0])), few, ["ellipticity"], 1, 99, 0)[0].p_value is None


def test_band_leaves_out_rings_with_few_galaxies() -> None:
    profiles = np.tile(np.arange(101.0)[:, None], (1, 2))
    profiles[MIN_GALAXIES - 1 :, 1] = np.nan
    low, median, high, count = band(profiles)
    assert (low[0], median[0], high[0]) == (16, 50, 84)
    assert count.tolist() == [101, MIN_GALAXIES - 1]
    assert np.isnan([low[1], median[1], high[1]]).all()


def test_classes_of_too_few_galaxies_are_not_testable() -> None:
    """One prototype beside n galaxies has no p-value below classes / (n + 1)."""
    counts = [(1, 200), (1, 200), (1, 38), (1, 0), (0, 50)]
    assert find_testable(counts, 1999) == [True, True, False, False, False]
    assert find_testable([(1, 99)] * 5, 1999) == [True] * 5
    assert find_testable([(1, 98)] * 5, 1999) == [False] * 5
    assert find_testable([(10, 38)] * 9, 1999) == [True] * 9
    assert find_testable([(10, 38)] * 9, 58) == [False] * 9


def test_class_that_is_not_testable_has_places_and_no_p_value() -> None:
    result = compare_class(rows(np.array([30.0])), rows(np.arange(38.0)), ["gini"], 0, 99, 0)[0]
    assert result.p_value is None
    assert 70 < result.percentile < 90


NAMES = list(MEASURES)[:6]


def table_of(values_NM: np.ndarray) -> pa.Table:
    """Return rows whose first six measures have these values [N, 6]."""
    table = rows(np.zeros(len(values_NM)))
    for name, column in zip(NAMES, values_NM.T, strict=True):
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(column))
    return table


def jointly(shift: float, seed: int, permutations: int = 199) -> list[JointComparison]:
    """Compare prototypes of five classes, whose third measure is shifted."""
    rng, classes = np.random.default_rng(seed), []
    for number in range(5):
        galaxies, prototypes = (3 * number + (2 + number) * rng.normal(size=(n, 6)) for n in (38, 1))
        prototypes[:, 2] += shift * (2 + number)
        classes.append((table_of(prototypes), table_of(galaxies)))
    return compare_jointly(classes, NAMES, permutations, seed)


def test_joint_test_of_classes_seldom_raises_a_false_alarm() -> None:
    alarms = sum(min(measure.p_value for measure in jointly(0.0, seed)) <= 0.1 for seed in range(100))
    assert alarms / 100 < 0.1 + 3 * np.sqrt(0.1 * 0.9 / 100)


def test_joint_test_finds_a_deviation_that_no_single_class_can_show() -> None:
    found = [jointly(2.0, seed) for seed in range(20)]
    assert sum(result[2].p_value < 0.05 for result in found) >= 16
    assert sum(result[2].deviation.low <= 2 <= result[2].deviation.high for result in found) >= 16
    assert {result[2].num_classes for result in found} == {5}


def test_power_at_high_frequency_tells_noise_from_a_smooth_picture() -> None:
    y, x = np.mgrid[:32, :32] - 15.5
    smooth = np.exp(-(x**2 + y**2) / 60)[..., None].repeat(3, axis=2)
    noisy = smooth + np.random.default_rng(0).normal(0, 0.05, smooth.shape)
    flat = np.zeros_like(smooth)
    low, high, none = high_frequency(np.stack([smooth, noisy, flat]))
    assert low < -5 < -3 < high < 0
    assert np.isnan(none)
    white = high_frequency(np.random.default_rng(1).normal(size=(50, 32, 32, 3)))
    share = 1 - np.pi * 0.25**2  # of the plane of frequencies
    assert np.mean(10**white) == pytest.approx(share, abs=0.02)
