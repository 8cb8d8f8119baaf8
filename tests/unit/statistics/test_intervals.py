"""Intervals of Student and of percentiles, against theory."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from raydistill.statistics.intervals import (
    known,
    mean_interval,
    paired_difference,
    percentile_interval,
    welch_half_width,
)


def test_interval_is_student_t_over_seeds() -> None:
    value, low, high = mean_interval([1.0, 2.0, 3.0])
    assert (value, high - value) == (2.0, pytest.approx(4.302652729696142 / math.sqrt(3), rel=1e-9))
    assert value - low == pytest.approx(high - value)
    assert mean_interval([1.0, 3.0]).high == pytest.approx(2 + 12.706204736174694, rel=1e-9)
    assert all(math.isnan(end) for end in mean_interval([1.0])[1:])
    wider = mean_interval([1.0, 2.0, 3.0], test_share=0.5)  # variance 1 times 1/3 + 1/2
    assert wider.high == pytest.approx(2 + 4.302652729696142 * (1 / 3 + 1 / 2) ** 0.5, rel=1e-9)


def test_paired_difference_removes_what_seeds_share() -> None:
    seeds = np.array([10.0, 50.0, 90.0])
    result = paired_difference(seeds + np.array([1.0, 1.1, 0.9]), seeds)
    assert result.low > 0.7
    assert mean_interval(seeds + 1).low < 0 < result.value


def test_half_width_of_a_difference_is_welchs() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(0, 1, 5), rng.normal(0, 4, 8)
    interval = stats.ttest_ind(one, other, equal_var=False).confidence_interval()
    half = welch_half_width([one.var(ddof=1), other.var(ddof=1)], [5, 8])
    assert half == pytest.approx((interval.high - interval.low) / 2, rel=1e-12)
    assert welch_half_width([0.0, 0.0], [2, 2]) == 0.0


def test_percentiles_hold_95_percent_of_the_resamples_that_are_numbers() -> None:
    resampled = np.append(np.random.default_rng(0).permutation(1001), [math.nan] * 100)
    assert percentile_interval(400.0, resampled) == pytest.approx((400, 25, 975))


def test_only_numbers_that_are_not_finite_are_unknown() -> None:
    values = [1.5, 3, "a", None, math.nan, math.inf, -math.inf]
    assert [known(value) for value in values] == [1.5, 3, "a", None, None, None, None]
