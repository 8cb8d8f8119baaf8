"""Define the hyper-parameters of training a generator (`diffusion.training`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from raydistill.learning.arithmetic import Precision
from raydistill.learning.augment import Augmentation
from raydistill.learning.checks import at_least, at_least_0_below_1, between_0_and_1, not_negative, positive


@dataclass(frozen=True)
class GeneratorTraining:
    """AdamW on noisy images.

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
    group_rate, all_rate
        Probabilities that one group of a condition, or all, are hidden (`drop_groups`).
    symmetries
        Random symmetries of the training images. "dihedral": flips and quarter turns; "mirror":
        those that keep the horizontal axis, for aligned galaxies; "none".
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
    group_rate: float = 0.08
    all_rate: float = 0.1
    symmetries: Literal["dihedral", "mirror", "none"] = "dihedral"
    shards: int = 4
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        positive(self, "steps", "batch_size", "lr", "max_norm", "ema_power")
        not_negative(self, "warmup", "weight_decay")
        at_least(1, shards=self.shards)
        at_least_0_below_1(ema_decay=self.ema_decay)
        between_0_and_1(decay=self.decay, group_rate=self.group_rate, all_rate=self.all_rate)
        if self.batch_size % self.shards:
            raise ValueError(f"batch_size must be a multiple of shards, got {self.batch_size} and {self.shards}")

    def lr_at(self, step: int) -> float:
        """Return the learning rate of step number `step` (from 0)."""
        rising = (step + 1) / (self.warmup + 1)
        falling = (self.steps - step) / (self.decay * self.steps) if self.decay else 1.0
        return self.lr * min(rising, falling, 1.0)

    @property
    def augmentation(self) -> Augmentation:
        """The symmetries as an augmentation."""
        return Augmentation(() if self.symmetries == "none" else (self.symmetries,))
