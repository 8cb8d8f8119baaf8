r"""The matching loss, and three ways to differentiate it through the student's training.

A student starts at an expert's parameters theta_0 and takes N steps of SGD on the synthetic images x (targets y, learning rate a):

    theta_{i+1} = theta_i - a g(theta_i, x_i),    g = d(student loss)/d(theta)
    L = |theta_N - theta*|^2 / |theta_0 - theta*|^2           (Eq. 3, Cazenavette et al. 2022, arXiv:2203.11932)

`unrolled` keeps the graphs of all N steps and lets autograd walk back: the reference, whose memory grows with N.
`exact` walks the adjoint recursion, which is the same gradient with one step's graph alive at a time:

    lambda_N = 2 (theta_N - theta*) / |theta_0 - theta*|^2
    lambda_i = lambda_{i+1} - a H_i lambda_{i+1}
    dL/dx_i = -a d/dx (g_i . lambda_{i+1}),    dL/dy_i likewise,    dL/da = -sum_i g_i . lambda_{i+1}

Each step is a pure function of tensors, so it may be compiled; a graph that is differentiated twice may not. What a walk keeps is a
question of memory alone and changes no bit: by default theta_0 ... theta_{N-1}; with less memory every c-th of them, from which the
others are walked again (in units of a forward pass F: 15 F a step in place of 12 F); with more memory, and without compiling, also
the graphs of the last steps, which are then not recomputed (9 F).

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
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from raydistill.core.augment import Augmentation, AugmentationParameters
from raydistill.core.compiling import compiled
from raydistill.core.networks import Network

LossFunction = Callable[[Tensor, Tensor, Tensor, AugmentationParameters], Tensor]
Precision = Literal["float32", "bfloat16"]
EngineName = Literal["exact", "unrolled", "constant-adjoint"]


class Batch(NamedTuple):
    """What one student step sees: which synthetic images (None: all), and how they are augmented."""

    index_B: Tensor | None
    augmentation: AugmentationParameters


class MatchResult(NamedTuple):
    """The loss of one unroll and its gradients, shapes as the inputs'; the student steps that led there (0: see `unmatched`)."""

    loss: Tensor
    d_images_SCHW: Tensor
    d_targets_SK: Tensor
    d_lr: Tensor
    steps: int

    @property
    def gradients(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.d_images_SCHW, self.d_targets_SK, self.d_lr


def no_match(images_SCHW: Tensor, targets_SK: Tensor, lr: Tensor) -> MatchResult:
    """Of an expert that did not move: no loss (NaN), no gradient, no student step."""
    zeros = (torch.zeros_like(images_SCHW), torch.zeros_like(targets_SK), torch.zeros_like(lr))
    return MatchResult(torch.full_like(lr, float("nan")), *zeros, steps=0)


class _Adjoint(NamedTuple):
    product: Tensor  # g . lambda
    d_theta_P: Tensor | None  # H lambda; the constant adjoint does without
    d_images_BCHW: Tensor
    d_targets_BK: Tensor


class _Tape(NamedTuple):
    """A step with its graph."""

    inputs: tuple[Tensor, Tensor, Tensor]  # theta, images, targets
    gradient_P: Tensor


class _Walk(NamedTuple):
    """Where the student came, and what was kept of the way."""

    end_P: Tensor  # after `last` steps
    last: int
    path: dict[int, Tensor]  # theta_i by i
    tapes: dict[int, _Tape]


@dataclass(frozen=True)
class _Steps:
    """What the student sees in step i: images, targets, augmentation."""

    images_SCHW: Tensor
    targets_SK: Tensor
    batches: Sequence[Batch]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor, AugmentationParameters]:
        index, augmentation = self.batches[i]
        return _rows(self.images_SCHW, index), _rows(self.targets_SK, index), augmentation


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
    memory_mb
        MB (1e6 bytes) that the walk may keep beside the work of one step; None: the parameters of every step, no graphs.
    """

    def __init__(
        self,
        loss: LossFunction,
        engine: EngineName = "exact",
        compile: bool = False,
        skip: int = 0,
        nearest: bool = False,
        memory_mb: float | None = None,
    ) -> None:
        if compile and engine == "unrolled":
            raise ValueError("the unrolled engine differentiates a graph twice, which torch.compile cannot")
        self._loss = loss
        self._engine = engine
        self.skip = skip
        self._nearest = nearest
        self._memory = None if memory_mb is None else memory_mb * 2**20
        self._compile = compile
        self._graph_bytes: int | None = None  # of one step, once it was asked for
        self._constant = constant = engine == "constant-adjoint"

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

        # Compiled, both derivatives lie inside of one graph. Not compiled, autograd's own tape does it in half of the memory.
        # The number of synthetic images of a step never changes within a run, so shapes are static.
        taped = self._taped_adjoint
        self._gradient: Callable[..., Tensor] = compiled(gradient) if compile else gradient
        self._adjoint: Callable[..., _Adjoint] = compiled(adjoint, otherwise=taped) if compile else taped

    def match(
        self,
        start_P: Tensor,
        target_P: Tensor,
        images_SCHW: Tensor,
        targets_SK: Tensor,
        lr: Tensor,
        batches: Sequence[Batch],
    ) -> MatchResult:
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
        steps = _Steps(images_SCHW.detach(), targets_SK.detach(), batches)
        walk = self._walk(start_P, target_P, steps, lr.detach(), every=len(steps), taped=0)
        return self._loss_at(walk.end_P, start_P, target_P)

    @torch.no_grad()
    def displacement(
        self, start_P: Tensor, images_SCHW: Tensor, targets_SK: Tensor, lr: Tensor, batches: Sequence[Batch]
    ) -> Tensor:
        """|theta_N - theta_0|: how far the student goes, in the parameters that the loss looks at."""
        theta_P, steps = start_P, _Steps(images_SCHW.detach(), targets_SK.detach(), batches)
        for i in range(len(steps)):
            theta_P = theta_P - lr * self._gradient(theta_P, *steps[i])
        return (theta_P - start_P)[self.skip :].norm()

    def is_stationary(self, start_P: Tensor, target_P: Tensor) -> bool:
        """True of an expert that did not move in the parameters that the loss looks at: nothing can be matched."""
        return not (start_P - target_P)[self.skip :].square().any()

    def _loss_at(self, end_P: Tensor, start_P: Tensor, target_P: Tensor) -> Tensor:
        return matching_loss(end_P[self.skip :], start_P[self.skip :], target_P[self.skip :])

    def _walk(self, start_P: Tensor, target_P: Tensor, steps: _Steps, lr: Tensor, every: int, taped: int) -> _Walk:
        """All student steps; of theta every `every`-th is kept, and of the last `taped` steps the graphs."""
        path: dict[int, Tensor] = {}
        tapes: dict[int, _Tape] = {}
        theta_P, end_P, last, shortest = start_P, start_P, len(steps), float("inf")
        for i in range(len(steps)):
            if i % every == 0:
                path[i] = theta_P
            if i >= len(steps) - taped:
                tapes[i] = self._tape(theta_P, *steps[i])
                theta_P = theta_P - lr * tapes[i].gradient_P.detach()
            else:
                theta_P = theta_P - lr * self._gradient(theta_P, *steps[i])
            if self._nearest:
                distance = float((theta_P - target_P)[self.skip :].abs().sum())
                if distance < shortest:
                    end_P, last, shortest = theta_P, i + 1, distance
        return _Walk(end_P if self._nearest else theta_P, last, path, tapes)

    @torch.no_grad()
    def _adjoint_walk(
        self, start_P: Tensor, target_P: Tensor, images: Tensor, targets: Tensor, lr: Tensor, batches: Sequence[Batch]
    ) -> MatchResult:
        steps = _Steps(images, targets, batches)
        every, taped = self._affordable(start_P, steps)
        end_P, last, path, tapes = self._walk(start_P, target_P, steps, lr, every, taped)
        loss = self._loss_at(end_P, start_P, target_P)
        lambda_P = 2 * (end_P - target_P) / (start_P - target_P)[self.skip :].square().sum()
        lambda_P[: self.skip] = 0
        d_images, d_targets, d_lr = torch.zeros_like(images), torch.zeros_like(targets), torch.zeros_like(lr)
        for i in reversed(range(last)):
            if i in tapes:
                step = self._back(tapes.pop(i), lambda_P)
            else:
                if i not in path:  # walk there again, from the last that was kept
                    for j in range(i - i % every, i):
                        path[j + 1] = path[j] - lr * self._gradient(path[j], *steps[j])
                step = self._adjoint(path.pop(i), *steps[i], lambda_P)
            index = batches[i].index_B
            d_lr -= step.product
            _add_rows(d_images, index, -lr * step.d_images_BCHW)
            _add_rows(d_targets, index, -lr * step.d_targets_BK)
            if step.d_theta_P is not None:
                lambda_P = lambda_P - lr * step.d_theta_P
        return MatchResult(loss, d_images, d_targets, d_lr, last)

    @torch.enable_grad()
    def _tape(self, theta_P: Tensor, images: Tensor, targets: Tensor, parameters: AugmentationParameters) -> _Tape:
        theta_P, images, targets = (tensor.detach().requires_grad_() for tensor in (theta_P, images, targets))
        loss = self._loss(theta_P, images, targets, parameters)
        (gradient_P,) = torch.autograd.grad(loss, theta_P, create_graph=True)
        return _Tape((theta_P, images, targets), gradient_P)

    def _back(self, tape: _Tape, lambda_P: Tensor) -> _Adjoint:
        wanted = tape.inputs[1:] if self._constant else tape.inputs
        found = torch.autograd.grad(tape.gradient_P, wanted, lambda_P, materialize_grads=True)
        product = torch.dot(tape.gradient_P.detach(), lambda_P)
        return _Adjoint(product, None if self._constant else found[0], *found[-2:])

    def _taped_adjoint(
        self, theta_P: Tensor, images: Tensor, targets: Tensor, parameters: AugmentationParameters, lambda_P: Tensor
    ) -> _Adjoint:
        return self._back(self._tape(theta_P, images, targets, parameters), lambda_P)

    def _affordable(self, theta_P: Tensor, steps: _Steps) -> tuple[int, int]:
        """(every, taped) of a walk within the memory."""
        if self._memory is None:
            return 1, 0
        if self._graph_bytes is None:
            self._graph_bytes = 0 if self._compile else self._measure_graph(theta_P, steps)
        return affordable(self._memory, len(steps), theta_P.nbytes, self._graph_bytes)

    def _measure_graph(self, theta_P: Tensor, steps: _Steps) -> int:
        """Bytes that autograd keeps for one step."""
        found: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
            return tensor

        with saved_tensors_hooks(pack, lambda tensor: tensor):
            self._tape(theta_P, *steps[0])
        return sum(found.values())

    @torch.enable_grad()  # also where the caller keeps no graphs
    def _unrolled(
        self, start_P: Tensor, target_P: Tensor, images: Tensor, targets: Tensor, lr: Tensor, batches: Sequence[Batch]
    ) -> MatchResult:
        inputs = [tensor.requires_grad_() for tensor in (images.clone(), targets.clone(), lr.clone())]
        images, targets, lr = inputs
        steps, last = _Steps(images, targets, batches), len(batches)
        if self._nearest:
            with torch.no_grad():
                last = self._walk(start_P, target_P, steps, lr, every=last, taped=0).last
        theta_P = start_P.detach().requires_grad_()
        for i in range(last):
            (gradient,) = torch.autograd.grad(self._loss(theta_P, *steps[i]), theta_P, create_graph=True)
            theta_P = theta_P - lr * gradient
        value = self._loss_at(theta_P, start_P, target_P)
        d_images, d_targets, d_lr = torch.autograd.grad(value, inputs)
        return MatchResult(value.detach(), d_images, d_targets, d_lr, last)


def affordable(memory: float, steps: int, vector_bytes: int, graph_bytes: int) -> tuple[int, int]:
    """What a walk may keep: (c, k), every c-th theta and the graphs of the last k steps.

    c = 1 where `steps` vectors fit into the memory; else the smallest c for which the kept ones and those of one stretch, walked
    again, fit, or the thriftiest, near sqrt(steps), where none does. Graphs take what is left.
    """

    def vectors(every: int) -> int:
        return -(-steps // every) + every - 1

    fitting = [every for every in range(1, steps + 1) if vectors(every) * vector_bytes <= memory]
    every = fitting[0] if fitting else min(range(1, steps + 1), key=vectors)
    spare = memory - steps * vector_bytes
    return every, min(steps, int(spare // graph_bytes)) if every == 1 and graph_bytes and spare > 0 else 0


def _rows(tensor: Tensor, index: Tensor | None) -> Tensor:
    return tensor if index is None else tensor[index]


def _add_rows(total: Tensor, index: Tensor | None, rows: Tensor) -> None:
    if index is None:
        total += rows
    else:
        total.index_add_(0, index, rows)
