"""Test profiles and colours of galaxies with known light."""

from __future__ import annotations

import numpy as np
import pytest

from raydistill.morphology.pictures import MIN_LIGHT, light_above_sky
from raydistill.morphology.shapes import (
    NUM_RINGS,
    colour_profiles,
    elliptical_weights,
    gradients,
    radial_profiles,
    ring_centres,
    ring_weights,
)
from tests.unit.morphology.galaxies import binned, elliptical_radius, picture


@pytest.mark.parametrize(("ellipticity", "angle"), [(0.0, 0.0), (0.5, 30.0), (0.8, 135.0)])
def test_rings_have_the_area_of_ellipses(ellipticity: float, angle: float) -> None:
    areas = elliptical_weights(64, ellipticity, angle).sum(1)
    edges = np.arange(NUM_RINGS + 1) * 2.0
    np.testing.assert_allclose(areas, np.pi * np.diff(edges**2) * (1 - ellipticity), rtol=1e-9)


def test_circular_rings_cover_each_pixel_inside_once() -> None:
    covered = ring_weights(32).sum(0).reshape(32, 32)
    assert covered[8:24, 8:24] == pytest.approx(1)
    assert covered.max() <= 1 + 1e-12
    assert covered[0, 0] == 0


@pytest.mark.parametrize("angle", [0.0, 25.0, 90.0, 160.0])
def test_profile_of_an_elliptical_exponential_disk_is_exponential(angle: float) -> None:
    """Along its own ellipses; circular rings would mix the axes."""
    scale, side = 10.0, 64
    light = picture(binned(np.exp(-elliptical_radius(side, 0.5, angle) / scale)))
    measured = radial_profiles(light, np.array([0.5]), np.array([angle]))[0]
    expected = np.exp(-ring_centres() * side / 2 / scale)
    np.testing.assert_allclose(measured[2:, 0], expected[2:], rtol=0.02)
    circular = radial_profiles(light, np.zeros(1), np.zeros(1))[0]
    assert circular[8, 0] < 0.8 * expected[8]


def test_colour_and_its_gradient_are_those_of_the_light() -> None:
    """Red falls more slowly than green, so the colour grows linearly with the radius."""
    side, radius = 64, elliptical_radius(64)
    channels = [binned(np.exp(-radius / scale)) for scale in (16.0, 8.0, 8.0)]
    profiles = radial_profiles(np.stack(channels, -1)[None], np.zeros(1), np.zeros(1))
    result = colour_profiles(profiles)
    slope = 2.5 * np.log10(np.e) * (1 / 8 - 1 / 16) * side / 2
    assert gradients(result["red_green"])[0] == pytest.approx(slope, rel=0.01)
    assert gradients(result["green_blue"])[0] == pytest.approx(0, abs=1e-9)
    faint = profiles[0, :, 1] < MIN_LIGHT
    assert faint.any()
    assert np.isnan(result["red_green"][0]).tolist() == faint.tolist()


def test_gradient_ignores_missing_rings_and_needs_three() -> None:
    values = np.stack([1 + 3 * ring_centres(), 1 + 3 * ring_centres(), np.full(NUM_RINGS, np.nan)])
    values[0, 5:] = np.nan
    values[1, 2:] = np.nan
    np.testing.assert_allclose(gradients(values), [3, np.nan, np.nan])


def test_values_outside_a_picture_are_clipped_and_counted() -> None:
    image = np.full((1, 32, 32, 3), 0.1)
    image[0, 16, 16], image[0, 10, 10, 0] = 1.7, -0.4
    light = light_above_sky(image)
    assert light.clipped_N[0] == pytest.approx(4 / (32 * 32 * 3))
    assert light.values_NHWC[0, 16, 16] == pytest.approx(0.9)
    assert light.values_NHWC[0, 10, 10, 0] == pytest.approx(-0.1)
    with pytest.raises(ValueError, match="H of 16 or more"):
        light_above_sky(image[:, :, :20])
