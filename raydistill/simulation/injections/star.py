"""Add a star of our galaxy, in front of a galaxy or beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from raydistill.galaxies.pictures.shapes import measure_shape
from raydistill.simulation.injections.base import InjectionModel, Parameters, Range
from raydistill.simulation.injections.light import add, bin_points, channels_of, light_of_level

OVERSAMPLE = 4  # points per pixel and axis
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
        along, across = shape.coordinates(height, width, OVERSAMPLE)
        azimuth = math.radians(parameters["azimuth"])
        u = along - parameters["distance"] * math.cos(azimuth)
        v = across - parameters["distance"] * math.sin(azimuth)
        sigma = parameters["fwhm"] * min(height, width) / FWHM / shape.radius
        profile = sum(share / wide**2 * np.exp(-(u**2 + v**2) / (2 * (wide * sigma) ** 2)) for share, wide in WINGS)
        peak = light_of_level(parameters["level"], self.stretch) / sum(share / wide**2 for share, wide in WINGS)
        r_i = 0.4 * parameters["colour"] - 0.03
        light = peak * bin_points(np.asarray(profile), OVERSAMPLE)[..., None] * channels_of(parameters["colour"], r_i)
        return add(picture, light, self.stretch)
