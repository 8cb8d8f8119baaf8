"""Define the learners that read pixels, without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from raydistill.learning.architectures import ConvNet
from raydistill.learning.arithmetic import Precision
from raydistill.learning.augment import Augmentation
from raydistill.learning.options.fixmatch import FixMatch
from raydistill.learning.options.weighted_training import WeightedTraining


@dataclass(frozen=True)
class HuntTraining(WeightedTraining):
    """Train a network on the pixels of labelled objects."""

    steps: int = 300
    batch_size: int = 32
    average: float = 50.0
    augmentation: Augmentation = Augmentation(("dihedral",))
    precision: Precision | Literal["auto"] = "auto"


@dataclass(frozen=True)
class NetworkLearner:
    """Learn by a network on the pixels.

    Parameters
    ----------
    network
        Its architecture.
    training
        Its training.
    """

    kind: Literal["network"] = "network"
    network: ConvNet = field(default_factory=lambda: ConvNet(width=32))
    training: HuntTraining = field(default_factory=HuntTraining)


@dataclass(frozen=True)
class FixMatchLearner:
    """Learn by a network on the pixels of labelled and unlabelled objects (FixMatch).

    Parameters
    ----------
    network
        Its architecture.
    training
        Its training.
    """

    kind: Literal["fixmatch"] = "fixmatch"
    network: ConvNet = field(default_factory=lambda: ConvNet(width=32))
    training: FixMatch = field(default_factory=FixMatch)
