"""Define what injection models share: ranges of parameters, and how to draw them."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import numpy as np

from raydistill.simulation.injections.light import SDSS_CONTRAST

Range = tuple[float, float]  # the lowest and the highest value
Parameters = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class InjectionModel(abc.ABC):
    """A physical model that adds something to a real picture, or takes light from it.

    Every field of a subclass that is a pair of numbers is the range of a parameter. Lengths are in
    units of the galaxy's radius: the geometric mean of the standard deviations of its brightness
    (`galaxies.pictures.shapes`). Angles are counter-clockwise from its major axis [deg].

    Parameters
    ----------
    contrast
        Of the pictures' stretch (`simulation.injections.light`). None: 4.7, that of SDSS pictures;
        the stage `sample` takes that of the stretch itself where the survey is simulated.
    """

    kind: str
    contrast: float | None = None
    LOGARITHMIC: ClassVar[tuple[str, ...]] = ()  # parameters whose logarithm is uniform
    BOUNDS: ClassVar[Mapping[str, Range]] = {}  # where the range of a parameter must lie

    def __post_init__(self) -> None:
        if self.contrast is not None and not 0 < self.contrast < 100:
            raise ValueError(f"contrast must be positive and below 100, got {self.contrast:g}")
        for name, (low, high) in self.ranges().items():
            least, most = self.BOUNDS.get(name, (-math.inf, math.inf))
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise ValueError(f"{name} must be [lowest, highest], got [{low:g}, {high:g}]")
            if low < least or high > most:
                raise ValueError(f"{name} must lie in [{least:g}, {most:g}], got [{low:g}, {high:g}]")
            if name in self.LOGARITHMIC and low <= 0:
                raise ValueError(f"{name} must be positive, got [{low:g}, {high:g}]")

    @property
    def stretch(self) -> float:
        """Return the contrast of the pictures' stretch."""
        return SDSS_CONTRAST if self.contrast is None else self.contrast

    def ranges(self) -> dict[str, Range]:
        """Return the range of each parameter, in order."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, tuple)}

    def with_ranges(self, ranges: Mapping[str, Range]) -> Self:
        """Return the model with other ranges of some parameters."""
        changed: dict[str, Any] = dict(ranges)
        return replace(self, **changed)

    def draw(self, rng: np.random.Generator) -> dict[str, float]:
        """Return parameters uniform in their ranges, or uniform in their logarithm.

        Equal states of `rng` give equal positions within the ranges, whatever the ranges are.
        """
        drawn = {}
        for name, (low, high) in self.ranges().items():
            share = rng.uniform()
            value = low * (high / low) ** share if name in self.LOGARITHMIC else low + (high - low) * share
            drawn[name] = float(min(max(value, low), high))
        return drawn

    @abc.abstractmethod
    def apply(self, picture: np.ndarray, parameters: Parameters) -> np.ndarray:
        """Return the picture with the model in it.

        Parameters
        ----------
        picture : uint8 `[H, W, 3]`
            A galaxy at its centre, row 0 at the top.
        parameters : mapping of str to float
            A value for each name of `ranges`.

        Returns
        -------
        uint8 `[H, W, 3]`
            Equal arguments give equal bits.
        """
