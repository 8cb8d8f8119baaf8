"""Distances of samples against closed forms, brute force and torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest

from raydistill.imports import import_beside_torchvision
from raydistill.stages.audit.metrics.distances import (
    diversity,
    frechet,
    kernel_distance,
    sliced_wasserstein,
    wasserstein,
)
from raydistill.statistics.permutation import MAX_COMPONENTS, Frame, Groups, PooledStatistic, two_groups
from tests.unit.stages.audit.planted import of_samples


def samples(n: int, m: int, d: int = 6, shift: float = 0.3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(shift, 1.2, size=(m, d))


def whitened(sample: np.ndarray) -> np.ndarray:
    """Return a sample with mean exactly 0 and covariance exactly the identity."""
    centred = sample - sample.mean(0)
    return centred @ np.linalg.inv(np.linalg.cholesky(np.cov(centred.T))).T


def test_frechet_of_gaussians_is_the_closed_form() -> None:
    x, y = samples(80, 50)
    scales, shift = np.array([0.5, 1, 2, 3, 1, 0.1]), np.arange(6.0)
    pooled = np.concatenate([whitened(x), whitened(y) * scales + shift])
    expected = (shift**2).sum() + ((scales - 1) ** 2).sum()  # commuting covariances
    np.testing.assert_allclose(of_samples(frechet(pooled, "x"), 80, 50), expected, rtol=1e-10)


def test_frechet_is_zero_for_equal_samples_with_fewer_pictures_than_features() -> None:
    x = np.random.default_rng(0).normal(size=(10, 30))
    assert of_samples(frechet(np.concatenate([x, x[::-1]]), "x"), 10, 10) == pytest.approx(0, abs=1e-5)


def test_kernel_distance_is_the_sum_over_pairs() -> None:
    x, y = samples(7, 5)

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / 6 + 1) ** 3)

    within = [np.mean([kernel(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]) for z in (x, y)]
    between = np.mean([kernel(a, b) for a in x for b in y])
    value = of_samples(kernel_distance(np.concatenate([x, y]), "x"), 7, 5)
    np.testing.assert_allclose(value, sum(within) - 2 * between, rtol=1e-12)


def test_kernel_distance_is_unbiased() -> None:
    rng = np.random.default_rng(0)
    values = [of_samples(kernel_distance(rng.normal(size=(40, 3)), "x"), 20, 20)[0] for _ in range(400)]
    assert abs(np.mean(values)) < 3 * np.std(values) / 20


def test_wasserstein_of_a_shifted_sample_is_the_shift() -> None:
    x, _ = samples(40, 1)
    shift = np.array([0, 0.1, 1, 10, -2, -0.5])
    value = of_samples(wasserstein(np.concatenate([x, x[::-1] + shift]), tuple("abcdef")), 40, 40)
    np.testing.assert_allclose(value, np.abs(shift), atol=1e-12)


def test_wasserstein_equals_scipy_for_samples_of_different_size() -> None:
    from scipy.stats import wasserstein_distance

    x, y = samples(30, 17)
    expected = [wasserstein_distance(x[:, i], y[:, i]) for i in range(6)]
    value = of_samples(wasserstein(np.concatenate([x, y]), tuple("abcdef")), 30, 17)
    np.testing.assert_allclose(value, expected, rtol=1e-12)


def test_sliced_wasserstein_of_a_shift_is_its_mean_projection() -> None:
    """Expect 2 / pi, the mean of |cos| over directions of the plane.

    64 directions estimate it to 5 %.
    """
    x, _ = samples(50, 1, d=2)
    value = of_samples(sliced_wasserstein(np.concatenate([x, x + np.array([3.0, 0.0])]), "x"), 50, 50)
    np.testing.assert_allclose(value, 3 * 2 / np.pi, rtol=0.15)


def test_diversity_is_the_ratio_of_mean_distances() -> None:
    x, _ = samples(20, 1)
    assert of_samples(diversity(np.concatenate([x, 3 * x]), "x"), 20, 20) == pytest.approx(3)
    collapsed = np.concatenate([x, np.repeat(x[:1], 20, axis=0)])
    assert of_samples(diversity(collapsed, "x"), 20, 20) == pytest.approx(0, abs=1e-7)
    assert np.isnan(of_samples(diversity(collapsed[::-1].copy(), "x"), 20, 20)).all()


STATISTICS = [
    lambda pooled: frechet(pooled, "x"),
    lambda pooled: kernel_distance(pooled, "x"),
    lambda pooled: sliced_wasserstein(pooled, "x"),
    lambda pooled: wasserstein(pooled, tuple("abcdef")),
    lambda pooled: diversity(pooled, "x"),
]


@pytest.mark.parametrize("prepare", STATISTICS)
def test_pictures_left_out_have_no_influence(prepare: object) -> None:
    x, y = samples(25, 25)
    pooled = np.concatenate([x, y])
    groups: Groups = two_groups(25, 25)
    groups[[3, 30, 31]] = 0
    whole: PooledStatistic = prepare(pooled)  # type: ignore[operator]
    part: PooledStatistic = prepare(pooled[groups != 0])  # type: ignore[operator]
    np.testing.assert_allclose(whole.evaluate(groups[None])[0], of_samples(part, 24, 23), rtol=1e-9)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the packages that torchmetrics imports
def test_frechet_and_kernel_distance_equal_torchmetrics() -> None:
    import torch

    fid, kid = (import_beside_torchvision(f"torchmetrics.image.{name}") for name in ("fid", "kid"))
    x, y = samples(60, 60)
    pooled = np.concatenate([x, y])
    moments = [torch.from_numpy(moment) for z in (x, y) for moment in (z.mean(0), np.cov(z.T))]
    assert of_samples(frechet(pooled, "x"), 60, 60) == pytest.approx(float(fid._compute_fid(*moments)), rel=1e-9)
    theirs = float(kid.poly_mmd(torch.from_numpy(x), torch.from_numpy(y)))
    assert of_samples(kernel_distance(pooled, "x"), 60, 60) == pytest.approx(theirs, rel=1e-9)


def test_frame_standardises_and_keeps_the_largest_components() -> None:
    rng = np.random.default_rng(0)
    sample = rng.normal(size=(200, 100)) * np.arange(1, 101) + 5
    sample[:, 0] = 7.0
    framed = Frame.fit(sample).apply(sample)
    assert framed.shape == (200, MAX_COMPONENTS)
    np.testing.assert_allclose(framed.mean(0), 0, atol=1e-9)
    variances = framed.var(0)
    assert (np.diff(variances) <= 1e-9).all()
    whole = np.linalg.eigvalsh(np.corrcoef(sample[:, 1:].T))[::-1]
    np.testing.assert_allclose(variances, whole[:MAX_COMPONENTS], rtol=1e-6)
