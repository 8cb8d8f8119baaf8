"""Dim a galaxy towards the sky: how it looked if its surface brightness was low."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from raydistill.galaxies.pictures.shapes import measure_shape
from raydistill.simulation.injections.base import InjectionModel, Parameters, Range
from raydistill.simulation.injections.light import absorb

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
