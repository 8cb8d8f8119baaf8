r"""The matching loss, and two ways to differentiate it through the student's training.

A student starts at an expert's parameters theta_0 and takes N steps of SGD on the synthetic images x (targets y, learning rate a):

    theta_{i+1} = theta_i - a g(theta_i, x_i),    g = d(student loss)/d(theta)
    L = |theta_N - theta*|^2 / |theta_0 - theta*|^2           (Eq. 3, Cazenavette et al. 2022, arXiv:2203.11932)

`unrolled` keeps the graphs of all N steps and lets autograd walk back: the reference, whose memory grows with N.
`exact` walks the adjoint recursion, which is the same gradient with one step's graph alive at a time:

    lambda_N = 2 (theta_N - theta*) / |theta_0 - theta*|^2
    lambda_i = lambda_{i+1} - a H_i lambda_{i+1}
    dL/dx_i = -a d/dx (g_i . lambda_{i+1}),    dL/dy_i likewise,    dL/da = -sum_i g_i . lambda_{i+1}

Each step is a pure function of tensors, so it may be compiled; a graph that is differentiated twice may not.

Shape letters: S synthetic images, B images of one step, P parameters, K classes, C H W an image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from raydistill.core.augment import Augmentation, AugmentationParameters
from raydistill.core.networks import Network

LossFunction = Callable[[Tensor, Tensor, Tensor, AugmentationParameters], Tensor]
Precision = Literal["float32", "bfloat16"]
EngineName = Literal["exact", "unrolled"]


class Batch(NamedTuple):
    """What one student step sees: which synthetic images (None: all), and how they are augmented."""

    index_B: Tensor | None
    augmentation: AugmentationParameters


class Matched(NamedTuple):
    """The loss of one unroll and its gradients; shapes as the inputs'."""

    loss: Tensor
    d_images_SCHW: Tensor
    d_targets_SK: Tensor
    d_lr: Tensor


class _Adjoint(NamedTuple):
    product: Tensor  # g . lambda
    d_theta_P: Tensor  # H lambda
    d_images_BCHW: Tensor
    d_targets_BK: Tensor


def cross_entropy(logits_BK: Tensor, targets_BK: Tensor) -> Tensor:
    """Mean over the batch of -sum_k y_k log p_k, for targets that are probabilities (hard labels: one-hot)."""
    return -(targets_BK * logits_BK.log_softmax(dim=1)).sum(dim=1).mean()


def student_loss(network: Network, augmentation: Augmentation, precision: Precision = "float32") -> LossFunction:
    """`loss(theta_P, images_BCHW, targets_BK, augmentation_parameters)`: cross entropy on the augmented images."""

    def loss(theta_P: Tensor, images_BCHW: Tensor, targets_BK: Tensor, parameters: AugmentationParameters) -> Tensor:
        images = augmentation.apply(images_BCHW, parameters)
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            logits = network(theta_P, images)
        return cross_entropy(logits.to(theta_P.dtype), targets_BK)

    return loss


def matching_loss(end_P: Tensor, start_P: Tensor, target_P: Tensor) -> Tensor:
    """Squared distance to the expert, in units of the expert's own displacement.

    1: the student went nowhere; 0: it arrived; above 1: it walked away. ValueError if start equals target.
    """
    own = (start_P - target_P).square().sum()
    if own == 0:
        raise ValueError("start and target are the same parameters: the expert did not move, so nothing can be matched")
    return (end_P - target_P).square().sum() / own


