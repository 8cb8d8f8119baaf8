"""Repeated prototypes with known poses, noise and differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from raydistill.distillation.residual import residual_of
from raydistill.stages.analyse.science.stability import (
    align_sets,
    best_pose_similarity,
    contrasts,
    poses,
    recurrence_of_classes,
    similarity_of_classes,
)

SIDE = 12
LABELS = np.arange(3)


def prototypes(seed: int = 0, count: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, SIDE, SIDE, 3))


def repeated(noise: float, num_sets: int, seed: int = 1, count: int = 3) -> list[np.ndarray]:
    """Return sets that show the same prototypes in random poses, with noise."""
    rng = np.random.default_rng(seed)
    truth = prototypes(count=count)
    sets = []
    for _ in range(num_sets):
        turned = poses(truth)[rng.integers(8, size=count), np.arange(count)]
        sets.append(turned + rng.normal(0, noise, truth.shape))
    return sets


def test_poses_are_the_symmetries_of_the_square() -> None:
    eight = poses(prototypes())
    assert np.array_equal(eight[0], prototypes())
    assert len({pose.tobytes() for pose in eight}) == 8
    for pose in eight:  # a group: the poses of a pose are the same eight pictures
        assert {other.tobytes() for other in poses(pose)} == {other.tobytes() for other in eight}


def test_contrast_turns_with_the_picture() -> None:
    pictures = prototypes()
    for pose in range(8):
        np.testing.assert_allclose(contrasts(poses(pictures)[pose]), poses(contrasts(pictures))[pose], atol=1e-12)
    np.testing.assert_allclose(contrasts(pictures + 3), contrasts(pictures), atol=1e-12)  # the common part is gone


def test_similarity_of_a_turned_copy_is_one() -> None:
    pictures = contrasts(prototypes())
    similarity, pose = best_pose_similarity(pictures, poses(pictures)[6] * 2)
    assert np.diag(similarity) == pytest.approx(1)
    for number in range(3):
        np.testing.assert_allclose(poses(poses(pictures)[6])[pose[number, number], number], pictures[number])
    assert best_pose_similarity(np.zeros_like(pictures), pictures)[0] == pytest.approx(0)


def test_poses_and_order_of_prototypes_are_undone() -> None:
    labels = np.array([0, 0, 1])
    sets = repeated(0.0, 5)
    for number, set_ in enumerate(sets):
        if number % 2:
            set_[:2] = set_[[1, 0]]  # two prototypes of one class in another order
    ensemble = align_sets(sets, labels)
    assert ensemble.deviation == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(ensemble.mean, sets[0], atol=1e-12)


def test_mean_and_deviation_have_the_noise_of_the_sets() -> None:
    ensemble = align_sets(repeated(0.3, 20), LABELS)
    assert ensemble.deviation.mean() == pytest.approx(0.3, rel=0.05)
    residual = np.abs(best_pose_similarity(contrasts(ensemble.mean), contrasts(prototypes()))[0].diagonal() - 1)
    assert residual.max() < 0.01  # noise of 0.3 / sqrt(20) on pixels of unit variance
    assert np.isnan(align_sets(repeated(0.3, 1), LABELS).deviation).all()


def test_signal_to_noise_of_pixels_follows_students_t() -> None:
    """Pixels of noise alone exceed the 95 % point of t in one of twenty cases.

    Pixels with contrast exceed it too.
    """
    rng = np.random.default_rng(3)
    pattern = np.zeros((SIDE, SIDE, 3))
    pattern[:4, :3] = 2.0
    truth = np.stack([pattern, -pattern])  # nothing is common to both
    ensemble = align_sets([truth + rng.normal(0, 0.3, truth.shape) for _ in range(6)], np.arange(2))
    above = np.abs(residual_of(ensemble.pictures_RSHWC).signal_to_noise_SHW) > stats.t.ppf(0.975, 5)
    assert above[:, :4, :3].all()
    assert 0.02 < above[:, 4:].mean() < 0.09
    assert np.isnan(residual_of(truth[None]).signal_to_noise_SHW).all()


def test_classes_that_recur_exceed_those_that_do_not() -> None:
    sets = repeated(0.3, 4)
    rng = np.random.default_rng(9)
    for set_ in sets:
        set_[2] = rng.normal(size=set_[2].shape)  # class 2 is another picture in every set
    similarity = similarity_of_classes(sets, LABELS)
    assert similarity.shape == (4, 4, 3, 3)
    np.testing.assert_allclose(similarity[0, 0].diagonal(), 1)
    result = recurrence_of_classes(similarity)
    assert [r.p_value < 0.01 for r in result] == [True, True, False]
    for r in result:
        assert r.n == 4
        assert r.excess.value == pytest.approx(r.same - r.different)
        assert r.excess.low < r.excess.value < r.excess.high
    assert result[0].excess.low > 0.5
    assert result[2].excess.low < 0.1


def test_pictures_without_anything_in_common_seldom_recur() -> None:
    false_alarms = 0
    for seed in range(40):
        sets = [prototypes(seed * 10 + number) for number in range(4)]
        result = recurrence_of_classes(similarity_of_classes(sets, LABELS))
        false_alarms += sum(r.p_value < 0.05 for r in result)
    assert false_alarms <= 14  # of 120; 6 expected


def test_two_sets_have_no_interval() -> None:
    result = recurrence_of_classes(similarity_of_classes(repeated(0.3, 2), LABELS))
    assert all(math.isnan(r.excess.low) and math.isnan(r.p_value) and r.same > 0.5 for r in result)
    with pytest.raises(ValueError, match="at least two"):
        recurrence_of_classes(similarity_of_classes(repeated(0.3, 1), LABELS))
