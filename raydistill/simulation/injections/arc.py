"""Add gravitational arcs: images of a galaxy that the picture's galaxy deflects."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from raydistill.galaxies.pictures.shapes import measure_shape
from raydistill.simulation.injections.base import InjectionModel, Parameters, Range
from raydistill.simulation.injections.light import add, bin_points, channels_of, light_of_level

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