class Matcher:
    """Student steps on synthetic images, and the gradients of where they lead.

    Parameters
    ----------
    loss
        The student's loss of one step.
    engine
        "exact": the adjoint recursion, memory of one step; "unrolled": autograd through all steps. Same values.
    compile
        Compile the steps with `torch.compile` ("exact" only): 30-60 s once, then faster; agrees with eager to rounding.
    """

    def __init__(self, loss: LossFunction, engine: EngineName = "exact", compile: bool = False) -> None:
        if compile and engine == "unrolled":
            raise ValueError("the unrolled engine differentiates a graph twice, which torch.compile cannot")
        self._loss = loss
        self._engine = engine

        def gradient(theta_P: Tensor, images: Tensor, targets: Tensor, parameters: AugmentationParameters) -> Tensor:
            value: Tensor = torch.func.grad(loss)(theta_P, images, targets, parameters)
            return value

        def adjoint(
            theta_P: Tensor, images: Tensor, targets: Tensor, parameters: AugmentationParameters, lambda_P: Tensor
        ) -> _Adjoint:
            def product(theta_P: Tensor, images: Tensor, targets: Tensor) -> Tensor:
                return torch.dot(gradient(theta_P, images, targets, parameters), lambda_P)

            (d_theta, d_images, d_targets), value = torch.func.grad_and_value(product, argnums=(0, 1, 2))(
                theta_P, images, targets
            )
            return _Adjoint(value, d_theta, d_images, d_targets)

        # The number of synthetic images of a step never changes within a run, so shapes are static.
        wrap: Callable[[Any], Any] = (lambda f: torch.compile(f, dynamic=False)) if compile else (lambda f: f)
        self._gradient, self._adjoint = wrap(gradient), wrap(adjoint)

    def match(
        self,
        start_P: Tensor,
        target_P: Tensor,
        images_SCHW: Tensor,
        targets_SK: Tensor,
        lr: Tensor,
        batches: Sequence[Batch],
    ) -> Matched:
        """The matching loss after `len(batches)` steps and its gradients in images, targets and learning rate (a scalar)."""
        images, targets, lr = images_SCHW.detach(), targets_SK.detach(), lr.detach()
        if self._engine == "unrolled":
            return self._unrolled(start_P, target_P, images, targets, lr, batches)
        return self._exact(start_P, target_P, images, targets, lr, batches)

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
        """The matching loss alone, without any graph: what the self-adaptive schedule watches."""
        end = self._walk(start_P, images_SCHW.detach(), targets_SK.detach(), lr.detach(), batches)[-1]
        return matching_loss(end, start_P, target_P)

    @torch.no_grad()
    def _walk(
        self, start_P: Tensor, images: Tensor, targets: Tensor, lr: Tensor, batches: Sequence[Batch]
    ) -> list[Tensor]:
        """[theta_0, ..., theta_N]. Only the parameters are kept: N vectors, no graphs."""
        path = [start_P]
        for index, augmentation in batches:
            gradient = self._gradient(path[-1], _rows(images, index), _rows(targets, index), augmentation)
            path.append(path[-1] - lr * gradient)
        return path

    @torch.no_grad()
    def _exact(
        self, start_P: Tensor, target_P: Tensor, images: Tensor, targets: Tensor, lr: Tensor, batches: Sequence[Batch]
    ) -> Matched:
        path = self._walk(start_P, images, targets, lr, batches)
        end_P = path.pop()
        loss = matching_loss(end_P, start_P, target_P)
        lambda_P = 2 * (end_P - target_P) / (start_P - target_P).square().sum()
        d_images, d_targets, d_lr = torch.zeros_like(images), torch.zeros_like(targets), torch.zeros_like(lr)
        for index, augmentation in reversed(batches):
            step = self._adjoint(path.pop(), _rows(images, index), _rows(targets, index), augmentation, lambda_P)
            d_lr -= step.product
            _add_rows(d_images, index, -lr * step.d_images_BCHW)
            _add_rows(d_targets, index, -lr * step.d_targets_BK)
            lambda_P = lambda_P - lr * step.d_theta_P
        return Matched(loss, d_images, d_targets, d_lr)

    @torch.enable_grad()  # also where the caller keeps no graphs
    def _unrolled(
        self, start_P: Tensor, target_P: Tensor, images: Tensor, targets: Tensor, lr: Tensor, batches: Sequence[Batch]
    ) -> Matched:
        inputs = [tensor.requires_grad_() for tensor in (images.clone(), targets.clone(), lr.clone())]
        images, targets, lr = inputs
        theta_P = start_P.detach().requires_grad_()
        for index, augmentation in batches:
            loss = self._loss(theta_P, _rows(images, index), _rows(targets, index), augmentation)
            (gradient,) = torch.autograd.grad(loss, theta_P, create_graph=True)
            theta_P = theta_P - lr * gradient
        value = matching_loss(theta_P, start_P, target_P)
        return Matched(value.detach(), *torch.autograd.grad(value, inputs))


def _rows(tensor: Tensor, index: Tensor | None) -> Tensor:
    return tensor if index is None else tensor[index]


def _add_rows(total: Tensor, index: Tensor | None, rows: Tensor) -> None:
    if index is None:
        total += rows
    else:
        total.index_add_(0, index, rows)
