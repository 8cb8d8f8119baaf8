"""Find a picture's sources with photutils: those above the noise of the sky."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Floats = npt.NDArray[np.floating]
Labels = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]

SMOOTHING = 1.0  # px: standard deviation of the filter before the threshold
BORDER = 8  # the sky is measured in a border of 1/8 of the side
DEBLENDING = 0.01  # contrast of photutils.segmentation.deblend_sources
LEAST_NOISE = 0.2 / 255  # of a smoothed picture of 8 bits


class Box(NamedTuple):
    """The corners of a box [px]; pixel n covers n to n + 1."""

    left: float
    top: float
    right: float
    bottom: float


def smooth_brightness(light: Floats) -> Floats:
    """Return the smoothed channel mean, float64 `[H, W]`, of light `[H, W, 3]`."""
    return np.asarray(ndimage.gaussian_filter(light.mean(axis=2, dtype=np.float64), SMOOTHING, mode="nearest"))


def border_sky(brightness: Floats) -> tuple[float, float]:
    """Return the sky's level and noise in the border of a smoothed picture `[H, W]`."""
    from astropy.stats import sigma_clipped_stats  # a slow import, which most processes do not need

    width = max(1, min(brightness.shape) // BORDER)
    border = np.ones(brightness.shape, bool)
    border[width:-width, width:-width] = False
    _, median, deviation = sigma_clipped_stats(brightness[border], sigma=3.0)
    return float(median), max(float(deviation), LEAST_NOISE)


def find_sources(light: Floats, sigmas: float, min_area: int) -> Labels:
    """Return the sources of a picture, separated where they overlap.

    Parameters
    ----------
    light : float `[H, W, 3]`
        Linear light, with the sky.
    sigmas
        Threshold above the sky, in units of the noise of the smoothed brightness.
    min_area
        Smallest area of a source [px].

    Returns
    -------
    int32 `[H, W]`
        Numbers of the sources, from 1; 0 is sky.
    """
    from photutils.segmentation import deblend_sources  # a slow import, which most processes do not need

    brightness = smooth_brightness(light)
    sky, noise = border_sky(brightness)
    found = connected_sources(brightness - sky, sigmas * noise, min_area)
    if found is None:
        return np.zeros(brightness.shape, np.int32)
    parts = deblend_sources(brightness - sky, found, min_area, contrast=DEBLENDING, mode="linear", progress_bar=False)
    return np.asarray(parts.data, np.int32)


def central_source(labels: Labels) -> int:
    """Return the number of the largest source in the central quarter; 0 if none."""
    height, width = labels.shape
    middle = labels[3 * height // 8 : -(3 * height // 8), 3 * width // 8 : -(3 * width // 8)]
    counts = np.bincount(middle.ravel())
    counts[0] = 0
    return int(counts.argmax())


def visible_part(light: Floats, noise: float, sigmas: float, min_area: int) -> Bools:
    """Return the pixels of a lone source that exceed the threshold of `find_sources`.

    Parameters
    ----------
    light : float `[H, W, 3]`
        The source alone.
    noise
        Of the smoothed brightness of the field.
    sigmas, min_area
        As in `find_sources`.

    Returns
    -------
    bool `[H, W]`
        The connected part with the brightest pixel. Empty if it has fewer than `min_area` pixels.
    """
    brightness = smooth_brightness(light)
    found = connected_sources(brightness, sigmas * noise, min_area)
    if found is None:
        return np.zeros(brightness.shape, np.bool_)
    inside = np.where(found.data > 0, brightness, -np.inf)
    return np.asarray(found.data == found.data.flat[inside.argmax()], np.bool_)


def connected_sources(brightness: Floats, threshold: float, min_area: int) -> Any:
    """Return the `SegmentationImage` of connected pixels above a threshold, or None."""
    from photutils.segmentation import detect_sources

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No sources were found")
        return detect_sources(brightness, threshold, min_area)


def box_of(mask: Bools) -> Box:
    """Return the smallest box around a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
