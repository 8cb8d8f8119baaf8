"""Define the hyper-parameters of trainings, without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal, Self

from raydistill.learning.arithmetic import Arithmetic, Precision, fill_auto
from raydistill.learning.augment import Augmentation
from raydistill.learning.checks import at_least, at_least_0_below_1, between_0_and_1, not_negative, positive
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
    cutmix
        The same for the share of an image that a rectangle of another one replaces. The authors
        take 1.
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
    cutmix: float = 0.0
    augmentation: Augmentation = Augmentation()
    precision: Precision | Literal["auto"] = "float32"
    compile: bool | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        positive(self, "steps", "batch_size", "lr")
        not_negative(self, "weight_decay", "lr_decay_at", "average", "focal", "mixup", "cutmix")
        if self.mixup and self.cutmix:
            raise ValueError("give mixup or cutmix, not both")
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


# Define the hyper-parameters of a training whose batches several workers share.


@dataclass(frozen=True)
class ShardedTraining:
    """AdamW on batches that workers share, for a number of steps.

    Parameters
    ----------
    steps
        Steps of the optimizer.
    batch_size
        Images per step, a multiple of `shards`.
    lr
        Largest learning rate.
    warmup
        Steps in which the learning rate rises linearly to `lr`.
    decay
        Last fraction of the steps, in which the learning rate falls linearly to 0.
    weight_decay
        Of AdamW.
    max_norm
        Longer gradients are scaled down to this norm.
    ema_decay
        Largest decay of the moving average of the parameters, which is the result.
    ema_power
        The decay after n steps is 1 - n^-power where that is less (`diffusers.EMAModel`). A constant
        decay of 0.9999 would keep the initial noise for 10,000 steps.
    shards
        Parts of a batch whose gradients are computed separately. More than the workers is useless and
        slower, because small batches are; another number changes the bits of the result.
    precision
        "bfloat16" applies to matrix products and convolutions; parameters stay float32.
    """

    steps: int = 4000
    batch_size: int = 64
    lr: float = 1e-3
    warmup: int = 200
    decay: float = 0.4
    weight_decay: float = 0.01
    max_norm: float = 1.0
    ema_decay: float = 0.999
    ema_power: float = 0.75
    shards: int = 4
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        positive(self, "steps", "batch_size", "lr", "max_norm", "ema_power")
        not_negative(self, "warmup", "weight_decay")
        at_least(1, shards=self.shards)
        at_least_0_below_1(ema_decay=self.ema_decay)
        between_0_and_1(decay=self.decay)
        if self.batch_size % self.shards:
            raise ValueError(f"batch_size must be a multiple of shards, got {self.batch_size} and {self.shards}")

    def lr_at(self, step: int) -> float:
        """Return the learning rate of step number `step` (from 0)."""
        rising = (step + 1) / (self.warmup + 1)
        falling = (self.steps - step) / (self.decay * self.steps) if self.decay else 1.0
        return self.lr * min(rising, falling, 1.0)


# Define the hyper-parameters of self-supervised training (`learning.contrast`).


@dataclass(frozen=True)
class SkyViews:
    """Draw a random view of a picture: any orientation, distance and weather.

    Parameters
    ----------
    zoom
        Smallest and largest side of the part that is seen, relative to the picture.
    gain
        Largest relative change of the brightness of each band.
    blur
        Largest weight of a blurred copy, as by a wider point spread function, in [0, 1].
    noise
        Largest standard deviation of the added noise, where white is 1.
    neighbours
        Probability that the galaxy of another picture lies at the edge.
    """

    zoom: tuple[float, float] = (0.62, 0.97)
    gain: float = 0.2
    blur: float = 1.0
    noise: float = 0.03
    neighbours: float = 0.1

    def __post_init__(self) -> None:
        between_0_and_1(blur=self.blur, neighbours=self.neighbours)
        not_negative(self, "gain", "noise")
        if not 0 < self.zoom[0] <= self.zoom[1] <= 1:
            raise ValueError(f"zoom must be two numbers in (0, 1], the smaller first, got {list(self.zoom)}")


@dataclass(frozen=True)
class ContrastiveTraining(ShardedTraining):
    """Self-supervised training: two views of a picture get similar projections.

    Parameters
    ----------
    loss
        "simclr": those of other pictures get different ones (NT-Xent, Chen et al. 2020,
        arXiv:2002.05709). "vicreg": the projections keep their variance and are uncorrelated (Bardes
        et al. 2022, arXiv:2105.04906). "dino": the moving average of the network is a teacher, which
        sorts pictures into `projection` groups, and the network finds the group from another view
        (Caron et al. 2021, arXiv:2104.14294).
    temperature
        Of "simclr".
    projection
        Size of the projections.
    views
        How a view is drawn.
    """

    steps: int = 1500
    batch_size: int = 256
    lr: float = 1.5e-3
    warmup: int = 50
    decay: float = 0.7
    weight_decay: float = 1e-4
    ema_decay: float = 0.99
    shards: int = 2
    loss: Literal["simclr", "vicreg", "dino"] = "simclr"
    temperature: float = 0.2
    projection: int = 64
    views: SkyViews = field(default_factory=SkyViews)

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "temperature", "projection")
        if self.batch_size // self.shards < 2:
            raise ValueError(f"batch_size / shards must be at least 2, got {self.batch_size} and {self.shards}")
