"""Add a tidal tail: stars that an encounter has pulled out of the galaxy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from raydistill.galaxies.pictures.shapes import measure_shape
from raydistill.simulation.injections.base import InjectionModel, Parameters, Range
from raydistill.simulation.injections.light import above_sky, add, light_of_level, to_light

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
