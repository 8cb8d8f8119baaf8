r"""Define the adjoint engine: exact gradients with one step's graph in memory.

The student takes N steps of SGD with momentum m,

    v_{i+1} = m v_i + g(theta_i, x_i),    theta_{i+1} = theta_i - a v_{i+1},

and L is a loss of theta_N, for example the matching loss. The adjoint lambda_i = dL/dtheta_i
follows a recursion from the last step to the first. kappa gathers what later steps have of a
gradient:

    lambda_N = dL/dtheta_N,    kappa_N = lambda_N
    lambda_i = lambda_{i+1} - a H_i kappa_{i+1},    H_i = dg_i/dtheta
    kappa_i = lambda_i + m kappa_{i+1}
    dL/dx_i = -a d/dx (g_i . kappa_{i+1}),    dL/dy_i likewise
    dL/da = -sum_i g_i . kappa_{i+1} - m v_0 . kappa_1

Without momentum, as in trajectory matching, kappa is lambda. This is the same gradient as
autograd's through all N steps. Each step is a pure function of tensors, so torch.compile can
compile it.

Three memory plans give the same bits. Costs are in units of a forward pass F, per step:
  - default: keep theta_0 ... theta_{N-1}; 12 F, and 11 F compiled;
  - less memory: keep every c-th theta, and recompute the others; 3 F more;
  - more memory, without compilation: also keep the graphs of the last steps; 9 F for those.

The constant adjoint leaves out H_i, so lambda_i = lambda_N for every i (TESLA, Cui et al. 2023,
arXiv:2211.10586). It needs half of a step's second derivatives. It is an approximation: its cosine
with the exact gradient falls where the student's steps are large.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from raydistill.distillation.engines.base import (
    MatchResult,
    Problem,
    StudentSteps,
    add_rows,
    advance,
    forward,
)
from raydistill.learning.augmenting import AugmentationParameters
from raydistill.learning.compiling import compiled
from raydistill.learning.losses import LossFunction


@dataclass(frozen=True, kw_only=True)
class Adjoint:
    """Options of the adjoint engine.

    Parameters
    ----------
    constant
        Use the constant adjoint, TESLA's approximation.
    memory_mb
        Memory in units of 2**20 bytes for kept parameters and graphs, beside the work of one step.
        None: the parameters of every step, and no graphs. The result has the same bits for every
        value.
    compile
        Compile the step with `torch.compile`. Compilation takes 30-60 s; results agree to rounding.
    """

    constant: bool = False
    memory_mb: float | None = None
    compile: bool = False

    def build(self, loss: LossFunction) -> AdjointEngine:
        """Return the engine for a student loss."""
        return AdjointEngine(loss, self)


class VJP(NamedTuple):
    """The derivatives of g . lambda at one step."""

    product: Tensor  # g . lambda
    d_theta_P: Tensor | None  # H lambda; None for the constant adjoint
    d_images_BCHW: Tensor
    d_targets_BK: Tensor


class SavedGraph(NamedTuple):
    """The gradient of one step, with the graph that leads to its inputs."""

    inputs: tuple[Tensor, Tensor, Tensor]  # theta, images, targets
    gradient_P: Tensor


class AdjointEngine:
    """Compute the adjoint recursion; the module states it."""

    def __init__(self, loss: LossFunction, options: Adjoint) -> None:
        self._loss = loss
        self._options = options
        self._graph_bytes: int | None = None  # of one step; measured at the first use
        constant = options.constant

        def gradient(theta_P: Tensor, images: Tensor, targets: Tensor, parameters: AugmentationParameters) -> Tensor:
            return torch.func.grad(loss)(theta_P, images, targets, parameters)

        def vjp(
            theta_P: Tensor, images: Tensor, targets: Tensor, parameters: AugmentationParameters, lambda_P: Tensor
        ) -> VJP:
            def product(scale: Tensor, theta_P: Tensor, images: Tensor, targets: Tensor) -> Tensor:
                def scaled(theta_P: Tensor) -> Tensor:
                    return scale * loss(theta_P, images, targets, parameters)

                return torch.dot(torch.func.grad(scaled)(theta_P), lambda_P)

            # The product is linear in the scale, so its derivative in the scale is g . lambda. Nothing
            # needs the value of g then, and `learning.compiler_passes` leaves out the gradients of weights.
            argnums = (0, 2, 3) if constant else (0, 1, 2, 3)
            value, *gradients = torch.func.grad(product, argnums=argnums)(
                theta_P.new_ones(()), theta_P, images, targets
            )
            return VJP(value, None if constant else gradients[0], *gradients[-2:])

        # Compiled, both derivatives lie in one graph. Eager autograd does the same in half of the
        # memory. A run's steps have one number of synthetic images, so shapes are static.
        self._gradient: Callable[..., Tensor] = compiled(gradient) if options.compile else gradient
        self._vjp: Callable[..., VJP] = compiled(vjp, otherwise=self._eager_vjp) if options.compile else self._eager_vjp

    def gradient(self, theta_P: Tensor, images: Tensor, targets: Tensor, parameters: AugmentationParameters) -> Tensor:
        """Return the gradient [P] of one student step."""
        return self._gradient(theta_P, images, targets, parameters)

    @torch.no_grad()
    def match(self, problem: Problem) -> MatchResult:
        """Return the loss and its gradients."""
        steps, lr, momentum = problem.steps, problem.lr, problem.momentum
        every, num_graphs = self.plan_memory(problem.start_P, steps, momentum)
        saved: dict[int, tuple[Tensor, Tensor | None]] = {}  # theta_i by i, with v_i if it is needed again
        graphs: dict[int, SavedGraph] = {}

        def gradient(i: int, theta_P: Tensor, velocity_P: Tensor | None) -> Tensor:
            if i % every == 0:
                saved[i] = theta_P, velocity_P if momentum and every > 1 else None
            if i < len(steps) - num_graphs:
                return self._gradient(theta_P, *steps[i])
            graphs[i] = self._build_graph(theta_P, *steps[i])
            return graphs[i].gradient_P.detach()

        end_P, last = forward(problem, gradient)
        loss, lambda_P = problem.terminal.loss_and_gradient(end_P)
        kappa_P = lambda_P
        d_images, d_targets = torch.zeros_like(steps.images_SCHW), torch.zeros_like(steps.targets_SK)
        d_lr = torch.zeros_like(lr)
        for i in reversed(range(last)):
            if i in graphs:
                step = self._graph_vjp(graphs.pop(i), kappa_P)
            else:
                if i not in saved:  # recompute from the last kept parameters
                    for j in range(i - i % every, i):
                        theta_P, velocity_P = saved[j]
                        step_P = self._gradient(theta_P, *steps[j])
                        theta_P, velocity_P = advance(theta_P, velocity_P, step_P, lr, momentum)
                        saved[j + 1] = theta_P, velocity_P if momentum else None
                step = self._vjp(saved.pop(i)[0], *steps[i], kappa_P)
            index = steps.batches[i].index_B
            d_lr -= step.product
            add_rows(d_images, index, -lr * step.d_images_BCHW)
            add_rows(d_targets, index, -lr * step.d_targets_BK)
            if i == 0 and momentum and problem.velocity_P is not None:
                d_lr -= momentum * torch.dot(problem.velocity_P, kappa_P)
            if step.d_theta_P is not None:
                lambda_P = lambda_P - lr * step.d_theta_P
            kappa_P = lambda_P + momentum * kappa_P if momentum else lambda_P
        return MatchResult(loss, d_images, d_targets, d_lr, last)

    @torch.enable_grad()
    def _build_graph(
        self, theta_P: Tensor, images: Tensor, targets: Tensor, parameters: AugmentationParameters
    ) -> SavedGraph:
        theta_P, images, targets = (tensor.detach().requires_grad_() for tensor in (theta_P, images, targets))
        loss = self._loss(theta_P, images, targets, parameters)
        (gradient_P,) = torch.autograd.grad(loss, theta_P, create_graph=True)
        return SavedGraph((theta_P, images, targets), gradient_P)

    def _graph_vjp(self, graph: SavedGraph, lambda_P: Tensor) -> VJP:
        constant = self._options.constant
        inputs = graph.inputs[1:] if constant else graph.inputs
        gradients = torch.autograd.grad(graph.gradient_P, inputs, lambda_P, materialize_grads=True)
        product = torch.dot(graph.gradient_P.detach(), lambda_P)
        return VJP(product, None if constant else gradients[0], *gradients[-2:])

    def _eager_vjp(
        self, theta_P: Tensor, images: Tensor, targets: Tensor, parameters: AugmentationParameters, lambda_P: Tensor
    ) -> VJP:
        return self._graph_vjp(self._build_graph(theta_P, images, targets, parameters), lambda_P)

    def plan_memory(self, theta_P: Tensor, steps: StudentSteps, momentum: float) -> tuple[int, int]:
        """Return (every, num_graphs) of a forward pass within memory, see `plan_memory`."""
        if self._options.memory_mb is None:
            return 1, 0
        if self._graph_bytes is None:
            self._graph_bytes = 0 if self._options.compile else self.measure_graph(theta_P, steps)
        memory = self._options.memory_mb * 2**20
        return plan_memory(memory, len(steps), theta_P.nbytes, self._graph_bytes, momentum)

    def measure_graph(self, theta_P: Tensor, steps: StudentSteps) -> int:
        """Return the bytes that autograd saves for one step."""
        bytes_by_address: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            bytes_by_address[storage.data_ptr()] = storage.nbytes()
            return tensor

        with saved_tensors_hooks(pack, lambda tensor: tensor):
            self._build_graph(theta_P, *steps[0])
        return sum(bytes_by_address.values())


def plan_memory(
    memory: float, steps: int, vector_bytes: int, graph_bytes: int, momentum: float = 0.0
) -> tuple[int, int]:
    """Return (c, k): keep every c-th theta, and the graphs of the last k steps.

    c is 1 if `steps` vectors fit into the memory. Otherwise it is the smallest c that fits: the
    kept vectors and those of one recomputed stretch. If none fits, it is the c with the fewest
    vectors, near sqrt(steps). Graphs use the memory that remains. With momentum and c > 1 each theta
    is kept with its velocity.
    """

    def num_vectors(every: int) -> int:
        return (-(-steps // every) + every - 1) * (2 if momentum and every > 1 else 1)

    fitting = [every for every in range(1, steps + 1) if num_vectors(every) * vector_bytes <= memory]
    every = fitting[0] if fitting else min(range(1, steps + 1), key=num_vectors)
    spare = memory - steps * vector_bytes
    return every, min(steps, int(spare // graph_bytes)) if every == 1 and graph_bytes and spare > 0 else 0
