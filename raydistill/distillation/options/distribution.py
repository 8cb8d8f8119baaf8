"""Define the hyper-parameters of distribution matching."""

from __future__ import annotations

from dataclasses import dataclass

from raydistill.learning.augment import DSA, Augmentation
from raydistill.learning.checks import at_least_0_below_1, positive


@dataclass(frozen=True, kw_only=True)
class DistributionMatching:
    """Options of distribution matching.

    Parameters
    ----------
    seed
        Seed of the initial images, batches and networks.
    iterations
        Number of iterations; 20000 in the paper.
    batch_size
        Real images per class and iteration; 256 in the paper.
    lr
        Learning rate of SGD; the paper takes 1, and 10 for 50 images per class.
    momentum
        Momentum of SGD.
    augmentation
        Augmentation of real and synthetic images; it must be shared.
    """

    seed: int = 0
    iterations: int = 1000
    batch_size: int = 64
    lr: float = 1.0
    momentum: float = 0.5
    augmentation: Augmentation = Augmentation(DSA, mode="single", shared=True)

    def __post_init__(self) -> None:
        positive(self, "iterations", "batch_size", "lr")
        at_least_0_below_1(momentum=self.momentum)
        if not self.augmentation.shared:
            raise ValueError("augmentation.shared must be true: real and synthetic images are augmented alike")
