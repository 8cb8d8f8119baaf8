r"""Compute the matching loss of a student, and its gradients.

A student starts at an expert's parameters theta_0 and takes N steps of SGD on the synthetic images
x (targets y, learning rate a):

    theta_{i+1} = theta_i - a g(theta_i, x_i),    g = d(student loss)/d(theta)
    L = |theta_N - theta*|^2 / |theta_0 - theta*|^2           (Eq. 3, Cazenavette et al. 2022, arXiv:2203.11932)

`distillation.engines` differentiates L in x, y and a: `Adjoint` (exact; keeps the graph of one step and the
parameters of all) or `Unrolled` (reference).

The loss has two options, in every engine:
  - `skip`: both norms leave out the leading parameters, those of shallow layers
    (PAD, Li et al. 2024, arXiv:2408.03360);
  - `nearest`: L is taken after the step 1 ... N that ends nearest to the target,
    argmin_i |theta_i - theta*|_1 (ATT, Liu et al. 2024, arXiv:2407.14245).

Shape letters: S synthetic images, B images of one step, P parameters, K classes, C H W an image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from raydistill.distillation.engines.adjoint import Adjoint
from raydistill.distillation.engines.base import (
    Batch,
    MatchResult,
    Outcome,
    Problem,
    StudentSteps,
    Target,
    advance,
    endpoint,
)
from raydistill.distillation.engines.unrolled import Unrolled
from raydistill.learning.losses import LossFunction


def no_match(images_SCHW: Tensor, targets_SK: Tensor, lr: Tensor) -> MatchResult:
    """Return the result for a stationary expert: loss NaN, gradients 0, no step."""
    zeros = (torch.zeros_like(images_SCHW), torch.zeros_like(targets_SK), torch.zeros_like(lr))
    return MatchResult(torch.full_like(lr, float("nan")), *zeros, steps=0)


class Matcher:
    """Compute the matching loss of a student and its gradients.

    Parameters
    ----------
    loss
        The student's loss of one step, for example `student_loss(network, augmentation)`.
    engine
        How the loss is differentiated: `Adjoint()` or `Unrolled()`.
    skip
        Number of leading parameters that the matching loss leaves out.
    nearest
        Match after the step that ends nearest to the target, instead of after the last one.
    """

    def __init__(
        self, loss: LossFunction, engine: Adjoint | Unrolled | None = None, *, skip: int = 0, nearest: bool = False
    ) -> None:
        self._engine = (engine or Adjoint()).build(loss)
        self.skip = skip
        self._nearest = nearest

    def match(
        self,
        start_P: Tensor,
        target_P: Tensor,
        images_SCHW: Tensor,
        targets_SK: Tensor,
        lr: Tensor,
        batches: Sequence[Batch],
    ) -> MatchResult:
        """Return the matching loss after the student's steps, and its gradients.

        Parameters
        ----------
        start_P, target_P
            theta_0 and theta*, [P].
        images_SCHW, targets_SK
            Synthetic images (normalised) and their target probabilities.
        lr
            The student's learning rate, a scalar tensor.
        batches
            One batch for every student step.

        Returns
        -------
        MatchResult
            The gradients are those in images, targets and learning rate.

        Raises
        ------
        ValueError
            If start and target are the same parameters.
        """
        return self._engine.match(self._problem(start_P, target_P, images_SCHW, targets_SK, lr, batches))

    def match_outcome(
        self,
        start_P: Tensor,
        outcome: Outcome,
        images_SCHW: Tensor,
        targets_SK: Tensor,
        lr: Tensor,
        batches: Sequence[Batch],
        momentum: float = 0.0,
        velocity_P: Tensor | None = None,
    ) -> MatchResult:
        """Return the loss on real images after the student's steps, and its gradients.

        Parameters
        ----------
        start_P
            theta_0 [P].
        outcome
            The real images.
        images_SCHW, targets_SK, lr, batches
            As in `match`.
        momentum, velocity_P
            Momentum of the student's SGD, and its velocity v_0; None: 0.
        """
        steps = StudentSteps(images_SCHW.detach(), targets_SK.detach(), batches)
        return self._engine.match(Problem(start_P, outcome, steps, lr.detach(), momentum, velocity_P))

    @torch.no_grad()
    def train(
        self,
        theta_P: Tensor,
        images_SCHW: Tensor,
        targets_SK: Tensor,
        lr: Tensor,
        batches: Sequence[Batch],
        momentum: float,
    ) -> tuple[Tensor, Tensor | None]:
        """Return parameters and velocity after the student's steps, without a graph.

        The velocity is None before the first step.
        """
        steps, velocity_P = StudentSteps(images_SCHW, targets_SK, batches), None
        for i in range(len(steps)):
            step_P = self._engine.gradient(theta_P, *steps[i])
            theta_P, velocity_P = advance(theta_P, velocity_P, step_P, lr, momentum)
        return theta_P, velocity_P

    @torch.no_grad()
    def loss(
        self,
        start_P: Tensor,
        target_P: Tensor,
        images_SCHW: Tensor,
        targets_SK: Tensor,
        lr: Tensor,
        batches: Sequence[Batch],
    ) -> Tensor:
        """Return the matching loss alone, without a graph; parameters as in `match`."""
        problem = self._problem(start_P, target_P, images_SCHW, targets_SK, lr, batches)
        return problem.terminal.loss(endpoint(self._engine, problem).end_P)

    @torch.no_grad()
    def displacement(
        self, start_P: Tensor, images_SCHW: Tensor, targets_SK: Tensor, lr: Tensor, batches: Sequence[Batch]
    ) -> Tensor:
        """Return ``|theta_N - theta_0|`` over the parameters that the loss compares."""
        problem = self._problem(start_P, start_P, images_SCHW, targets_SK, lr, batches)._replace(nearest=False)
        return (endpoint(self._engine, problem).end_P - start_P)[self.skip :].norm()

    def is_stationary(self, start_P: Tensor, target_P: Tensor) -> bool:
        """Return True if the compared parameters did not move: nothing can be matched."""
        return not (start_P - target_P)[self.skip :].square().any()

    def _problem(
        self,
        start_P: Tensor,
        target_P: Tensor,
        images_SCHW: Tensor,
        targets_SK: Tensor,
        lr: Tensor,
        batches: Sequence[Batch],
    ) -> Problem:
        steps = StudentSteps(images_SCHW.detach(), targets_SK.detach(), batches)
        return Problem(start_P, Target(start_P, target_P, self.skip), steps, lr.detach(), nearest=self._nearest)
