"""Precision, recall, density and coverage against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from raydistill.stages.audit.metrics.distances import neighbour_metrics
from tests.unit.stages.audit.planted import of_samples


def by_definition(real: np.ndarray, synthetic: np.ndarray, k: int) -> list[float]:
    """Return the four numbers as the papers define them, with loops over all pairs."""

    def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))

    between = distances(real, synthetic)
    real_radius = np.sort(distances(real, real), axis=1)[:, k]
    synthetic_radius = np.sort(distances(synthetic, synthetic), axis=1)[:, k]
    inside = between <= real_radius[:, None]
    return [
        inside.any(0).mean(),
        (between <= synthetic_radius).any(1).mean(),
        inside.sum(0).mean() / k,
        inside.any(1).mean(),
    ]


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize(("shift", "spread"), [(0.0, 1.0), (1.0, 0.7), (3.0, 0.05)])
def test_metrics_follow_their_definitions(shift: float, spread: float, k: int) -> None:
    rng = np.random.default_rng(0)
    real, synthetic = rng.normal(size=(150, 3)), rng.normal(shift, spread, size=(130, 3))
    value = of_samples(neighbour_metrics(np.concatenate([real, synthetic]), "x", k), 150, 130)
    np.testing.assert_allclose(value, by_definition(real, synthetic, k), rtol=1e-12)


def test_identical_and_distant_samples_are_the_extremes() -> None:
    x = np.random.default_rng(0).normal(size=(40, 2))
    np.testing.assert_allclose(
        of_samples(neighbour_metrics(np.concatenate([x, x]), "x"), 40, 40)[[0, 1, 3]], 1, rtol=1e-12
    )
    np.testing.assert_array_equal(of_samples(neighbour_metrics(np.concatenate([x, x + 99]), "x"), 40, 40), 0)


def test_repeated_synthetic_pictures_lower_recall_and_coverage() -> None:
    rng = np.random.default_rng(0)
    real, few = rng.normal(size=(100, 2)), rng.normal(size=(5, 2))
    precision, recall, _, coverage = of_samples(
        neighbour_metrics(np.concatenate([real, np.repeat(few, 20, axis=0)]), "x"), 100, 100
    )
    assert precision > 0.5
    assert recall < 0.1
    assert coverage < 0.4
