"""Test comparing prototypes with their class: false alarms, power, missing values."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from raydistill.morphology.comparison import MIN_GALAXIES, band, class_p_values, compare_class
from raydistill.morphology.measures import FLAG, MEASURES, SCHEMA, SERSIC_FLAG

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
