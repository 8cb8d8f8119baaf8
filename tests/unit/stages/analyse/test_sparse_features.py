"""Recurrence and alignment of sparse features whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from raydistill.stages.analyse.science.sparse_features import MIN_PICTURES, align, recurrence, spearman, strongest
from raydistill.statistics.testing import holm


def sparse(rng: np.random.Generator, count: int, features: int) -> np.ndarray:
    """Return activations of which most are 0."""
    return np.maximum(rng.normal(-1, 1, (count, features)), 0)


def test_shared_features_recur_and_others_do_not() -> None:
    rng = np.random.default_rng(0)
    base = sparse(rng, 400, 6)
    base[:, 5] = 0  # a dead feature
    others = []
    for _ in range(4):
        other = sparse(rng, 400, 6)
        order = rng.permutation(6)
        other[:, order[:3]] = base[:, :3] * 2 + rng.normal(0, 0.05, (400, 3))  # found again, in another order and unit
        others.append(other)
    others[0] = sparse(rng, 400, 6)  # one of four finds none of them
    result = recurrence(base, others)
    assert result.share == pytest.approx([0.75, 0.75, 0.75, 0, 0, 0])
    assert result.recurring.tolist() == [True, True, True, False, False, False]
    assert (result.correlation_BM[:, 5] == 0).all()


def test_a_feature_is_matched_once() -> None:
    """Two copies of one feature cannot both be found again in a single feature."""
    rng = np.random.default_rng(1)
    z = sparse(rng, 300, 1)
    result = recurrence(np.concatenate([z, z], axis=1), [np.concatenate([z, sparse(rng, 300, 1)], axis=1)])
    assert sorted(result.recurring.tolist()) == [False, True]


def test_alignment_is_measured_on_held_out_pictures() -> None:
    rng = np.random.default_rng(2)
    votes = rng.uniform(size=(800, 5))
    activations = np.maximum(np.stack([votes[:, 3], 1 - votes[:, 1], rng.uniform(size=800)], 1) - 0.4, 0)
    activations[:, :2] += rng.normal(0, 0.05, (800, 2)).clip(0)
    result = align(activations[:400], votes[:400], activations[400:], votes[400:], seed=0)
    assert [alignment.answer for alignment in result[:2]] == [3, 1]
    for alignment, sign in zip(result[:2], (1, -1), strict=True):
        expected = stats.spearmanr(activations[400:, result.index(alignment)], votes[400:, alignment.answer]).statistic
        assert alignment.interval.value == pytest.approx(expected)
        assert alignment.interval.low < alignment.interval.value < alignment.interval.high
        assert alignment.interval.value * sign > 0.7
        assert alignment.n == 400
    adjusted = holm(np.array([alignment.p_value for alignment in result]))
    assert [alignment.is_aligned(p) for alignment, p in zip(result, adjusted, strict=True)] == [True, True, False]


def test_noise_is_called_unaligned_almost_always() -> None:
    """The best of 20 answers is chosen on other pictures.

    Its p-value is therefore uniform: 1 in 20 is below 0.05.
    """
    rng = np.random.default_rng(3)
    small = 0
    for seed in range(3):
        votes, activations = rng.uniform(size=(400, 20)), sparse(rng, 400, 20)
        result = align(activations[:200], votes[:200], activations[200:], votes[200:], seed)
        small += sum(alignment.p_value < 0.05 for alignment in result)
    assert small <= 9  # of 60; 3 expected


def test_intervals_cover_the_correlation() -> None:
    """A Gaussian pair of correlation r has Spearman's 6/pi arcsin(r/2)."""
    rng = np.random.default_rng(4)
    truth, covered = 6 / math.pi * math.asin(0.6 / 2), 0
    for seed in range(100):
        x = rng.normal(size=(150, 1))
        y = 0.6 * x + 0.8 * rng.normal(size=(150, 1))
        interval = align(x[:50], y[:50], x[50:], y[50:], seed)[0].interval
        covered += interval.low <= truth <= interval.high
    assert covered >= 88  # 95 expected


def test_answers_that_few_pictures_have_are_left_out() -> None:
    rng = np.random.default_rng(5)
    activations, votes = rng.uniform(size=(100, 1)), rng.uniform(size=(100, 2))
    votes[MIN_PICTURES - 1 :, 0] = np.nan
    assert math.isnan(spearman(activations[:, 0], votes[:, 0]))
    assert math.isnan(spearman(activations[:, 0], np.ones(100)))
    assert align(activations, votes[:, :1], activations, votes[:, :1], 0)[0].answer is None


def test_strongest_pictures_come_first_and_inactive_ones_never() -> None:
    assert strongest(np.array([0.0, 3.0, 1.0, 0.0, 2.0]), 4).tolist() == [1, 4, 2]
