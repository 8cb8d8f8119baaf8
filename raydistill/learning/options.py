"""Define the hyper-parameters of trainings, without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, Self

from raydistill.learning.arithmetic import Arithmetic, Precision, fill_auto
from raydistill.learning.augment import Augmentation
from raydistill.learning.checks import at_least_0_below_1, not_negative, positive
from raydistill.learning.sharpness import SharpnessAware

# Define the hyper-parameters of training by epochs (`learning.training`).


@dataclass(frozen=True)
class Training:
    """SGD on labelled images.

    Parameters
    ----------
    epochs
        Number of epochs.
    batch_size
        Images per step.
    lr, momentum, weight_decay
        Parameters of SGD, as in `torch.optim.SGD`.
    lr_decay_at
        Fraction of the epochs after which the learning rate falls to a tenth. The papers evaluate
        with 0.5; 1: never.
    sampling
        "shuffle": every image once per epoch; "balanced": equally many batches, each image from a
        random class.
    class_weights
        Weight the loss of each class by its inverse frequency (mean 1). Balanced sampling replaces
        it.
    flat
        Seek flat minima (`SharpnessAware`); None: plain SGD.
    average
        Time constant, in epochs or the stored parts of them, of a moving average of the parameters
        over the steps. The average is the result (Polyak & Juditsky 1992, doi:10.1137/0330046). It
        fluctuates less than SGD, is easier to match and classifies better. 0: the parameters of
        SGD.
    augmentation
        Augmentation of the training images, drawn anew for every batch.
    precision
        "bfloat16" applies to matrix products; parameters stay float32. "auto": decided by the
        estimated work and the hardware (`distillation.cost_model`); without an estimate float32.
    compile
        Compile the training step with `torch.compile`. "auto": decided by the estimated work and
        the hardware (`distillation.cost_model`); without an estimate not compiled.
    """

    epochs: int = 50
    batch_size: int = 256
    lr: float = 0.01
    momentum: float = 0.0
    weight_decay: float = 0.0
    lr_decay_at: float = 1.0
    sampling: Literal["shuffle", "balanced"] = "shuffle"
    class_weights: bool = True
    flat: SharpnessAware | None = None
    average: float = 0.0
    augmentation: Augmentation = Augmentation()
    precision: Precision | Literal["auto"] = "float32"
    compile: bool | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        positive(self, "epochs", "batch_size", "lr")
        not_negative(self, "weight_decay", "lr_decay_at", "average")
        at_least_0_below_1(momentum=self.momentum)

    def steps_per_epoch(self, num_images: int) -> int:
        """Return the number of whole batches; a smaller last batch is dropped."""
        return num_images // min(self.batch_size, num_images)

    def with_even_batches(self, num_images: int) -> Self:
        """Return a copy with nearly equal batches of at most `batch_size`.

        Few images are then dropped.
        """
        return replace(self, batch_size=num_images // math.ceil(num_images / self.batch_size))

    def lr_in(self, epoch: int) -> float:
        """Return the learning rate of epoch number `epoch` (from 0)."""
        return self.lr * (0.1 if epoch >= self.lr_decay_at * self.epochs else 1.0)

    def resolved(self, arithmetic: Arithmetic | None = None) -> Self:
        """Return this training without "auto".

        Parameters
        ----------
        arithmetic
            The decision of `distillation.cost_model`. None: as requested, and eager float32 where that is
            "auto".
        """
        return replace(self, **(arithmetic or fill_auto(self))._asdict())


# Define the hyper-parameters of training by steps (`learning.weighted_training`).


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

    def resolved(self, arithmetic: Arithmetic | None = None) -> Self:
        """Return this training without "auto": by `arithmetic`, or else eager float32."""
        return replace(self, **(arithmetic or fill_auto(self))._asdict())


# Define the hyper-parameters of FixMatch (`learning.fixmatch`).

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
