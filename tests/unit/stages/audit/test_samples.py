"""Test how the samples of an audit are drawn."""

from __future__ import annotations

import numpy as np

from raydistill.stages.audit.inputs import draw_samples


def counts(labels: np.ndarray, rows: np.ndarray) -> list[int]:
    return np.bincount(labels[rows], minlength=3).tolist()


def labels_of(*counts: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))


def test_samples_have_the_same_number_of_each_class() -> None:
    synthetic, held_out, training = labels_of(50, 50, 50), labels_of(45, 60, 5), labels_of(90, 40, 10)
    samples = draw_samples(synthetic, held_out, training, 1000, seed=0)
    assert counts(synthetic, samples.synthetic) == counts(held_out, samples.held_out) == [45, 40, 5]
    assert counts(training, samples.training) == [45, 40, 5]
    few = draw_samples(synthetic, held_out, training, 18, seed=0)
    assert counts(synthetic, few.synthetic) == counts(held_out, few.held_out) == [9, 8, 1]


def test_a_missing_class_keeps_its_share_of_the_real_pictures() -> None:
    synthetic, real = labels_of(60, 0, 60), labels_of(60, 30, 30)
    samples = draw_samples(synthetic, real, real, 1000, seed=0)
    synthetic_counts, real_counts = counts(synthetic, samples.synthetic), counts(real, samples.held_out)
    assert sum(synthetic_counts) == sum(real_counts) == len(samples)
    assert synthetic_counts[1] == 0
    assert abs(real_counts[1] - len(samples) / 4) < 1
    assert real_counts == counts(real, samples.training)


def test_random_samples_have_distinct_rows_and_depend_on_the_seed() -> None:
    real = labels_of(60, 30, 30)
    samples, other = (draw_samples(100, real, real, 50, seed) for seed in (0, 1))
    assert len(samples) == 50
    for rows, of_other in zip(vars(samples).values(), vars(other).values(), strict=True):
        assert (np.diff(rows) > 0).all()
        assert not np.array_equal(rows, of_other)
    assert not np.array_equal(samples.held_out, samples.training)
