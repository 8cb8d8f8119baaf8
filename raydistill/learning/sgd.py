"""Update a parameter vector by SGD with momentum, decay and a moving average."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from raydistill.errors import DivergenceError


class Hyperparameters(Protocol):
    """A record with the momentum and the weight decay of `torch.optim.SGD`."""

    @property
    def momentum(self) -> float: ...

    @property
    def weight_decay(self) -> float: ...


def step_in_place(theta_P: Tensor, momentum_P: Tensor, d_theta_P: Tensor, lr: float, sgd: Hyperparameters) -> None:
    """Update parameters and momentum as in `torch.optim.SGD`; overwrite the gradient."""
    # Weight decay into the gradient, then momentum, then the step.
    d_theta_P.add_(theta_P, alpha=sgd.weight_decay)
    momentum_P.mul_(sgd.momentum).add_(d_theta_P)
    theta_P.sub_(momentum_P, alpha=lr)


def weight_of_newest(steps: float, done: int) -> float:
    """Return the weight of the newest parameters in a moving average over the steps.

    Parameters
    ----------
    steps
        Time constant of the average, in steps.
    done
        Steps so far, from 1. The weight is larger in the first steps.
    """
    return max(1 / (1 + steps), 9 / (10 + done))


def check_finite(theta_P: Tensor, loss: float, when: str, lr: float) -> None:
    """Raise DivergenceError unless parameters and loss are finite.

    `when` names the epoch or step.
    """
    if not (torch.isfinite(theta_P).all() and math.isfinite(loss)):
        raise DivergenceError(
            f"the loss or the parameters are not finite in {when}", "fit", f"lower the learning rate (now {lr:g})"
        )
