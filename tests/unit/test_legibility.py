"""The measures of `benchmarks/legibility_measures.py`, on easily made pictures.

Each measure is known for these pictures.
"""

from __future__ import annotations

import legibility_measures as measures
import numpy as np
import pytest


def blobs(count: int, side: int = 16) -> np.ndarray:
    """Return smooth asymmetric pictures [N, H, W, 3] in [0, 1]."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side - 0.5
    places = rng.uniform(-0.2, 0.2, (count, 2, 1, 1))
    light = np.exp(-((x - places[:, 0]) ** 2) / 0.02 - (y - places[:, 1]) ** 2 / 0.05)
    return np.repeat(light[..., None], 3, axis=-1)


def test_versions_are_eight_and_begin_with_the_picture() -> None:
    pictures = blobs(2)
    turned = measures.versions(pictures)
    np.testing.assert_array_equal(turned[:, 0], pictures)
    np.testing.assert_array_equal(turned[:, 1], np.rot90(pictures, 1, (1, 2)))
    assert len(np.unique(turned[0].reshape(8, -1), axis=0)) == 8


def test_turned_copy_correlates_fully_and_lies_at_no_distance() -> None:
    pictures = blobs(4)
    mirrored = np.rot90(pictures, 3, (1, 2))[:, :, ::-1]
    np.testing.assert_allclose(measures.correlation(pictures, mirrored), 1, atol=1e-6)
    np.testing.assert_allclose(measures.distance(mirrored, pictures), 0, atol=1e-6)
    assert max(measures.correlation(pictures[:2], pictures[2:])) < 0.999


def test_distance_is_the_root_mean_square_difference() -> None:
    np.testing.assert_allclose(
        measures.distance(np.full((1, 8, 8, 3), 0.5), np.full((2, 8, 8, 3), 0.2)), 0.3, rtol=1e-6
    )


@pytest.mark.parametrize(("period", "share"), [(8, 0.0), (2.5, 1.0)])
def test_fine_structure_is_the_power_of_short_waves(period: float, share: float) -> None:
    wave = 0.5 + 0.3 * np.sin(2 * np.pi * np.arange(32) / period)
    pictures = np.broadcast_to(wave[None, :, None, None], (1, 32, 32, 3))
    assert measures.fine_structure(pictures)[0] == pytest.approx(share, abs=0.01)


def test_galaxy_of_the_reference_has_ratios_near_one() -> None:
    pictures = blobs(40, 32)
    reference = measures.Reference(measures.Galaxies([pictures[:20]], [pictures[20:]]))
    for name in ("fine structure", "m = 2"):
        ratios = [reference.ratio(name, picture[None])[0] for picture in pictures[20:]]
        assert np.median(ratios) == pytest.approx(1)
    assert reference.ratio("distance", pictures[:1]) == [pytest.approx(0, abs=1e-6)]
