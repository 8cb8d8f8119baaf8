"""Define the hyper-parameters of training by steps (`learning.weighted_training`)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from raydistill.learning.arithmetic import Arithmetic, Precision, fill_auto
from raydistill.learning.augment import Augmentation
from raydistill.learning.checks import at_least_0_below_1, not_negative, positive


@dataclass(frozen=True, kw_only=True)
class WeightedTraining:
    """SGD for a number of steps on images drawn with replacement.

    Parameters
    ----------
    steps
        Number of steps.
    batch_size
        Images per step.
    lr, momentum, weight_decay
        Parameters of SGD, as in `torch.optim.SGD`.
    lr_decay_at
        Fraction of the steps after which the learning rate falls to a tenth. 1: never, so that the
        first n steps do not depend on `steps`.
    average
        Time constant, in steps, of a moving average of the parameters. The average is the result.
        0: the parameters of SGD.
    focal
        Exponent gamma of the focal loss. 0: cross entropy. The authors take 2.
    class_balance
        beta of the class-balanced loss. 0: no weights. The authors try 0.9 to 0.9999.
    mixup
        Parameter alpha of the Beta distribution that mixes pairs of images. 0: no mixup. The
        authors take 0.2 to 1.
    augmentation
        Augmentation of the training images, drawn anew for every batch.
    precision, compile
        As in `learning.training.Training`.
    """

    steps: int = 1000
    batch_size: int = 64
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    lr_decay_at: float = 1.0
    average: float = 0.0
    focal: float = 0.0
    class_balance: float = 0.0
    mixup: float = 0.0
    augmentation: Augmentation = Augmentation()
    precision: Precision | Literal["auto"] = "float32"
    compile: bool | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        positive(self, "steps", "batch_size", "lr")
        not_negative(self, "weight_decay", "lr_decay_at", "average", "focal", "mixup")
        at_least_0_below_1(momentum=self.momentum, class_balance=self.class_balance)

    def lr_at(self, step: int) -> float:
        """Return the learning rate of step number `step` (from 0)."""
        return self.lr * (0.1 if step >= self.lr_decay_at * self.steps else 1.0)

    def resolved(self, arithmetic: Arithmetic | None = None) -> ResolvedWeightedTraining:
        """Return this training without "auto": by `arithmetic`, or else eager float32."""
        arithmetic = arithmetic or fill_auto(self)
        return ResolvedWeightedTraining(
            **{field.name: getattr(self, field.name) for field in fields(WeightedTraining)} | arithmetic._asdict()
        )


@dataclass(frozen=True, kw_only=True)
class ResolvedWeightedTraining(WeightedTraining):
    """A training of decided `compile` and `precision` (`WeightedTraining.resolved`)."""

    precision: Precision = "float32"
    compile: bool = False
