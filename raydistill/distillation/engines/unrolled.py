"""Define the unrolled engine: autograd through the graphs of all student steps.

It is the reference for the other engines. Its memory grows with the number of steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from raydistill.distillation.engines.base import MatchResult, Problem, StudentSteps, advance, endpoint
from raydistill.learning.augmenting import AugmentationParameters
from raydistill.learning.losses import LossFunction


@dataclass(frozen=True, kw_only=True)
class Unrolled:
    """Options of the unrolled engine: it has none."""

    def build(self, loss: LossFunction) -> UnrolledEngine:
        """Return the engine for a student loss."""
        return UnrolledEngine(loss)


class UnrolledEngine:
    """Keep the graphs of all steps.

    torch.compile cannot compile a graph that is differentiated twice.
    """

    def __init__(self, loss: LossFunction) -> None:
        self._loss = loss

    def gradient(self, theta_P: Tensor, images: Tensor, targets: Tensor, parameters: AugmentationParameters) -> Tensor:
        """Return the gradient [P] of one student step."""
        return torch.func.grad(self._loss)(theta_P, images, targets, parameters)

    @torch.enable_grad()  # the caller may have disabled gradients
    def match(self, problem: Problem) -> MatchResult:
        """Return the matching loss and its gradients."""
        images, targets, batches = problem.steps.images_SCHW, problem.steps.targets_SK, problem.steps.batches
        inputs = [tensor.clone().requires_grad_() for tensor in (images, targets, problem.lr)]
        steps, lr = StudentSteps(inputs[0], inputs[1], batches), inputs[2]
        last = endpoint(self, problem).steps if problem.nearest else len(steps)
        theta_P, velocity_P = problem.start_P.detach().requires_grad_(), problem.velocity_P
        for i in range(last):
            (gradient_P,) = torch.autograd.grad(self._loss(theta_P, *steps[i]), theta_P, create_graph=True)
            theta_P, velocity_P = advance(theta_P, velocity_P, gradient_P, lr, problem.momentum)
        loss = problem.terminal.loss(theta_P)
        d_images, d_targets, d_lr = torch.autograd.grad(loss, inputs)
        return MatchResult(loss.detach(), d_images, d_targets, d_lr, last)
