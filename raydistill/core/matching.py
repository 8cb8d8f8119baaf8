r"""The matching loss, and three ways to differentiate it through the student's training.

A student starts at an expert's parameters theta_0 and takes N steps of SGD on the synthetic images x (targets y, learning rate a):

    theta_{i+1} = theta_i - a g(theta_i, x_i),    g = d(student loss)/d(theta)
    L = |theta_N - theta*|^2 / |theta_0 - theta*|^2           (Eq. 3, Cazenavette et al. 2022, arXiv:2203.11932)

`unrolled` keeps the graphs of all N steps and lets autograd walk back: the reference, whose memory grows with N.
`exact` walks the adjoint recursion, which is the same gradient with one step's graph alive at a time:

    lambda_N = 2 (theta_N - theta*) / |theta_0 - theta*|^2
    lambda_i = lambda_{i+1} - a H_i lambda_{i+1}
    dL/dx_i = -a d/dx (g_i . lambda_{i+1}),    dL/dy_i likewise,    dL/da = -sum_i g_i . lambda_{i+1}

Each step is a pure function of tensors, so it may be compiled; a graph that is differentiated twice may not.

`constant-adjoint` leaves out H_i, so that lambda stays lambda_N (TESLA, Cui et al. 2023, arXiv:2211.10586): half of a step's second
derivatives, and an approximation, whose cosine with the gradient falls where the student's steps are large.

Options of the loss, in every engine:
  - `skip`: leading parameters that both norms leave out, those of shallow layers (PAD, Li et al. 2024, arXiv:2408.03360);
  - `nearest`: L is taken not after all N steps but after that of the steps 1 ... N which ends nearest to the target,
    argmin_i |theta_i - theta*|_1 (ATT, Liu et al. 2024, arXiv:2407.14245).

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
EngineName = Literal["exact", "unrolled", "constant-adjoint"]


class Batch(NamedTuple):
    """What one student step sees: which synthetic images (None: all), and how they are augmented."""

    index_B: Tensor | None
    augmentation: AugmentationParameters


class Matched(NamedTuple):
    """The loss of one unroll and its gradients, shapes as the inputs'; the student steps that led there."""

    loss: Tensor
    d_images_SCHW: Tensor
    d_targets_SK: Tensor
    d_lr: Tensor
    steps: int

    @property
    def gradients(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.d_images_SCHW, self.d_targets_SK, self.d_lr


class _Adjoint(NamedTuple):
    product: Tensor  # g . lambda
    d_theta_P: Tensor | None  # H lambda; the constant adjoint does without
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
        "constant-adjoint": TESLA's approximation of them.
    compile
        Compile the steps with `torch.compile` (not "unrolled"): 30-60 s once, then faster; agrees with eager to rounding.
    skip
        Leading parameters that the matching loss leaves out.
    nearest
        Match after the step that ends nearest to the target, instead of after all of them.
    """

    def __init__(
        self,
        loss: LossFunction,
        engine: EngineName = "exact",
        compile: bool = False,
        skip: int = 0,
        nearest: bool = False,
    ) -> None:
        if compile and engine == "unrolled":
            raise ValueError("the unrolled engine differentiates a graph twice, which torch.compile cannot")
        self._loss = loss
        self._engine = engine
        self._skip = skip
        self._nearest = nearest
        constant = engine == "constant-adjoint"

        def gradient(theta_P: Tensor, images: Tensor, targets: Tensor, parameters: AugmentationParameters) -> Tensor:
            value: Tensor = torch.func.grad(loss)(theta_P, images, targets, parameters)
            return value

        def adjoint(
            theta_P: Tensor, images: Tensor, targets: Tensor, parameters: AugmentationParameters, lambda_P: Tensor
        ) -> _Adjoint:
            def product(theta_P: Tensor, images: Tensor, targets: Tensor) -> Tensor:
                return torch.dot(gradient(theta_P, images, targets, parameters), lambda_P)

            wanted = (1, 2) if constant else (0, 1, 2)
            gradients, value = torch.func.grad_and_value(product, argnums=wanted)(theta_P, images, targets)
            return _Adjoint(value, None if constant else gradients[0], *gradients[-2:])

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
        """The matching loss after the student's steps and its gradients in images, targets and learning rate (a scalar).

        ValueError if start and target are the same parameters.
        """
        images, targets, lr = images_SCHW.detach(), targets_SK.detach(), lr.detach()
        if self._engine == "unrolled":
            return self._unrolled(start_P, target_P, images, targets, lr, batches)
        return self._adjoint_walk(start_P, target_P, images, targets, lr, batches)

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
        path = self._walk(start_P, images_SCHW.detach(), targets_SK.detach(), lr.detach(), batches)
        return self._loss_at(path[self._last(path, target_P)], start_P, target_P)

    def _loss_at(self, end_P: Tensor, start_P: Tensor, target_P: Tensor) -> Tensor:
        return matching_loss(end_P[self._skip :], start_P[self._skip :], target_P[self._skip :])

    def _last(self, path: Sequence[Tensor], target_P: Tensor) -> int:
        """The step after which the loss is taken: an index into [theta_0, ..., theta_N], at least 1."""
        if not self._nearest:
            return len(path) - 1
        matched = slice(self._skip, None)
        distances = torch.stack([(theta_P[matched] - target_P[matched]).abs().sum() for theta_P in path[1:]])
        return 1 + int(distances.argmin())

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
    def _adjoint_walk(
        self, start_P: Tensor, target_P: Tensor, images: Tensor, targets: Tensor, lr: Tensor, batches: Sequence[Batch]
    ) -> Matched:
        path = self._walk(start_P, images, targets, lr, batches)
        last = self._last(path, target_P)
        end_P = path[last]
        loss = self._loss_at(end_P, start_P, target_P)
        lambda_P = 2 * (end_P - target_P) / (start_P - target_P)[self._skip :].square().sum()
        lambda_P[: self._skip] = 0
        d_images, d_targets, d_lr = torch.zeros_like(images), torch.zeros_like(targets), torch.zeros_like(lr)
        for theta_P, (index, augmentation) in reversed(list(zip(path[:last], batches[:last], strict=True))):
            step = self._adjoint(theta_P, _rows(images, index), _rows(targets, index), augmentation, lambda_P)
            d_lr -= step.product
            _add_rows(d_images, index, -lr * step.d_images_BCHW)
            _add_rows(d_targets, index, -lr * step.d_targets_BK)
            if step.d_theta_P is not None:
                lambda_P = lambda_P - lr * step.d_theta_P
        return Matched(loss, d_images, d_targets, d_lr, last)

    @torch.enable_grad()  # also where the caller keeps no graphs
    def _unrolled(
        self, start_P: Tensor, target_P: Tensor, images: Tensor, targets: Tensor, lr: Tensor, batches: Sequence[Batch]
    ) -> Matched:
        last = len(batches)
        if self._nearest:
            last = self._last(self._walk(start_P, images, targets, lr, batches), target_P)
        inputs = [tensor.requires_grad_() for tensor in (images.clone(), targets.clone(), lr.clone())]
        images, targets, lr = inputs
        theta_P = start_P.detach().requires_grad_()
        for index, augmentation in batches[:last]:
            loss = self._loss(theta_P, _rows(images, index), _rows(targets, index), augmentation)
            (gradient,) = torch.autograd.grad(loss, theta_P, create_graph=True)
            theta_P = theta_P - lr * gradient
        value = self._loss_at(theta_P, start_P, target_P)
        d_images, d_targets, d_lr = torch.autograd.grad(value, inputs)
        return Matched(value.detach(), d_images, d_targets, d_lr, last)


def _rows(tensor: Tensor, index: Tensor | None) -> Tensor:
    return tensor if index is None else tensor[index]


def _add_rows(total: Tensor, index: Tensor | None, rows: Tensor) -> None:
    if index is None:
        total += rows
    else:
        total.index_add_(0, index, rows)
