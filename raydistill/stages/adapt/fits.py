"""A fit: one network by its training set, method, seed and hyper-parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Method = Literal["none", "adapted", "ceiling"]


@dataclass(frozen=True)
class Fit:
    """One network to train.

    Attributes
    ----------
    training_set
        "source", "source_synthetic" or "distilled"; "" for the ceiling.
    method
        "none": without the target; "adapted": aligned with it; "ceiling": on its labels.
    seed
        Number of the network.
    lr
        Learning rate.
    strength
        Strength of the alignment; 0 without one.
    """

    training_set: str
    method: Method
    seed: int
    lr: float
    strength: float = 0.0

    @property
    def title(self) -> str:
        """Return training set and method, for the log."""
        return f"{self.method} of {self.training_set}" if self.training_set else self.method
