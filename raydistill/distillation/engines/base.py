"""Define the matching problem, and the interface of every engine.

An engine computes the matching loss and its gradients. `distillation.matching` states the equations.

Shape letters: S synthetic images, B images of one step, P parameters, K classes, C H W an image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from raydistill.learning.augmenting import AugmentationParameters
from raydistill.learning.losses import LossFunction


class Batch(NamedTuple):
    """The synthetic images of a student step (None: all), and their augmentation."""

    index_B: Tensor | None
    augmentation: AugmentationParameters


class MatchResult(NamedTuple):
    """The matching loss, its gradients (shapes of the inputs), and the matched steps."""

    loss: Tensor
    d_images_SCHW: Tensor
    d_targets_SK: Tensor
    d_lr: Tensor
    steps: int  # 0: the expert is stationary, see `matching.no_match`

    @property
    def gradients(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients in images, targets and learning rate."""
        return self.d_images_SCHW, self.d_targets_SK, self.d_lr


def matching_loss(end_P: Tensor, start_P: Tensor, target_P: Tensor) -> Tensor:
    """Return the squared distance to the target in units of the expert's displacement.

    Parameters
    ----------
    end_P, start_P, target_P
        theta_N of the student, theta_0, and theta* of the expert; [P].

    Returns
    -------
    Tensor
        ``L = |theta_N - theta*|^2 / |theta_0 - theta*|^2``, a scalar. 0: the student reached the
        target. 1: it is as far away as at the start. Above 1: it moved away.

    Raises
    ------
    ValueError
        If start and target are equal.

    References
    ----------
    Eq. 3, Cazenavette et al. 2022, arXiv:2203.11932.
    """
    displacement = (start_P - target_P).square().sum()
    if displacement == 0:
        raise ValueError("start and target are the same parameters: the expert did not move, so nothing can be matched")
    return (end_P - target_P).square().sum() / displacement


@dataclass(frozen=True)
class StudentSteps:
    """The inputs of every student step: `steps[i]` is (images, targets, augmentation)."""

    images_SCHW: Tensor
    targets_SK: Tensor
    batches: Sequence[Batch]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor, AugmentationParameters]:
        index, augmentation = self.batches[i]
        return select_rows(self.images_SCHW, index), select_rows(self.targets_SK, index), augmentation


@dataclass(frozen=True)
class Target:
    """The parameters of an expert, which the student should reach.

    Attributes
    ----------
    start_P, target_P
        theta_0 and theta*.
    skip
        Number of leading parameters that are not compared.
    """

    start_P: Tensor
    target_P: Tensor
    skip: int = 0

    def loss(self, end_P: Tensor) -> Tensor:
        """Return the matching loss of a student that ends at `end_P`."""
        return matching_loss(end_P[self.skip :], self.start_P[self.skip :], self.target_P[self.skip :])

    def loss_and_gradient(self, end_P: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and its gradient in `end_P`."""
        gradient_P = 2 * (end_P - self.target_P) / (self.start_P - self.target_P)[self.skip :].square().sum()
        gradient_P[: self.skip] = 0
        return self.loss(end_P), gradient_P

    def distance(self, theta_P: Tensor) -> float:
        """Return the L1 distance to the target."""
        return float((theta_P - self.target_P)[self.skip :].abs().sum())


@dataclass(frozen=True)
class Outcome:
    """The loss of the student on real images.

    Attributes
    ----------
    function
        For example `student_loss(network, augmentation)`.
    images_BCHW, targets_BK, augmentation
        Its arguments after the parameters.
    """

    function: LossFunction
    images_BCHW: Tensor
    targets_BK: Tensor
    augmentation: AugmentationParameters

    def loss(self, end_P: Tensor) -> Tensor:
        """Return the loss of a student that ends at `end_P`."""
        return self.function(end_P, self.images_BCHW, self.targets_BK, self.augmentation)

    def loss_and_gradient(self, end_P: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and its gradient in `end_P`."""
        gradient_P, loss = torch.func.grad_and_value(self.loss)(end_P)
        return loss, gradient_P


class Problem(NamedTuple):
    """The student's training, and the loss of its last parameters.

    `nearest` is an option of the matching loss, see `distillation.matching`. The student has no velocity at
    first if `velocity_P` is None.
    """

    start_P: Tensor
    terminal: Target | Outcome
    steps: StudentSteps
    lr: Tensor
    momentum: float = 0.0
    velocity_P: Tensor | None = None
    nearest: bool = False


class Endpoint(NamedTuple):
    """The last parameters of the student, and the number of steps that lead to them."""

    end_P: Tensor
    steps: int


def advance(
    theta_P: Tensor, velocity_P: Tensor | None, gradient_P: Tensor, lr: Tensor, momentum: float
) -> tuple[Tensor, Tensor]:
    """Return parameters and velocity after a step of SGD with momentum."""
    if momentum and velocity_P is not None:
        gradient_P = momentum * velocity_P + gradient_P
    return theta_P - lr * gradient_P, gradient_P


def forward(problem: Problem, gradient: Callable[[int, Tensor, Tensor | None], Tensor]) -> Endpoint:
    """Take all student steps; `gradient(i, theta_P, velocity_P)` is that of step i."""
    theta_P, velocity_P, terminal = problem.start_P, problem.velocity_P, problem.terminal
    nearest, shortest = Endpoint(theta_P, len(problem.steps)), float("inf")
    for i in range(len(problem.steps)):
        step = gradient(i, theta_P, velocity_P)
        theta_P, velocity_P = advance(theta_P, velocity_P, step, problem.lr, problem.momentum)
        if problem.nearest and isinstance(terminal, Target):
            distance = terminal.distance(theta_P)
            if distance < shortest:
                nearest, shortest = Endpoint(theta_P, i + 1), distance
    return nearest if problem.nearest else Endpoint(theta_P, len(problem.steps))


class Engine(Protocol):
    """Compute gradients of the matching loss for one student loss."""

    def gradient(self, theta_P: Tensor, images: Tensor, targets: Tensor, parameters: AugmentationParameters) -> Tensor:
        """Return the gradient [P] of one student step."""
        ...

    def match(self, problem: Problem) -> MatchResult:
        """Return the matching loss and its gradients."""
        ...


@torch.no_grad()
def endpoint(engine: Engine, problem: Problem) -> Endpoint:
    """Take all student steps and keep no graph."""
    return forward(problem, lambda i, theta_P, _: engine.gradient(theta_P, *problem.steps[i]))


def select_rows(tensor: Tensor, index: Tensor | None) -> Tensor:
    """Return the rows of an index; None: all rows."""
    return tensor if index is None else tensor[index]


def add_rows(total: Tensor, index: Tensor | None, rows: Tensor) -> None:
    """Add rows to `total` in place, the inverse of `select_rows`."""
    if index is None:
        total += rows
    else:
        total.index_add_(0, index, rows)
