"""Measure the morphology of galaxy pictures: light, size, shape and colour.

The definitions are those of Conselice 2003 (concentration, asymmetry) and Lotz et al. 2004 (Gini,
M20, segmentation at the Petrosian radius), as in statmorph (Rodriguez-Gomez et al. 2019). The
pictures are stretched composites, not photometry, so the numbers serve to compare two sets of
pictures of one kind. The galaxy is expected at the centre, as curation leaves it.

Shape suffixes: N pictures, P pixels of a picture, R radii.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from raydistill.statistics.permutation import Bools, Floats

QUANTITIES = (
    "flux",  # log10 of the mean brightness of the picture
    "half_light_radius",  # of the picture's side
    "concentration",  # 5 log10(r80 / r20)
    "asymmetry",
    "gini",
    "m20",
    "ellipticity",  # 1 - b / a
    "colour_red_green",  # 2.5 log10 of the ratio of the channels' light
    "colour_green_blue",
)
PETROSIAN_RATIO = 0.2  # local over mean surface brightness (Petrosian 1976; SDSS)
APERTURE = 1.5  # Petrosian radii: the total light, as in statmorph
COLOUR_RANGE = 2.5  # the ratio of two channels is cut at 10: a channel may hold no light
FAINTEST = 1e-6  # mean brightness below which a picture counts as empty
_RADII_PER_PIXEL, _SUBPIXELS = 2, 5
BATCH = 256


def morphology(pictures_NHWC: npt.NDArray[np.floating]) -> Floats:
    """Return the `QUANTITIES` of pictures.

    Parameters
    ----------
    pictures_NHWC
        Pictures [N, H, H, 3], black 0 and white 1.

    Returns
    -------
    ndarray
        float64 [N, 9], always finite. A picture without light above its background has flux and
        zeros elsewhere.
    """
    parts = [_measure(pictures_NHWC[n : n + BATCH].astype(float)) for n in range(0, len(pictures_NHWC), BATCH)]
    return np.concatenate([np.empty((0, len(QUANTITIES))), *parts])


class Extent(NamedTuple):
    """The extent of the galaxies in pictures.

    Attributes
    ----------
    growth_NR
        float64 [N, R]: light inside the apertures of `radii`.
    aperture_N
        float64 [N]: radius of the total light in pixels.
    inside_NP
        bool [N, P]: pixels inside that radius.
    galaxy_NP
        bool [N, P]: those as bright as the galaxy at its Petrosian radius.
    """

    growth_NR: Floats
    aperture_N: Floats
    inside_NP: Bools
    galaxy_NP: Bools


def subtract_sky(pictures_NHWC: Floats) -> Floats:
    """Return pixels less the median of the corners, per channel, float64 [N, P, 3]."""
    pixels_NPC = pictures_NHWC.reshape(len(pictures_NHWC), -1, 3)
    return pixels_NPC - np.median(pixels_NPC[:, corners(pictures_NHWC.shape[1])], axis=1, keepdims=True)


def find_extent(light_NP: Floats, side: int) -> Extent:
    """Return the extent of the galaxies in pictures without sky."""
    growth_NR = light_NP @ aperture_weights(side)
    petrosian_N, threshold_N = petrosian(growth_NR, side)
    aperture_N = np.minimum(APERTURE * petrosian_N, side / 2)
    inside_NP = radius_of_pixels(side) <= aperture_N[:, None]
    return Extent(growth_NR, aperture_N, inside_NP, inside_NP & (smooth(light_NP, side) >= threshold_N[:, None]))


def _measure(pictures: Floats) -> Floats:
    side = pictures.shape[1]
    light_NPC = subtract_sky(pictures)
    light_NP = light_NPC.mean(-1)
    growth_NR, aperture_N, inside_NP, galaxy_NP = find_extent(light_NP, side)
    r20, r50, r80 = (radius_of_light(growth_NR, aperture_N, side, share) for share in (0.2, 0.5, 0.8))
    pixels_NPC, corners_P = pictures.reshape(len(pictures), -1, 3), corners(side)
    values = [
        np.log10(pixels_NPC.mean((1, 2)).clip(FAINTEST)),
        r50 / side,
        5 * np.log10(np.divide(r80, r20, out=np.ones_like(r80), where=r20 > 0)),
        asymmetry(light_NP, inside_NP, corners_P, side),
        gini(light_NP, galaxy_NP),
        m20(light_NP, galaxy_NP, side),
        ellipticity(light_NP, galaxy_NP, side),
        *colours(light_NPC, inside_NP),
    ]
    empty_N = ((light_NP * inside_NP).mean(1) < FAINTEST) | ~galaxy_NP.any(1)
    result = np.stack(values, axis=1)
    result[empty_N, 1:] = 0
    return np.nan_to_num(result, nan=0.0, posinf=0.0, neginf=0.0)


@functools.cache
def radius_of_pixels(side: int) -> Floats:
    """Return the pixels' distances to the picture's centre, float64 [P], in pixels."""
    y, x = coordinates(side)
    return np.hypot(y, x)


def corners(side: int) -> Bools:
    """Return which pixels lie outside the largest circle in the picture, bool [P]."""
    return radius_of_pixels(side) > side / 2


@functools.cache
def coordinates(side: int) -> tuple[Floats, Floats]:
    """Return y (downwards) and x of the pixel centres [P], from the picture's centre."""
    offsets = np.arange(side) - (side - 1) / 2
    y, x = np.meshgrid(offsets, offsets, indexing="ij")
    return y.ravel(), x.ravel()


