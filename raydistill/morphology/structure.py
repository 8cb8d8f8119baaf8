"""Measure a galaxy's structure with statmorph: CAS, Gini, M20 and Sérsic profile.

The numbers are those of Rodriguez-Gomez et al. 2019 (MNRAS 483, 4140). Their conditions, and how
they are met in a stretched RGB picture:

- Image: the mean of the channels. The sky is measured in the corners, outside the largest circle.
- Segmentation: photutils' connected pixels above twice the sky's noise, in a slightly smoothed
  picture. The largest source near the centre is the galaxy. It is not deblended, which would cut
  off arms; all other sources are masked.
- Noise: equal for all pixels, that of the sky. The gain is unknown and the stretch hides Poisson
  noise. So the Sérsic fit weights all pixels equally.
- PSF: unknown, so the Sérsic profile is not deconvolved.

statmorph's flags are returned: 0 good, 1 suspect, 2 bad, 4 not measured. Here 4 also stands for a
picture that it cannot measure at all, with the reason.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from raydistill.galaxies.pictures.levels import clipped_sky
from raydistill.morphology.pictures import corners

# Find a picture's sources with photutils: those above the noise of the sky.

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
    width = max(1, min(brightness.shape) // BORDER)
    border = np.ones(brightness.shape, bool)
    border[width:-width, width:-width] = False
    median, deviation = clipped_sky(brightness[border])
    return median, max(deviation, LEAST_NOISE)


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
    segm = connected_sources(brightness - sky, sigmas * noise, min_area)
    if segm is None:
        return np.zeros(brightness.shape, np.int32)
    parts = deblend_sources(brightness - sky, segm, min_area, contrast=DEBLENDING, mode="linear", progress_bar=False)
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
    segm = connected_sources(brightness, sigmas * noise, min_area)
    if segm is None:
        return np.zeros(brightness.shape, np.bool_)
    inside = np.where(segm.data > 0, brightness, -np.inf)
    return np.asarray(segm.data == segm.data.flat[inside.argmax()], np.bool_)


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


THRESHOLD = 2.0  # standard deviations of the smoothed sky
MIN_AREA = 12  # px of a source
NOT_MEASURED = 4  # statmorph's flag of a picture without any result
WORST_VALID = 1  # of statmorph's flags: suspect
_MISSING = -99.0  # statmorph's number for no result
# Warnings of statmorph that set no flag.
_HARMLESS = ("Using skybox", "Reducing skybox", "Reduced stepsize", "Single clump", "segmap_mid is undefined")
_SKY_BOX = 8  # statmorph's box of sky is 1/8 of the side

# Name of a quantity -> its value in statmorph's result for a picture of `side` pixels.
STRUCTURE: dict[str, Callable[[Any, int], float]] = {
    "concentration": lambda fit, side: fit.concentration,
    "asymmetry": lambda fit, side: fit.asymmetry,
    "smoothness": lambda fit, side: fit.smoothness,
    "gini": lambda fit, side: fit.gini,
    "m20": lambda fit, side: fit.m20,
    "half_light_radius": lambda fit, side: _length(fit.rhalf_ellip, side),
    "sersic_n": lambda fit, side: fit.sersic_n,
    "sersic_radius": lambda fit, side: _length(fit.sersic_rhalf, side),
    "sersic_ellipticity": lambda fit, side: fit.sersic_ellip,
}
SERSIC = ("sersic_n", "sersic_radius", "sersic_ellipticity")  # valid if the fit is


@dataclass(frozen=True)
class Structure:
    """The structure of one galaxy.

    Attributes
    ----------
    values
        Numbers by name of `STRUCTURE`; NaN where there is none. Radii are fractions of the half-frame.
    flag
        statmorph's flag: 0 good, 1 suspect, 2 bad, 4 not measured.
    sersic_flag
        statmorph's flag of the Sérsic fit: 0 good, 1 bad, 4 not measured.
    reason
        Why it is flagged: statmorph's warnings, or its error. "" for a good measurement.
    """

    values: dict[str, float]
    flag: int
    sersic_flag: int
    reason: str = ""


def structure(light_HWC: Floats) -> Structure:
    """Return the structure of a galaxy in a picture of `light_above_sky`.

    The picture is float64 [H, H, 3].
    """
    brightness_HW = np.asarray(smooth_brightness(light_HWC), np.float64)
    sky, noise = _corner_sky(brightness_HW)
    labels_HW = _sources(brightness_HW - sky, THRESHOLD * noise)
    galaxy = central_source(labels_HW)
    if galaxy == 0:
        return _not_measured(f"no source of {MIN_AREA} pixels above {THRESHOLD:g} sigma lies near the centre")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fit = _statmorph(light_HWC.mean(-1, dtype=np.float64) - sky, labels_HW, galaxy, noise)
        except Exception as error:  # statmorph raises what its minimisers raise: no list of types is complete
            return _not_measured(f"statmorph failed: {type(error).__name__}: {error}")
    values = {name: float(value(fit, len(light_HWC))) for name, value in STRUCTURE.items()}
    values = {name: value if value != _MISSING else np.nan for name, value in values.items()}
    reasons = dict.fromkeys(str(warning.message) for warning in caught)
    reason = "; ".join(reason for reason in reasons if not any(part in reason for part in _HARMLESS))
    flagged = fit.flag or fit.flag_sersic
    return Structure(values, int(fit.flag), int(fit.flag_sersic), (reason or "flagged") if flagged else "")


def _corner_sky(brightness_HW: Floats) -> tuple[float, float]:
    """Return the rest of the sky, and its noise, in the corners of a smoothed picture."""
    corners_HW = corners(len(brightness_HW)).reshape(brightness_HW.shape)
    median, deviation = clipped_sky(brightness_HW[corners_HW])
    return median, max(deviation, LEAST_NOISE)


def _sources(brightness_HW: Floats, threshold: float) -> Labels:
    segm = connected_sources(brightness_HW, threshold, MIN_AREA)
    return np.zeros(brightness_HW.shape, np.int32) if segm is None else np.asarray(segm.data, np.int32)


def _statmorph(image_HW: Floats, labels_HW: Labels, galaxy: int, noise: float) -> Any:
    """Return statmorph's result for one source, with all others masked."""
    from statmorph import SourceMorphology  # a slow import

    return SourceMorphology(
        image_HW,
        (labels_HW == galaxy).astype(np.int32),
        1,
        mask=(labels_HW > 0) & (labels_HW != galaxy),
        weightmap=np.full(image_HW.shape, noise),
        skybox_size=max(2, len(image_HW) // _SKY_BOX),
        verbose=True,  # warn of every reason for a flag
    )


def _length(pixels: float, side: int) -> float:
    """Return a length as a fraction of the half-frame."""
    return pixels if pixels == _MISSING else 2 * pixels / side


def _not_measured(reason: str) -> Structure:
    return Structure(dict.fromkeys(STRUCTURE, np.nan), NOT_MEASURED, NOT_MEASURED, reason)
