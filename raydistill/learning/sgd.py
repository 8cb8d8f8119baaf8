"""Update a parameter vector by SGD with momentum, decay and a moving average."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from raydistill.errors import DivergenceError


class Hyperparameters(Protocol):
    """A record with the momentum and the weight decay of `torch.optim.SGD`."""

    @property
    def momentum(self) -> float: ...

    @property
    def weight_decay(self) -> float: ...


class FitState(NamedTuple):
    """The state after `done` steps, or parts of an epoch.

    average_P holds the result: the moving average of theta_P, or theta_P itself without an average.
    loss is the mean training loss since the last state, NaN before the first step.
    """

    done: int
    theta_P: Tensor
    momentum_P: Tensor
    average_P: Tensor
    loss: float


def init_state(theta_P: Tensor) -> FitState:
    """Return the state before the first step."""
    return FitState(0, theta_P, torch.zeros_like(theta_P), theta_P, float("nan"))


def descend(
    state: FitState,
    gradient: Callable[..., tuple[Tensor, Tensor]],
    batches: Iterable[tuple[Any, ...]],
    lr_at: Callable[[int], float],
    sgd: Hyperparameters,
    average: float,
    when: str = "",
) -> FitState:
    """Return the state after one step per batch; `state.done` counts the steps.

    Parameters
    ----------
    state
        The state before the steps.
    gradient
        Returns the gradient, which is overwritten, and the loss at the parameters and a batch.
    batches
        Further arguments of `gradient`, drawn one by one.
    lr_at
        Learning rate by step (from 0).
    sgd
        Momentum and weight decay, as in `torch.optim.SGD`.
    average
        Time constant of the moving average, in steps. 0: none.
    when
        Names the steps in an error. "": by their number.

    Raises
    ------
    DivergenceError
        If parameters or loss are not finite after the steps.
    """
    done, theta_P, momentum_P = state.done, state.theta_P.clone(), state.momentum_P.clone()
    average_P = state.average_P.clone() if average else theta_P
    total = torch.zeros((), device=theta_P.device)
    for done, batch in enumerate(batches, state.done + 1):
        d_theta_P, loss = gradient(theta_P, *batch)
        # Weight decay into the gradient, then momentum, then the step.
        d_theta_P.add_(theta_P, alpha=sgd.weight_decay)
        momentum_P.mul_(sgd.momentum).add_(d_theta_P)
        theta_P.sub_(momentum_P, alpha=lr_at(done - 1))
        if average:
            average_P.lerp_(theta_P, weight_of_newest(average, done))
        total = total + loss
    mean = float(total) / max(done - state.done, 1)
    if not (torch.isfinite(theta_P).all() and math.isfinite(mean)):
        what = f"the loss or the parameters are not finite in {when or f'step {done}'}"
        raise DivergenceError(what, "fit", f"lower the learning rate (now {lr_at(max(done - 1, 0)):g})")
    return FitState(done, theta_P, momentum_P, average_P, mean)


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
