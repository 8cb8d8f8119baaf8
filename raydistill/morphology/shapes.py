"""Measure galaxies: radial profiles, second moments and Fourier components."""

from __future__ import annotations

import functools
import itertools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from photutils.aperture import EllipticalAnnulus, EllipticalAperture

from raydistill.morphology.pictures import MIN_LIGHT, coordinates, ellipticity, find_extent, second_moments
from raydistill.statistics.permutation import Floats

# Measure galaxy shapes: the ellipse of second moments, and Fourier components.
#
# The components are those of the light in rings.
#
# The light at radius r and azimuth :math:`\varphi` is written as
#
# .. math:: I(r, \varphi) = A_0(r) \bigl[1 + \sum_m a_m(r) \cos m(\varphi - \varphi_m(r))\bigr].
#
# m = 1 measures lopsidedness, m = 2 bars and two arms. Rings are circles around the picture's centre,
# so an inclined disk has m = 2 too. Azimuths count from the picture's horizontal axis towards its
# top.

Complex = npt.NDArray[np.complex128]

ORDERS = (1, 2, 3, 4)
# The fit of a ring has nine unknowns; a ring with fewer pixels than twice as many is not fitted.
MIN_PIXELS = 2 * (1 + 2 * len(ORDERS))
PATTERN_ANNULUS = (0.2, 0.6)  # of the half-frame: outside the bulge, inside the disk's edge


class Ellipses(NamedTuple):
    """The ellipses with the second moments of galaxies.

    Attributes
    ----------
    ellipticity_N
        float64 [N]: 1 - b / a, in [0, 1].
    position_angle_N
        float64 [N]: direction of the major axis in [0, 180) degrees.
    """

    ellipticity_N: Floats
    position_angle_N: Floats


class Pattern(NamedTuple):
    """A Fourier component in an annulus.

    Attributes
    ----------
    amplitude_N
        float64 [N]: the mean over the rings of its amplitude, relative to the ring's mean light.
    phase_N
        float64 [N]: direction of its crest in [0, 360 / m) degrees.
    coherence_N
        float64 [N]: 1 if the crest has one direction at all radii, as in a bar; smaller if it turns,
        as in spiral arms.
    """

    amplitude_N: Floats
    phase_N: Floats
    coherence_N: Floats


def moment_ellipses(brightness_NHW: Floats) -> Ellipses:
    """Return the ellipses of pictures without sky.

    The moments are those of the pixels that are as bright as the galaxy at its Petrosian radius.
    """
    side = brightness_NHW.shape[1]
    light_NP = brightness_NHW.reshape(len(brightness_NHW), -1)
    galaxy_NP = find_extent(light_NP, side).galaxy_NP
    xx, yy, xy = second_moments(light_NP, galaxy_NP, side)
    # Rows count downwards, so the angle of the picture has the opposite sign.
    angle_N = np.degrees(0.5 * np.arctan2(-2 * xy, xx - yy)) % 180
    return Ellipses(ellipticity(light_NP, galaxy_NP, side), angle_N)


def fourier_components(brightness_NHW: Floats) -> Complex:
    r"""Return the Fourier components of rings, complex128 [N, R, M].

    Component m is :math:`a_m e^{i m \varphi_m}`.

    They are fitted by least squares, which the pixels of a ring do not bias: a pattern of these
    orders has exactly its amplitude. A ring is NaN if it has fewer than `MIN_PIXELS` pixels, or if
    its mean light is below `MIN_LIGHT`.
    """
    side = brightness_NHW.shape[1]
    fit_RKP = _fits(side)
    terms_NRK = np.einsum("rkp,np->nrk", fit_RKP, brightness_NHW.reshape(len(brightness_NHW), -1))
    mean_NR = np.where(terms_NRK[..., 0] >= MIN_LIGHT, terms_NRK[..., 0], np.nan)
    cosines_NRM, sines_NRM = np.split(terms_NRK[..., 1:] / mean_NR[..., None], 2, axis=-1)
    return np.asarray(cosines_NRM + 1j * sines_NRM)


def pattern(components_NRM: Complex, order: int) -> Pattern:
    """Return one order of `fourier_components` in `PATTERN_ANNULUS`.

    NaN where more than half of the annulus has no components.
    """
    low, high = PATTERN_ANNULUS
    rings_R = (ring_centres() > low) & (ring_centres() < high)
    values_NR = components_NRM[:, rings_R, ORDERS.index(order)]
    known_NR = np.isfinite(values_NR.real)
    enough_N = known_NR.sum(1) * 2 >= rings_R.sum()
    values_NR, count_N = np.where(known_NR, values_NR, 0), np.maximum(known_NR.sum(1), 1)
    mean_N, amplitude_N = values_NR.sum(1) / count_N, np.abs(values_NR).sum(1) / count_N
    coherence_N = np.divide(np.abs(mean_N), amplitude_N, out=np.full(len(mean_N), np.nan), where=amplitude_N > 0)
    phase_N = np.degrees(np.angle(mean_N)) / order % (360 / order)
    return Pattern(*(np.where(enough_N, values, np.nan) for values in (amplitude_N, phase_N, coherence_N)))


@functools.cache
def _fits(side: int) -> Floats:
    """Return the matrices that fit [1, cos m φ, sin m φ] to rings, float64 [R, K, P].

    NaN for small rings.
    """
    y, x = coordinates(side)
    azimuth = np.arctan2(-y, x)
    terms = [np.ones_like(azimuth), *(np.cos(m * azimuth) for m in ORDERS), *(np.sin(m * azimuth) for m in ORDERS)]
    design_PK = np.stack(terms, axis=1)
    fits = np.full((NUM_RINGS, len(terms), side * side), np.nan)
    for ring, weights_P in enumerate(ring_weights(side)):
        if weights_P.sum() >= MIN_PIXELS:
            weighted_KP = design_PK.T * weights_P
            fits[ring] = np.linalg.solve(weighted_KP @ design_PK, weighted_KP)
    return fits


# Measure profiles of galaxies: brightness and colour against the radius.
#
# Rings have the galaxy's own ellipticity and position angle, around the picture's centre. Their width is
# 1/16 of the half-frame, along the major axis. A pixel counts with its exact area inside the ring, by
# photutils.

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
    masks = [aperture.to_mask(method="exact").to_image((side, side)) for aperture in apertures]
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
