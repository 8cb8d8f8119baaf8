"""Define the hyper-parameters of NCFM (`distillation.characteristic`)."""

from __future__ import annotations

from dataclasses import dataclass

from raydistill.learning.checks import between_0_and_1, not_negative, positive


@dataclass(frozen=True, kw_only=True)
class CharacteristicMatching:
    """Options of matching characteristic functions.

    Parameters
    ----------
    seed
        Seed of the initial images, batches, networks and frequencies.
    iterations
        Number of iterations; 20000 in the paper.
    batch_size
        Real images per class and iteration.
    lr
        Learning rate of Adam on the images, in standard deviations of a channel.
    num_frequencies
        F; 1024 to 4096 in the paper.
    amplitude
        a, the weight of amplitudes.
    frequency_lr
        Learning rate of Adam on the network s; 0: normal frequencies.
    num_networks
        Number of trained networks.
    training_epochs
        Epochs of their training.
    """

    seed: int = 0
    iterations: int = 1000
    batch_size: int = 64
    lr: float = 0.01
    num_frequencies: int = 1024
    amplitude: float = 0.5
    frequency_lr: float = 0.001
    num_networks: int = 2
    training_epochs: int = 10

    def __post_init__(self) -> None:
        positive(self, "iterations", "batch_size", "lr", "num_frequencies", "num_networks", "training_epochs")
        not_negative(self, "frequency_lr")
        between_0_and_1(amplitude=self.amplitude)
