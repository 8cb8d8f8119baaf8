"""The share of a closed gap has its closed form; its interval covers the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from raydistill.learning import metrics
from raydistill.statistics.resampling import bootstrap_accuracies, difference, gap_closed

LABELS = np.repeat([0, 1, 3], [50, 200, 30])


def draws(accuracy: float, seed: int, num_seeds: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).random((num_seeds, len(LABELS))) < accuracy


def test_accuracies_are_balanced() -> None:
    first, second = draws(0.8, 0), draws(0.5, 1)
    plain, resampled = bootstrap_accuracies([first, second], LABELS, 0, resamples=4000)
    for kind, correct in enumerate((first, second)):
        each = []
        for row in correct:
            matrix = np.zeros((4, 4), int)
            np.add.at(matrix, (LABELS, np.where(row, LABELS, (LABELS + 1) % 4)), 1)
            each.append(metrics.balanced_accuracy(matrix))
        assert plain[kind] == pytest.approx(np.mean(each))
        assert resampled[:, kind].mean() == pytest.approx(np.mean(each), abs=0.003)


def test_spread_of_resamples_is_that_of_galaxies_and_networks() -> None:
    single = np.random.default_rng(0).random((1, len(LABELS))) < 0.7
    same = np.repeat(single, 5, axis=0)  # networks that agree: galaxies alone vary
    spread = bootstrap_accuracies([same], LABELS, 0, resamples=4000)[1].std()
    rates = [single[0, label == LABELS].mean() for label in (0, 1, 3)]
    expected = math.sqrt(sum(p * (1 - p) / n for p, n in zip(rates, (50, 200, 30), strict=True))) / 3
    assert spread == pytest.approx(expected, rel=0.05)
    sure = np.repeat([[True], [False]], len(LABELS), axis=1)  # galaxies that agree: networks alone vary
    assert bootstrap_accuracies([sure], LABELS, 0, resamples=4000)[1].std() == pytest.approx(math.sqrt(0.125), rel=0.05)


def test_share_is_the_closed_part_of_the_gap() -> None:
    without, upper_bound = np.zeros((3, 280), bool), np.ones((3, 280), bool)
    half = np.zeros((3, 280), bool)
    for label in (0, 1, 3):
        half[:, np.flatnonzero(label == LABELS)[::2]] = True
    result = gap_closed(without, half, upper_bound, LABELS, 0)
    assert result.value == pytest.approx(0.5)
    assert 0.35 < result.low < 0.5 < result.high < 0.65
    assert gap_closed(without, upper_bound, upper_bound, LABELS, 0) == pytest.approx((1, 1, 1))
    assert gap_closed(without, without, upper_bound, LABELS, 0) == pytest.approx((0, 0, 0))


def test_no_share_without_a_gap() -> None:
    same = draws(0.7, 0)
    assert all(math.isnan(value) for value in gap_closed(same, draws(0.75, 1), same, LABELS, 0))


def test_paired_networks_have_a_narrower_difference() -> None:
    first = draws(0.8, 0)
    second = first.copy()
    second[:, ::20] = False
    paired = difference(first, second, LABELS, 0)
    unpaired = difference(first, draws(float(second.mean()), 5), LABELS, 0)
    assert paired.low > 0
    assert paired.high - paired.low < (unpaired.high - unpaired.low) / 1.5


def test_interval_of_a_difference_has_its_nominal_coverage() -> None:
    covered = 0
    for trial in range(200):
        rng = np.random.default_rng(trial)
        rates = np.clip(0.6 + rng.normal(0, 0.001, (2, 6, 1)), 0, 1)
        first, second = (rng.random((6, len(LABELS))) < rate for rate in rates)
        result = difference(first, second, LABELS, trial)
        covered += result.low <= 0 <= result.high
    assert covered >= 180


def test_equal_seeds_give_equal_intervals() -> None:
    first, second = draws(0.8, 0), draws(0.7, 1)
    assert difference(first, second, LABELS, 3) == difference(first, second, LABELS, 3)
    assert difference(first, second, LABELS, 3) != difference(first, second, LABELS, 4)
