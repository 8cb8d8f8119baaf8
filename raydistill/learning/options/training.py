"""Define the hyper-parameters of training by epochs (`learning.training`)."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Literal, Self

from raydistill.learning.arithmetic import Arithmetic, Precision, fill_auto
from raydistill.learning.augment import Augmentation
from raydistill.learning.checks import at_least_0_below_1, not_negative, positive
from raydistill.learning.sharpness import SharpnessAware


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

    def resolved(self, arithmetic: Arithmetic | None = None) -> ResolvedTraining:
        """Return this training without "auto".

        Parameters
        ----------
        arithmetic
            The decision of `distillation.cost_model`. None: as requested, and eager float32 where that is
            "auto".
        """
        arithmetic = arithmetic or fill_auto(self)
        return ResolvedTraining(
            **{field.name: getattr(self, field.name) for field in fields(Training)} | arithmetic._asdict()
        )


@dataclass(frozen=True)
class ResolvedTraining(Training):
    """A training with decided `compile` and `precision`, from `Training.resolved`."""

    precision: Precision = "float32"
    compile: bool = False

    @property
    def arithmetic(self) -> Arithmetic:
        return Arithmetic(self.compile, self.precision)
