"""The config of a simulated survey, without the renderer: every process reads configs, few render."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from raydistill.errors import ConfigError

NUM_CLASSES = 9


@dataclass(frozen=True)
class SimulatedSurvey:
    """A survey of simulated galaxies.

    Parameters
    ----------
    num_galaxies
        Number of galaxies.
    image_size
        Side of a picture [px]; it spans 8.48 Petrosian R90.
    class_weights
        Relative frequencies of the nine classes. None draws all classes equally often.
    """

    kind: Literal["simulated"] = "simulated"
    num_galaxies: int = 1500
    image_size: int = 424
    class_weights: tuple[float, ...] | None = None
    frame_r90: ClassVar[float] = 8.48  # side of a picture / petroR90_r, as in Galaxy Zoo 2

    def __post_init__(self) -> None:
        where = "survey"
        if self.num_galaxies < 1:
            raise ConfigError(f"num_galaxies is {self.num_galaxies}", where, "give at least 1")
        if self.image_size < 32:
            raise ConfigError(
                f"image_size is {self.image_size} px", where, "give at least 32 (the real survey has 424)"
            )
        weights = self.class_weights
        if weights is not None and (len(weights) != NUM_CLASSES or min(weights) < 0 or not 0 < sum(weights) < math.inf):
            raise ConfigError(f"class_weights is {weights}", where, "give 9 numbers >= 0, not all of them 0, or null")
