"""Define the part of a config about where synthetic galaxies come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import PositiveInt

from raydistill.config.kinds import BY_KIND, infer_kind
from raydistill.simulation.config import Telescope
from raydistill.simulation.injections import DustLane, Injection


@dataclass(frozen=True, kw_only=True)
class GeneratorSource:
    """Sample the generator of the run.

    Parameters
    ----------
    strength
        Time in (0, 1] at which sampling starts. 1: from noise alone. Below 1: from a real training
        galaxy with noise of that time, of which the sample keeps much. It is the galaxy whose
        condition the sample takes, or else a random one of its class.
    start_classes
        Classes of the galaxies to start from, which are then random ones. Empty: the sample's own.
    """

    kind: Literal["generator"] = "generator"
    strength: float = 1.0
    start_classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength must lie in (0, 1], got {self.strength:g}")
        if self.start_classes and self.strength == 1:
            raise ValueError("start_classes need a strength below 1")


@dataclass(frozen=True, kw_only=True)
class InjectionSource:
    """Apply a physical model to real training galaxies, and record its parameters.

    Negatives of the same source are a second set of the same seed: the same galaxies with strength
    0, such as `model.depth: [0, 0]`, or with another model.

    Parameters
    ----------
    model
        The model, and the ranges of its parameters.
    classes
        Classes of the galaxies. Empty: all.
    label
        Class of all pictures. None: that of the galaxy.
    examples
        Object ids of training galaxies that show the thing already. The ranges are fitted to them,
        and they are not changed themselves.
    """

    kind: Literal["injection"] = "injection"
    model: Annotated[Injection, BY_KIND, infer_kind(Injection)] = field(default_factory=DustLane)
    classes: tuple[str, ...] = ()
    label: str | None = None
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SimulatorSource:
    """Simulate galaxies, and prepare their pictures as those of the curated set.

    Parameters
    ----------
    classes
        Classes of the simulator, in its names: those of `gz2-9`, and `lens`. Empty: those of the
        nine for which the curated set has a class.
    label
        Class of all pictures. None: the class of the curated set on whose path the simulated class
        is.
    parameters
        Ranges of some true parameters, [lowest, highest], such as {dust_lane: [0.6, 1.4]}. All
        others are drawn as for a simulated survey.
    picture_size
        Side of the picture before it is cropped and resized [px]. It spans 8.48 Petrosian R90, as
        in Galaxy Zoo 2.
    crop_fraction
        Side of the central square that is kept, as a fraction of the picture. None: that of the
        curated set, which is right for pictures of the same width in R90.
    telescope
        The instrument. None: that of the run's own simulated survey, or that of SDSS.
    """

    kind: Literal["simulator"] = "simulator"
    classes: tuple[str, ...] = ()
    label: str | None = None
    parameters: dict[str, tuple[float, float]] = field(default_factory=dict)
    picture_size: PositiveInt = 424
    crop_fraction: float | None = None
    telescope: Telescope | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in self.parameters.items():
            if not low <= high:
                raise ValueError(f"parameters.{name} must be [lowest, highest], got [{low:g}, {high:g}]")
        if self.crop_fraction is not None and not 0 < self.crop_fraction <= 1:
            raise ValueError(f"crop_fraction must lie in (0, 1], got {self.crop_fraction:g}")
        if self.picture_size < 32:
            raise ValueError(f"picture_size must be at least 32, got {self.picture_size}")


Source = GeneratorSource | InjectionSource | SimulatorSource
