"""Test the ellipse of moments and the Fourier components of known patterns."""

from __future__ import annotations

import numpy as np
import pytest

from raydistill.morphology.shapes import NUM_RINGS, ORDERS, fourier_components, moment_ellipses, pattern
from tests.unit.morphology.galaxies import azimuth, sersic


@pytest.mark.parametrize("ellipticity", [0.2, 0.5])
@pytest.mark.parametrize("angle", [0.0, 20.0, 90.0, 140.0])
def test_ellipse_of_a_flattened_disk_is_its_own(ellipticity: float, angle: float) -> None:
    result = moment_ellipses(sersic(96, 9, 1, ellipticity, angle)[None])
    assert result.ellipticity_N[0] == pytest.approx(ellipticity, abs=0.06)
    assert np.cos(2 * np.radians(result.position_angle_N[0] - angle)) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("side", [32, 33, 64])
@pytest.mark.parametrize("order", ORDERS)
def test_a_pure_pattern_returns_its_amplitude_and_phase(side: int, order: int) -> None:
    amplitude, phase = 0.3, 20.0
    light = 0.5 * (1 + amplitude * np.cos(order * (azimuth(side) - np.radians(phase))))
    components = fourier_components(light[None])
    fitted = np.isfinite(components[0, :, 0].real)
    assert fitted.sum() > NUM_RINGS // 2
    expected = np.where(np.array(ORDERS) == order, amplitude, 0)
    np.testing.assert_allclose(np.abs(components[0, fitted]), np.tile(expected, (fitted.sum(), 1)), atol=1e-9)
    result = pattern(components, order)
    assert result.amplitude_N[0] == pytest.approx(amplitude)
    assert result.phase_N[0] == pytest.approx(phase)
    assert result.coherence_N[0] == pytest.approx(1)


def test_turning_a_picture_changes_only_the_phase() -> None:
    light = np.random.default_rng(0).uniform(0.2, 0.8, (1, 48, 48))
    first, turned = fourier_components(light), fourier_components(np.rot90(light, axes=(1, 2)))  # anticlockwise
    np.testing.assert_allclose(np.abs(first), np.abs(turned), atol=1e-9)
    before, after = pattern(first, 2), pattern(turned, 2)
    assert (after.phase_N[0] - before.phase_N[0]) % 180 == pytest.approx(90)
    assert after.coherence_N[0] == pytest.approx(before.coherence_N[0])


def test_spiral_arms_are_less_coherent_than_a_bar_of_equal_amplitude() -> None:
    side = 64
    radius = np.hypot(*(np.mgrid[:side, :side] - (side - 1) / 2))
    bar = 0.5 * (1 + 0.4 * np.cos(2 * azimuth(side)))
    arms = 0.5 * (1 + 0.4 * np.cos(2 * azimuth(side) - 4 * np.log(radius + 1)))
    result = pattern(fourier_components(np.stack([bar, arms])), 2)
    assert result.amplitude_N == pytest.approx([0.4, 0.4], rel=0.03)
    assert result.coherence_N[0] == pytest.approx(1)
    assert result.coherence_N[1] < 0.7


def test_rings_without_light_have_no_components() -> None:
    light = np.zeros((1, 64, 64))
    light[0, 24:40, 24:40] = 0.5
    components = fourier_components(light)
    assert np.isnan(components[0, -4:]).all()
    assert np.isnan(pattern(components, 2).amplitude_N[0])
