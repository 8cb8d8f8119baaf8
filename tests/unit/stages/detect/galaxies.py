"""Pictures of galaxies with known light: exponential disks on a sky with noise."""

from __future__ import annotations

import numpy as np

from raydistill.simulation.injections.base import SDSS_CONTRAST, to_picture

SKY, NOISE = 0.03, 0.008


def disk(size: int, row: float, column: float, length: float, peak: float = 0.5) -> np.ndarray:
    """Return the light `[size, size, 3]` of a round disk with this scale length [px]."""
    rows, columns = np.arange(size)[:, None] - row, np.arange(size) - column
    return peak * np.exp(-np.sqrt(rows**2 + columns**2) / length)[..., None] * np.ones(3)


def observed(light: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return the picture of light on a sky with white noise, uint8."""
    noise = np.random.default_rng(seed).normal(SKY, NOISE, light.shape)
    return to_picture(light + noise, SDSS_CONTRAST)