def radii(side: int) -> Floats:
    """Return the aperture radii in pixels, float64 [R], evenly spaced up to side / 2."""
    return np.arange(1, side // 2 * _RADII_PER_PIXEL + 1) / _RADII_PER_PIXEL


@functools.cache
def aperture_weights(side: int) -> Floats:
    """Return the share of each pixel's area inside each aperture, float64 [P, R]."""
    y, x = coordinates(side)
    inner = (np.arange(_SUBPIXELS) + 0.5) / _SUBPIXELS - 0.5
    weights = np.zeros((side * side, len(radii(side))))
    for dy in inner:
        for dx in inner:
            weights += np.hypot(y + dy, x + dx)[:, None] <= radii(side)
    return weights / _SUBPIXELS**2


def petrosian(growth_NR: Floats, side: int) -> tuple[Floats, Floats]:
    """Return the Petrosian radius [px] and surface brightness there, each float64 [N].

    A picture whose profile never falls to `PETROSIAN_RATIO` gets the largest radius.
    """
    area_R = aperture_weights(side).sum(0)
    first = np.zeros((len(growth_NR), 1))
    local_NR = np.diff(growth_NR, axis=1, prepend=first) / np.diff(area_R, prepend=0)
    # Average each ring with its neighbours: a ring of half a pixel holds few pixels.
    padded = np.pad(local_NR, ((0, 0), (1, 1)), mode="edge")
    local_NR = (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / 3
    below = local_NR < PETROSIAN_RATIO * growth_NR / area_R
    below[:, 0] = False
    index = np.where(below.any(1), below.argmax(1), below.shape[1] - 1)
    return radii(side)[index], np.maximum(local_NR[np.arange(len(index)), index], 0)


def radius_of_light(growth_NR: Floats, aperture_N: Floats, side: int, share: float) -> Floats:
    """Return the radius [px] that holds a share of the aperture's light, float64 [N]."""
    edges = np.concatenate([[0.0], radii(side)])
    growth = np.maximum.accumulate(np.pad(growth_NR, ((0, 0), (1, 0))), axis=1)
    result = np.empty(len(growth))
    for n, curve in enumerate(growth):
        wanted = share * np.interp(aperture_N[n], edges, curve)
        after = min(int(np.searchsorted(curve, wanted)), len(edges) - 1)
        before = max(after - 1, 0)
        step = curve[after] - curve[before]
        part = (wanted - curve[before]) / step if step > 0 else 1.0
        # Light grows with the area, so interpolate in the square of the radius.
        result[n] = np.sqrt(edges[before] ** 2 + part * (edges[after] ** 2 - edges[before] ** 2))
    return result


def smooth(light_NP: Floats, side: int) -> Floats:
    """Return pictures averaged over 3 x 3 pixels, the border repeated."""
    padded = np.pad(light_NP.reshape(-1, side, side), ((0, 0), (1, 1), (1, 1)), mode="edge")
    shifted = [padded[:, y : y + side, x : x + side] for y in range(3) for x in range(3)]
    return np.mean(shifted, axis=0).reshape(len(light_NP), -1)


def asymmetry(light_NP: Floats, inside_NP: Bools, corners_P: Bools, side: int) -> Floats:
    """Return the share of light that differs after half a turn, less the background's.

    The turn is about the best of nine centres: the picture's, and half a pixel around it.
    """
    pictures = light_NP.reshape(-1, side, side)
    turned = pictures[:, ::-1, ::-1]
    total_N = np.abs(light_NP * inside_NP).sum(1)
    size_N = inside_NP.sum(1)
    values = []
    for y in (-1, 0, 1):
        for x in (-1, 0, 1):
            differences = np.abs(pictures - np.roll(turned, (y, x), axis=(1, 2))).reshape(len(pictures), -1)
            background_N = np.median(differences[:, corners_P], axis=1)
            values.append((differences * inside_NP).sum(1) - background_N * size_N)
    return np.divide(np.min(values, axis=0), total_N, out=np.zeros(len(total_N)), where=total_N > 0)


def gini(light_NP: Floats, galaxy_NP: Bools) -> Floats:
    """Return the Gini coefficient of the galaxy's pixels, float64 [N].

    Lotz et al. 2004, Eq. 6. 0: equal pixels; 1: a single pixel has all light. 0 for fewer than two
    pixels.
    """
    ordered = np.sort(np.where(galaxy_NP, np.abs(light_NP), 0.0), axis=1)
    count = galaxy_NP.sum(1)
    rank = np.arange(1, ordered.shape[1] + 1) - (ordered.shape[1] - count)[:, None]  # pixels outside come first
    total = (ordered.sum(1)) * np.maximum(count - 1, 1)
    sums = ((2 * rank - count[:, None] - 1) * ordered).sum(1)
    return np.divide(sums, total, out=np.zeros(len(total)), where=(total > 0) & (count > 1))


def m20(light_NP: Floats, galaxy_NP: Bools, side: int) -> Floats:
    """Return log10 of the second moment of the brightest 20 % over that of all light.

    Lotz et al. 2004, Eq. 8.
    """
    light = np.where(galaxy_NP, light_NP, 0.0).clip(0)
    moment = light * radius_of_pixels(side) ** 2
    order = np.argsort(-light, axis=1, kind="stable")
    cumulative = np.cumsum(np.take_along_axis(light, order, 1), axis=1)
    brightest = cumulative <= 0.2 * cumulative[:, -1:]
    brightest[:, 0] = True
    part = (np.take_along_axis(moment, order, 1) * brightest).sum(1)
    total = moment.sum(1)
    ratio = np.divide(part, total, out=np.ones(len(total)), where=(total > 0) & (part > 0))
    return np.log10(ratio)


def ellipticity(light_NP: Floats, galaxy_NP: Bools, side: int) -> Floats:
    """Return 1 - b / a of the ellipse with the galaxy's second moments, float64 [N]."""
    xx, yy, xy = second_moments(light_NP, galaxy_NP, side)
    half_sum, root = (xx + yy) / 2, np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    ratio = np.divide(half_sum - root, half_sum + root, out=np.ones(len(xx)), where=half_sum + root > 0)
    return 1 - np.sqrt(ratio.clip(0))


def second_moments(light_NP: Floats, galaxy_NP: Bools, side: int) -> tuple[Floats, Floats, Floats]:
    """Return second moments xx, yy, xy about the galaxy's centroid, each float64 [N]."""
    light = np.where(galaxy_NP, light_NP, 0.0).clip(0)
    total = np.maximum(light.sum(1), FAINTEST)
    y, x = coordinates(side)
    mean_y, mean_x = light @ y / total, light @ x / total
    return (
        light @ x**2 / total - mean_x**2,
        light @ y**2 / total - mean_y**2,
        light @ (x * y) / total - mean_x * mean_y,
    )


def colours(light_NPC: Floats, inside_NP: Bools) -> list[Floats]:
    """Return the colours red / green and green / blue, in magnitudes of pixel values."""
    sums_NC = (light_NPC * inside_NP[..., None]).sum(1).clip(FAINTEST)
    ratios = 2.5 * np.log10(sums_NC[:, :-1] / sums_NC[:, 1:])
    return list(ratios.clip(-COLOUR_RANGE, COLOUR_RANGE).T)


# Prepare pictures for measurements: cut impossible values, and subtract the sky.
#
# Galaxies and prototypes are stretched RGB pictures, black 0 and white 1. A prototype is optimised
# freely, so some of its values lie outside. They are cut to [0, 1], which the 8 bits of a real
# picture do as well, and the share of cut values is reported. The stretch is not undone. So no number
# here is photometry: it serves to compare a prototype with galaxies in pictures of the same kind and
# size.
#
# Shape suffixes of this package: N pictures, H rows and W columns of pixels, P = H * W, C channels, R
# rings, M orders of Fourier components.

MIN_SIDE = 16  # px: one pixel a ring needs 32, half a pixel 16
MIN_LIGHT = 0.04  # ten of 255 steps: fainter light in a ring has neither a colour nor a pattern


class Light(NamedTuple):
    """Pictures without sky.

    Attributes
    ----------
    values_NHWC
        float64 [N, H, W, 3]; the sky of each channel, the median of the picture's corners, is 0.
    clipped_N
        float64 [N]: the share of values that lay outside [0, 1].
    """

    values_NHWC: Floats
    clipped_N: Floats


def light_above_sky(pictures_NHWC: npt.NDArray[np.floating]) -> Light:
    """Return the light of square pictures [N, H, H, 3], black 0, white 1, without sky."""
    shape = pictures_NHWC.shape
    if len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3 or shape[1] < MIN_SIDE:
        raise ValueError(f"pictures must be [N, H, H, 3] with H of {MIN_SIDE} or more, got {list(shape)}")
    pictures = np.asarray(pictures_NHWC, np.float64)
    clipped = pictures.clip(0, 1)
    outside_N = (clipped != pictures).mean(axis=(1, 2, 3))
    return Light(subtract_sky(clipped).reshape(pictures.shape), outside_N)


def high_frequency(pictures_NHWC: npt.NDArray[np.floating]) -> Floats:
    """Return log10 of the variance's share above a quarter cycle per pixel, [N].

    The variance is that of the mean of the channels, not clipped, under a Hann window, which keeps
    the edges of a picture out of its spectrum. NaN for a constant picture.
    """
    brightness = np.asarray(pictures_NHWC, np.float64).mean(axis=3)
    side = brightness.shape[1]
    window = np.hanning(side)
    window_HW = np.outer(window, window)
    mean = (brightness * window_HW).sum(axis=(1, 2), keepdims=True) / window_HW.sum()
    power = np.abs(np.fft.fft2((brightness - mean) * window_HW)) ** 2
    frequency = np.fft.fftfreq(side)
    high_HW = np.hypot(frequency[:, None], frequency) > 0.25
    total_N = power.sum(axis=(1, 2))
    share_N = np.divide(
        power[:, high_HW].sum(axis=1), total_N, out=np.full(len(total_N), np.nan), where=total_N > 1e-12
    )
    return np.log10(np.where(share_N > 0, share_N, np.nan))
