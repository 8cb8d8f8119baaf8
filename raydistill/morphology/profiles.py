"""Measure profiles of galaxies: brightness and colour against the radius.

Rings have the galaxy's own ellipticity and position angle, around the picture's centre. Their width is
1/16 of the half-frame, along the major axis. A pixel counts with its exact area inside the ring, by
photutils.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
from photutils.aperture import EllipticalAnnulus, EllipticalAperture

from raydistill.morphology.light import MIN_LIGHT
from raydistill.statistics.permutation import Floats

NUM_RINGS = 16
ROUNDEST = 0.9  # the largest ellipticity of a ring: thinner rings hold no pixels
MIN_RINGS = 3  # of a gradient
# The colours of an RGB picture: name, and the two channels whose ratio it is.
COLOURS = {"red_green": (0, 1), "green_blue": (1, 2)}


def ring_centres() -> Floats:
    """Return the mid-radii of the rings, float64 [R], as a fraction of the half-frame."""
    return (np.arange(NUM_RINGS) + 0.5) / NUM_RINGS


@functools.cache
def ring_weights(side: int) -> Floats:
    """Return the area of each pixel inside each circular ring, float64 [R, P]."""
    return elliptical_weights(side, 0.0, 0.0)


def elliptical_weights(side: int, ellipticity: float, position_angle: float) -> Floats:
    """Return the area of each pixel inside each elliptical ring.

    Parameters
    ----------
    side
        Side of the picture in pixels.
    ellipticity
        1 - b / a; larger values than `ROUNDEST` count as that.
    position_angle
        Direction of the major axis in degrees, from the horizontal axis towards the picture's top.

    Returns
    -------
    ndarray
        float64 [R, P].
    """
    centre, edges = ((side - 1) / 2,) * 2, np.arange(1, NUM_RINGS + 1) / NUM_RINGS * side / 2
    ratio, theta = 1 - min(ellipticity, ROUNDEST), -np.radians(position_angle)  # rows count downwards
    apertures = [EllipticalAperture(centre, edges[0], edges[0] * ratio, theta=theta)]
    apertures += [
        EllipticalAnnulus(centre, inner, outer, outer * ratio, theta=theta)
        for inner, outer in itertools.pairwise(edges)
    ]
    masks = [one.to_mask(method="exact").to_image((side, side)) for one in apertures]
    return np.stack(masks).reshape(NUM_RINGS, -1)


def radial_profiles(light_NHWC: Floats, ellipticity_N: Floats, position_angle_N: Floats) -> Floats:
    """Return each channel's mean light in the rings of pictures, float64 [N, R, 3].

    Parameters
    ----------
    light_NHWC
        Pictures without sky.
    ellipticity_N, position_angle_N
        The ellipses of the rings, as in `elliptical_weights`.
    """
    side, profiles = light_NHWC.shape[1], np.empty((len(light_NHWC), NUM_RINGS, 3))
    for n, light_HWC in enumerate(light_NHWC):
        weights_RP = elliptical_weights(side, float(ellipticity_N[n]), float(position_angle_N[n]))
        profiles[n] = weights_RP @ light_HWC.reshape(-1, 3) / weights_RP.sum(1, keepdims=True)
    return profiles


def colour_profiles(profiles_NRC: Floats) -> dict[str, Floats]:
    """Return the colours of `COLOURS`, each float64 [N, R], in magnitudes.

    The magnitudes are of the picture's values. Larger is redder. NaN where one of the two channels
    is fainter than `MIN_LIGHT`.
    """
    bright = np.where(profiles_NRC >= MIN_LIGHT, profiles_NRC, np.nan)
    return {name: 2.5 * np.log10(bright[..., red] / bright[..., blue]) for name, (red, blue) in COLOURS.items()}


def gradients(values_NR: Floats) -> Floats:
    """Return the slope of profiles against the radius, float64 [N], per half-frame.

    The fit is least squares over the rings with a value; NaN for fewer than `MIN_RINGS`.
    """
    known_NR = np.isfinite(values_NR)
    count_N = known_NR.sum(1)
    radius_NR, values_NR = np.where(known_NR, ring_centres(), 0), np.where(known_NR, values_NR, 0)
    mean_N = radius_NR.sum(1) / np.maximum(count_N, 1)
    offset_NR = np.where(known_NR, radius_NR - mean_N[:, None], 0)
    products_N, squares_N = (offset_NR * values_NR).sum(1), (offset_NR**2).sum(1)
    return np.divide(products_N, squares_N, out=np.full(len(count_N), np.nan), where=count_N >= MIN_RINGS)
