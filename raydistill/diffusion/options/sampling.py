"""Define how images are sampled (`diffusion.sampling`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from raydistill.learning.checks import at_least, not_negative, positive

Order = Literal[1, 2]


@dataclass(frozen=True)
class Sampling:
    """How images are sampled.

    Parameters
    ----------
    steps
        Calls of the network; with guidance each has twice the images.
    guidance
        Factor g of D = D_unconditional + g (D_conditional - D_unconditional), see Ho & Salimans
        2022, arXiv:2207.12598. 1: no guidance. Larger: closer to the condition, less diverse.
    order
        1: DDIM; 2: two-step Adams-Bashforth (`solver`).
    shift
        More than 1: more of the steps at high noise, where the brightness is decided (`solver`).
        Without a shift the brightness of samples varies too little, and guidance darkens them more.
    """

    steps: int = 20
    guidance: float = 2.0
    order: Order = 2
    shift: float = 3.0

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps)
        not_negative(self, "guidance")
        positive(self, "shift")
        if self.order not in (1, 2):
            raise ValueError(f"order must be 1 or 2, got {self.order}")
