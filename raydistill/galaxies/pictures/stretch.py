"""Choose one asinh stretch for all FITS files of a survey.

It follows the noise and flux of a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from raydistill.errors import CatalogError

# SDSS pictures have a stretch of 0.35 nmgy and a noise of 0.015 nmgy in the mean of three bands.
_STRETCH_PER_NOISE = 24.0
# The level of the brightest 0.5 % of the pixels at Q = 10 is then 200 of 255.
_BRIGHT_PERCENTILE, _BRIGHT_PER_STRETCH = 99.5, 50.0
_MAX_PIXELS = 40_000  # of a file; more do not change the medians


class Stretch(NamedTuple):
    """The linear width, and each band's black level, in the unit of the scaled bands."""

    stretch: float
    minimum: tuple[float, float, float]


def choose_stretch(sample: Sequence[Sequence[np.ndarray]], where: str) -> Stretch:
    """Return a stretch that shows noise as dark grey and galaxies without saturation.

    Parameters
    ----------
    sample : sequence of three arrays `[H, W]`
        The scaled bands of some files, red first. NaN is ignored.
    where : str
        Path of the survey, for the error message.

    Raises
    ------
    CatalogError
        If no file of the sample has structure, or pixels that are finite in every band.

    Notes
    -----
    The sky of a band is the median of its sigma-clipped pixels, and black is one standard deviation
    below it. The stretch follows the noise of the bands' mean, or its brightest pixels where there
    is little noise. Files in another unit, or with another sky, give the same pictures.
    """
    files = [_subsample(np.stack(list(bands)).astype(np.float64)) for bands in sample]
    files = [file for file in files if file.size]
    if not files:
        what = "in the sampled files, no pixel is finite in all three bands"
        raise CatalogError(what, where, "check survey.images.channels")
    clipped = np.array([[_clipped(band) for band in file] for file in files])
    sky, deviation = np.median(clipped, axis=0).T
    light = [(file - sky[:, None]).mean(axis=0) for file in files]
    noise = float(np.median([_clipped(pixels)[1] for pixels in light]))
    bright = float(np.percentile(np.concatenate(light), _BRIGHT_PERCENTILE))
    stretch = max(_STRETCH_PER_NOISE * noise, bright / _BRIGHT_PER_STRETCH)
    if not stretch > 0:
        raise CatalogError("the sampled files have no structure", where, "check survey.images.channels")
    digits = 3 - int(np.floor(np.log10(stretch)))  # rounded: the last bits depend on the processor
    red, green, blue = (round(float(level), digits) for level in sky - deviation)
    return Stretch(round(stretch, digits - 1), (red, green, blue))


def _subsample(bands: np.ndarray) -> np.ndarray:
    """Return the pixels `[3, N]` that are finite in every band, at most `_MAX_PIXELS`."""
    pixels = bands.reshape(3, -1)
    pixels = pixels[:, np.isfinite(pixels).all(axis=0)]
    return pixels[:, :: max(1, pixels.shape[1] // _MAX_PIXELS)]


def _clipped(pixels: np.ndarray) -> tuple[float, float]:
    """Return median and standard deviation of the sky, without pixels beyond 3 sigma."""
    from astropy.stats import sigma_clipped_stats

    _, median, deviation = sigma_clipped_stats(pixels, sigma=3)
    return float(median), float(deviation)
