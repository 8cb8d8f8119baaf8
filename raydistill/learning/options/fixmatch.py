"""Define the hyper-parameters of FixMatch (`learning.fixmatch`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from raydistill.learning.arithmetic import Precision
from raydistill.learning.augment import Augmentation
from raydistill.learning.checks import at_least_0_below_1, not_negative, positive

WEAK = Augmentation(("dihedral",))


STRONG = Augmentation(("dihedral", "crop", "scale", "cutout", "color"), padding="border", brightness=0.5)


@dataclass(frozen=True, kw_only=True)
class FixMatch:
    """Semi-supervised SGD for a number of steps.

    Parameters
    ----------
    steps
        Number of steps.
    batch_size
        Labelled images per step.
    unlabelled
        Unlabelled images per labelled one.
    threshold
        Smallest probability of a pseudo-label.
    weight
        Weight of the unlabelled loss.
    lr, momentum, weight_decay
        Parameters of SGD, as in `torch.optim.SGD`.
    average
        Time constant, in steps, of a moving average of the parameters, which is the result. 0: the
        parameters of SGD.
    weak, strong
        Augmentations.
    precision, compile
        As in `learning.training.Training`.
    """

    steps: int = 300
    batch_size: int = 16
    unlabelled: int = 3
    threshold: float = 0.95
    weight: float = 1.0
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    average: float = 50.0
    weak: Augmentation = WEAK
    strong: Augmentation = STRONG
    precision: Precision | Literal["auto"] = "auto"
    compile: bool | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        positive(self, "steps", "batch_size", "unlabelled", "lr")
        not_negative(self, "weight", "weight_decay", "average")
        at_least_0_below_1(momentum=self.momentum)
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold must lie in (0, 1], got {self.threshold:g}")
