"""Define the part of a config about experts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pydantic import PositiveInt

from raydistill.core.augment import Augmentation
from raydistill.core.training import Training

# Images of the sky have no preferred orientation; DSA's operations are for photographs.
GALAXIES = Augmentation(("dihedral",))

# Each use of `Training` has its own defaults: a config that sets one key keeps the others.


@dataclass(frozen=True)
class ExpertTraining(Training):
    """Train an expert with plain SGD.

    It averages the parameters over about an epoch, for a smooth trajectory that can be matched.
    """

    epochs: int = 16
    batch_size: int = 64
    sampling: Literal["shuffle", "balanced"] = "balanced"
    class_weights: bool = False
    average: float = 1.0
    augmentation: Augmentation = GALAXIES


@dataclass(frozen=True)
class Experts:
    """Set the number and training of the experts.

    Parameters
    ----------
    num_experts
        Number of experts.
    keep
        Stored epochs: "all", or the two "ends" for straight trajectories.
    targets
        Labels of the training galaxies: "hard" classes, or "votes", the volunteers' class
        probabilities.
    training
        Training of each expert.
    """

    num_experts: PositiveInt = 8
    keep: Literal["all", "ends"] = "all"
    targets: Literal["hard", "votes"] = "hard"
    training: ExpertTraining = field(default_factory=ExpertTraining)
