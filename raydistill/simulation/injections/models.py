"""Physical models applied to real pictures: arc, tail, star, dust lane, dimming."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from raydistill.galaxies.pictures.alignment import Shape, measure_shape
from raydistill.simulation.injections.base import (
    EXTINCTION,
    InjectionModel,
    Parameters,
    Range,
    above_sky,
    absorb,
    add,
    bin_points,
    channels_of,
    light_of_level,
    to_light,
)

# Add gravitational arcs: images of a galaxy that the picture's galaxy deflects.

OVERSAMPLE = 3  # points per pixel and axis


@dataclass(frozen=True, kw_only=True)
class Arc(InjectionModel):
    """A gravitational arc and its counter-image.

    The lens is a singular isothermal sphere: light seen at θ comes from β = θ - θ_E θ / |θ|, and the
    surface brightness stays. The source is a round Gaussian.

    Parameters
    ----------
    einstein_radius
        θ_E.
    source_distance
        |β| of the source's centre, relative to θ_E. 0: a ring; below 1: two images.
    source_size
        Standard deviation of the source, relative to θ_E.
    azimuth
        Direction of the arc from the centre of the galaxy.
    level
        Level of the source's centre, in units of white. 0: no arc.
    g_r, r_i
        Colours of the source [mag].

    References
    ----------
    Narayan & Bartelmann 1996, arXiv:astro-ph/9606001, Section 3.1.5.
    """

    kind: Literal["arc"] = "arc"
    einstein_radius: Range = (0.8, 2.0)
    source_distance: Range = (0.2, 0.9)
    source_size: Range = (0.04, 0.12)
    azimuth: Range = (-180.0, 180.0)
    level: Range = (0.15, 0.5)
    g_r: Range = (-0.1, 0.5)
    r_i: Range = (-0.2, 0.3)

    BOUNDS: ClassVar[Mapping[str, Range]] = {
        "einstein_radius": (0.01, 20), "source_distance": (0, 5), "source_size": (0.01, 5), "level": (0, 3),
    }  # fmt: skip

    def apply(self, picture: np.ndarray, parameters: Parameters) -> np.ndarray:
        """Return the picture with the arc; level 0 returns it unchanged."""
        height, width = picture.shape[:2]
        along, across = measure_shape(picture).coordinates(height, width, OVERSAMPLE)
        einstein, azimuth = parameters["einstein_radius"], math.radians(parameters["azimuth"])
        radius = np.maximum(np.hypot(along, across), 1e-9)
        source = einstein * parameters["source_distance"]
        x = along * (1 - einstein / radius) - source * math.cos(azimuth)
        y = across * (1 - einstein / radius) - source * math.sin(azimuth)
        profile = np.exp(-(x**2 + y**2) / (2 * (einstein * parameters["source_size"]) ** 2))
        peak = light_of_level(parameters["level"], self.stretch)
        colour = channels_of(parameters["g_r"], parameters["r_i"])
        return add(picture, peak * bin_points(profile, OVERSAMPLE)[..., None] * colour, self.stretch)


# Add a tidal tail: stars that an encounter has pulled out of the galaxy.

POINTS = 64  # Gaussians along the tail


@dataclass(frozen=True, kw_only=True)
class TidalTail(InjectionModel):
    """A tail with the colour of the galaxy.

    It starts within the galaxy, at `start`, moves outwards and bends to one side, like a spiral with
    one arm. It gets wider and fainter on its way.

    Parameters
    ----------
    level
        Level at its start, in units of white. 0: no tail.
    start
        Distance of its start from the centre of the galaxy.
    length
        Distance from its start to its end, outwards.
    azimuth
        Direction of its start from the centre of the galaxy.
    turn
        Angle from its start to its end, seen from the centre of the galaxy [deg].
    width
        Standard deviation across the tail at its start. It is twice as much at its end.
    fading
        Light at its start over light at its end.
    """

    kind: Literal["tidal_tail"] = "tidal_tail"
    level: Range = (0.08, 0.25)
    start: Range = (1.0, 1.6)
    length: Range = (1.5, 3.5)
    azimuth: Range = (-180.0, 180.0)
    turn: Range = (-120.0, 120.0)
    width: Range = (0.15, 0.4)
    fading: Range = (2.0, 8.0)

    LOGARITHMIC: ClassVar[tuple[str, ...]] = ("fading",)
    BOUNDS: ClassVar[Mapping[str, Range]] = {"level": (0, 3), "width": (0.01, 10), "length": (0.01, 50)}

    def apply(self, picture: np.ndarray, parameters: Parameters) -> np.ndarray:
        """Return the picture with the tail; level 0 returns it unchanged."""
        height, width = picture.shape[:2]
        along, across = measure_shape(picture).coordinates(height, width)
        profile = np.zeros((height, width))
        for share in np.linspace(0, 1, POINTS):
            radius = parameters["start"] + parameters["length"] * share
            azimuth = math.radians(parameters["azimuth"] + parameters["turn"] * share)
            sigma = parameters["width"] * (1 + share)
            squared = (along - radius * math.cos(azimuth)) ** 2 + (across - radius * math.sin(azimuth)) ** 2
            spot = parameters["fading"] ** -share * np.exp(-squared / (2 * sigma**2))
            profile = np.maximum(profile, spot)
        galaxy = above_sky(to_light(picture, self.stretch)).sum(axis=(0, 1))
        colour = galaxy / galaxy.mean() if galaxy.mean() > 0 else np.ones(3)
        return add(
            picture, light_of_level(parameters["level"], self.stretch) * profile[..., None] * colour, self.stretch
        )


# Add a star of our galaxy, in front of a galaxy or beside it.

STAR_OVERSAMPLE = 4  # points per pixel and axis
FWHM = 2 * math.sqrt(2 * math.log(2))  # of a Gaussian, relative to its standard deviation
WINGS = ((0.9, 1.0), (0.1, math.sqrt(6)))  # share of the flux and relative width, as in `simulation.render`


@dataclass(frozen=True, kw_only=True)
class Star(InjectionModel):
    """A star.

    Its profile is a double Gaussian, as the PSF of the simulated survey has it.

    Parameters
    ----------
    level
        Level that the mean of the channels has at the star's centre, in units of white, without a
        galaxy behind it. More than 1: saturated. 0: no star.
    distance
        From the centre of the galaxy.
    azimuth
        Direction from the centre of the galaxy.
    fwhm
        Full width at half maximum, relative to the side of the picture.
    colour
        g - r [mag]. The colour is r - i = 0.4 (g - r) - 0.03, near the stars of [1]_ below g - r = 1.2.

    References
    ----------
    .. [1] Juric et al. 2008, ApJ 673, 864, Section 3.2.1.
    """

    kind: Literal["star"] = "star"
    level: Range = (0.3, 1.1)
    distance: Range = (0.0, 3.0)
    azimuth: Range = (-180.0, 180.0)
    fwhm: Range = (0.025, 0.05)
    colour: Range = (0.2, 1.2)

    BOUNDS: ClassVar[Mapping[str, Range]] = {"level": (0, 3), "distance": (0, 20), "fwhm": (0.001, 1)}

    def apply(self, picture: np.ndarray, parameters: Parameters) -> np.ndarray:
        """Return the picture with the star; level 0 returns it unchanged."""
        height, width = picture.shape[:2]
        shape = measure_shape(picture)
        along, across = shape.coordinates(height, width, STAR_OVERSAMPLE)
        azimuth = math.radians(parameters["azimuth"])
        u = along - parameters["distance"] * math.cos(azimuth)
        v = across - parameters["distance"] * math.sin(azimuth)
        sigma = parameters["fwhm"] * min(height, width) / FWHM / shape.radius
        profile = sum(share / wide**2 * np.exp(-(u**2 + v**2) / (2 * (wide * sigma) ** 2)) for share, wide in WINGS)
        peak = light_of_level(parameters["level"], self.stretch) / sum(share / wide**2 for share, wide in WINGS)
        r_i = 0.4 * parameters["colour"] - 0.03
        light = (
            peak * bin_points(np.asarray(profile), STAR_OVERSAMPLE)[..., None] * channels_of(parameters["colour"], r_i)
        )
        return add(picture, light, self.stretch)


# Absorb light of a galaxy by a dust lane.


@dataclass(frozen=True, kw_only=True)
class DustLane(InjectionModel):
    """A dust lane in front of the galaxy.

    The optical depth is that of the simulated survey's lanes, with a bend and any angle:
    depth exp(-(v - offset - bend u²)² / (2 width²) - (u / length)⁴), with u along the lane and v
    across it. Light of a channel is multiplied by exp(-depth k), where k is 1.25 : 1 : 0.75 in g,
    r, i to the power of `law`.

    Parameters
    ----------
    depth
        Optical depth in r at the middle of the lane. 0: no lane.
    width
        Standard deviation across the lane.
    length
        Half length.
    offset
        Distance of the lane's middle from the centre of the galaxy.
    bend
        Curvature, per radius.
    angle
        Of the lane. Lanes of early types lie along the major axis, along the minor axis, or
        between.
    law
        Power of the colour law. 0: the lane is grey; 1: the law of the simulated survey.
    """

    kind: Literal["dust_lane"] = "dust_lane"
    depth: Range = (0.2, 1.5)
    width: Range = (0.06, 0.25)
    length: Range = (0.4, 1.6)
    offset: Range = (-0.3, 0.3)
    bend: Range = (-0.3, 0.3)
    angle: Range = (-90.0, 90.0)
    law: Range = (0.7, 1.3)

    LOGARITHMIC: ClassVar[tuple[str, ...]] = ("width", "length")
    BOUNDS: ClassVar[Mapping[str, Range]] = {"depth": (0, 20), "angle": (-90, 90), "law": (0, 5)}

    def apply(self, picture: np.ndarray, parameters: Parameters) -> np.ndarray:
        """Return the picture with the lane; zero depth returns it unchanged."""
        height, width = picture.shape[:2]
        depth_HW = optical_depth(measure_shape(picture), height, width, parameters, OVERSAMPLE)
        transmission = np.exp(-depth_HW[..., None] * EXTINCTION ** parameters["law"])
        return absorb(picture, bin_points(transmission, OVERSAMPLE), self.stretch)


def optical_depth(shape: Shape, height: int, width: int, lane: Parameters, oversample: int = 1) -> np.ndarray:
    """Return the optical depth in r.

    It is float64 [height * oversample, width * oversample].
    """
    along, across = shape.coordinates(height, width, oversample)
    cosine, sine = math.cos(math.radians(lane["angle"])), math.sin(math.radians(lane["angle"]))
    u, v = cosine * along + sine * across, cosine * across - sine * along
    distance = (v - lane["offset"] - lane["bend"] * u**2) / lane["width"]
    return np.asarray(lane["depth"] * np.exp(-(distance**2) / 2 - (u / lane["length"]) ** 4))


# Dim a galaxy towards the sky: how it looked if its surface brightness was low.

INNER, OUTER = 4.0, 6.0  # the dimming ends between these radii of the galaxy's ellipse


@dataclass(frozen=True, kw_only=True)
class LowSurfaceBrightness(InjectionModel):
    """A galaxy that is fainter by a factor, under the noise that the picture has.

    The sky keeps its level and noise. Neighbours beyond 6 standard deviations of the galaxy keep
    their light, nearer ones are dimmed too. Noise of the galaxy's own photons stays as it was.

    Parameters
    ----------
    dimming
        Of the galaxy [mag]. 0: none.
    """

    kind: Literal["low_surface_brightness"] = "low_surface_brightness"
    dimming: Range = (1.5, 4.0)

    BOUNDS: ClassVar[Mapping[str, Range]] = {"dimming": (0, 20)}

    def apply(self, picture: np.ndarray, parameters: Parameters) -> np.ndarray:
        """Return the picture with the dimmed galaxy; zero dimming returns it unchanged."""
        shape = measure_shape(picture)
        along, across = shape.coordinates(*picture.shape[:2])
        distance = np.hypot(along * shape.radius / shape.major, across * shape.radius / shape.minor)
        ramp = np.clip((OUTER - distance) / (OUTER - INNER), 0, 1)
        inside = ramp**2 * (3 - 2 * ramp)
        transmission = 1 - (1 - 10 ** (-0.4 * parameters["dimming"])) * inside
        return absorb(picture, transmission[..., None], self.stretch)
