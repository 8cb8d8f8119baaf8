"""Absorb light of a galaxy by a dust lane."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from raydistill.galaxies.pictures.shapes import Shape, measure_shape
from raydistill.simulation.injections.base import InjectionModel, Parameters, Range
from raydistill.simulation.injections.light import EXTINCTION, absorb, bin_points

OVERSAMPLE = 3  # points per pixel and axis, for lanes thinner than a pixel


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
