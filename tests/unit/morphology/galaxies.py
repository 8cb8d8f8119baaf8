"""Galaxies with known profiles, without sky and noise."""

from __future__ import annotations

import numpy as np
from scipy.special import gammaincinv

from raydistill.statistics.permutation import Floats

SUBPIXELS = 5


def elliptical_radius(side: int, ellipticity: float = 0.0, angle: float = 0.0) -> Floats:
    """Return the semi-major axis through each sub-pixel, float64 [side * 5, side * 5].

    `angle` counts from the horizontal axis towards the top, in degrees.
    """
    offsets = (np.arange(side * SUBPIXELS) + 0.5) / SUBPIXELS - side / 2
    y, x = np.meshgrid(-offsets, offsets, indexing="ij")
    turn = np.radians(angle)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    return np.hypot(along, across / (1 - ellipticity))


def binned(light: Floats) -> Floats:
    """Return the mean of the sub-pixels of each pixel."""
    side = len(light) // SUBPIXELS
    return light.reshape(side, SUBPIXELS, side, SUBPIXELS).mean((1, 3))


def picture(brightness: Floats, colour: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Floats:
    """Return one picture [1, side, side, 3]."""
    return (brightness[..., None] * np.array(colour))[None]


def sersic(
    side: int, radius: float, n: float, ellipticity: float = 0.0, angle: float = 0.0, peak: float = 0.5
) -> Floats:
    """Return a Sérsic profile, float64 [side, side], with effective radius in pixels."""
    b = gammaincinv(2 * n, 0.5)
    light = np.exp(-b * ((elliptical_radius(side, ellipticity, angle) / radius) ** (1 / n)))
    return binned(light) * peak


def azimuth(side: int) -> Floats:
    """Return the angle of each pixel's centre in radians.

    It counts from the horizontal axis towards the top.
    """
    offsets = np.arange(side) - (side - 1) / 2
    y, x = np.meshgrid(-offsets, offsets, indexing="ij")
    return np.arctan2(y, x)
