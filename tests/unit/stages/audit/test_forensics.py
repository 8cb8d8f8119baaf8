"""Test scores of single pictures: what is planted is found, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from raydistill.learning.networks import shared_network
from raydistill.learning.training import predict_logits
from raydistill.runtime.resources import Processor
from raydistill.stages.audit import forensics
from raydistill.stages.audit.forensics import (
    FOLDS,
    NETWORK,
    STREAMS,
    Detector,
    DetectorFit,
    Pictures,
    area,
    calibrated,
    folds_of,
    seen,
    train_detector,
)

SIZE, SEED = 16, 3


def galaxies(count: int, seed: int, smoothing: float = 0.0) -> Pictures:
    """Return round galaxies on a noisy sky, 16 px wide."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    sigma = rng.uniform(1.5, 3.5, (count, 1, 1))
    light = 0.8 * np.exp(-(x**2 + y**2) / (2 * sigma**2))
    noise = rng.normal(0.08, 0.03, (count, SIZE, SIZE, 3))
    if smoothing:
        noise = ndimage.gaussian_filter(noise, (0, smoothing, smoothing, 0))
    pixels = np.rint(255 * np.clip(light[..., None] + noise, 0, 1)).astype(np.uint8)
    return Pictures(pixels, [f"{seed}-{number}" for number in range(count)])


@pytest.fixture(scope="module")
def detector() -> Detector:
    """Return a detector of smooth noise, trained on 120 pictures of each kind."""
    pictures = galaxies(120, 0), galaxies(120, 1, smoothing=0.7)
    fits = [DetectorFit(stream, fold) for stream in STREAMS for fold in range(FOLDS)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forensics, "TRAINING", replace(forensics.TRAINING, steps=150))
        thetas = {fit: train_detector(*pictures, fit, SEED, Processor(1, 0)).theta_P for fit in fits}
    return calibrated(thetas, *pictures, SEED)


def test_planted_pictures_get_high_scores_and_real_ones_low(detector: Detector) -> None:
    real, planted = (detector.score(galaxies(100, 7 + n, smoothing=0.7 * n)) for n in range(2))
    found = area(planted, real)
    assert found.value > 0.95
    assert found.low <= found.value <= found.high <= 1
    assert real.mean() < 0.3
    assert planted.mean() > 0.7


def test_scores_of_equal_kinds_are_chance(detector: Detector) -> None:
    scores = [detector.score(galaxies(200, seed)) for seed in range(20, 40)]
    areas = [area(*pair) for pair in zip(scores[::2], scores[1::2], strict=True)]
    assert np.mean([one.value for one in areas]) == pytest.approx(0.5, abs=0.03)  # three standard errors
    assert sum(one.low < 0.5 < one.high for one in areas) >= 8


def test_a_picture_is_scored_by_networks_that_have_not_seen_its_galaxy(detector: Detector) -> None:
    """The galaxy decides, for a synthetic picture too."""
    pictures = galaxies(120, 0)
    fold_N = folds_of(pictures.galaxies, SEED)
    assert min(np.bincount(fold_N)) > 40
    logits_N = detector.logits(pictures)
    network = shared_network(NETWORK, 2, SIZE)
    for fold in range(FOLDS):
        rows = fold_N == fold
        outputs = [
            predict_logits(network, torch.tensor(theta), seen(torch.from_numpy(pictures.images_NHWC[rows]), fit.stream))
            for fit, theta in detector.thetas.items()
            if fit.fold == fold
        ]
        expected = np.mean([(out[:, 1] - out[:, 0]).numpy() for out in outputs], axis=0)
        np.testing.assert_allclose(logits_N[rows], expected, rtol=1e-5, atol=1e-5)
    moved = [pictures.galaxies[row] for row in np.argsort(fold_N)]
    assert np.abs(detector.logits(Pictures(pictures.images_NHWC, moved)) - logits_N).max() > 0.01


def test_a_single_picture_and_none_can_be_scored(detector: Detector) -> None:
    assert [len(detector.score(Pictures(galaxies(3, 5).images_NHWC[:n], ["a"] * n))) for n in range(2)] == [0, 1]


def test_area_has_an_interval_for_samples_of_any_size() -> None:
    rng = np.random.default_rng(0)
    found = area(rng.normal(1, 1, 4500), rng.normal(0, 1, 200))
    assert found.low < 0.76 < found.high


def test_each_stream_can_be_used_alone(detector: Detector) -> None:
    pictures = galaxies(30, 5)
    both = detector.logits(pictures)
    alone = [detector.logits(pictures, streams=(stream,)) for stream in STREAMS]
    np.testing.assert_allclose(both, np.mean(alone, axis=0), rtol=1e-6, atol=1e-6)
    assert np.abs(alone[0] - alone[1]).max() > 0.01


def test_edges_do_not_depend_on_the_sky() -> None:
    pictures = torch.from_numpy(galaxies(4, 5).images_NHWC).clamp(max=200)
    torch.testing.assert_close(seen(pictures, "edges"), seen(pictures + 20, "edges"), rtol=0, atol=1e-4)
    assert not torch.equal(seen(pictures, "appearance"), seen(pictures + 20, "appearance"))


def test_training_again_gives_equal_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forensics, "TRAINING", replace(forensics.TRAINING, steps=10))
    pictures = galaxies(40, 0), galaxies(40, 1, smoothing=0.7)
    first, second = (train_detector(*pictures, DetectorFit("edges", 1), SEED, Processor(1, 0)) for _ in range(2))
    np.testing.assert_array_equal(first.theta_P, second.theta_P)
