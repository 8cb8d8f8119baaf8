"""Class means, nearest real and most confident galaxies match their definitions."""

import numpy as np
import pytest

from raydistill.stages.distill import figures
from raydistill.stages.distill.figures import class_means, most_confident, nearest_real, nearest_real_means

RNG = np.random.default_rng(5)


def test_class_means_are_means_in_display_units() -> None:
    images = RNG.integers(0, 256, (9, 4, 5, 3), dtype=np.uint8)
    labels = np.array([0, 0, 2, 2, 2, 0, 2, 0, 0])
    means = class_means(images, labels, 4)
    np.testing.assert_allclose(means[2], images[labels == 2].mean(axis=0) / 255, rtol=1e-6)
    assert np.isnan(means[[1, 3]]).all()
    np.testing.assert_allclose(class_means(images / 255.0, labels, 4)[0], means[0], rtol=1e-6)


@pytest.mark.parametrize("block", [1, 3, 1024])
def test_nearest_real_equals_brute_force_for_any_block_size(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "NEIGHBOUR_BLOCK", block)
    queries = RNG.random((5, 4, 4, 3)).astype(np.float32)
    real = RNG.integers(0, 256, (17, 4, 4, 3), dtype=np.uint8)
    distance = np.linalg.norm((queries[:, None] - real[None] / 255.0).reshape(5, 17, -1), axis=-1)
    np.testing.assert_array_equal(nearest_real(queries, real, 6), np.argsort(distance, axis=1, kind="stable")[:, :6])


def test_a_copy_has_its_original_as_nearest_and_ties_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "NEIGHBOUR_BLOCK", 4)
    real = RNG.integers(0, 256, (10, 4, 4, 3), dtype=np.uint8)
    real[7] = real[3]
    np.testing.assert_array_equal(nearest_real(real[[7, 9]], real, 2)[:, 0], [3, 9])
    np.testing.assert_array_equal(nearest_real(real[[7]], real, 2), [[3, 7]])


def test_mean_of_all_neighbours_is_the_mean() -> None:
    real = RNG.random((6, 4, 4, 3)).astype(np.float32)
    means = nearest_real_means(real[:2], real, 6)
    np.testing.assert_allclose(means, np.stack([real.mean(axis=0)] * 2), rtol=1e-6)


def test_most_confident_first() -> None:
    labels = np.array([0, 1, 0, 0, 2, 1])
    confidence = np.array([0.5, 0.9, 0.8, 0.8, 0.1, 0.95])
    indices = most_confident(labels, confidence, 4, 2)
    assert [index.tolist() for index in indices] == [[2, 3], [5, 1], [4], []]
