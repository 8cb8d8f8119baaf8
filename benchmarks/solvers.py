"""Compare solvers of the probability flow where the ideal denoiser is known.

The result is the reason for `diffusion/sampling.py`.

    python benchmarks/solvers.py

The data are three equal peaks in one dimension, narrow or wide. Prints the mean distance to the
exact samples, for each solver, each exponent p of the steps u = (1 - n / steps)^p and each number
of steps: for each width, and their geometric mean. Takes some ten seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from raydistill.seeding import generator

PEAKS = torch.tensor([-1.0, 0.2, 0.8], dtype=torch.float64)
WIDTHS = (0.005, 0.02, 0.1, 0.3)
EXPONENTS = (1.0, 1.5, 2.0, 3.0)
STEPS = (10, 20, 40)
SAMPLES = 4000
EXACT_STEPS = 4000

Denoiser = Callable[[Tensor, float], Tensor]
Solver = Callable[[Denoiser, Tensor, list[float]], Tensor]


def ideal(width: float) -> Denoiser:
    """Return E[x0 | y] of the peaks at y = (1 - u) x0 + u eps."""

    def denoise(y: Tensor, u: float) -> Tensor:
        variance = ((1 - u) * width) ** 2 + u**2
        distance = y[:, None] - (1 - u) * PEAKS
        weights = (-distance.square() / (2 * variance)).softmax(dim=1)
        return (weights * (PEAKS + (1 - u) * width**2 / variance * distance)).sum(dim=1)

    return denoise


def ddim(denoise: Denoiser, y: Tensor, us: list[float]) -> Tensor:
    """D is constant during a step."""
    for u, later in pairwise(us):
        y = (later / u) * y + (1 - later / u) * denoise(y, u)
    return y


def exponential(denoise: Denoiser, y: Tensor, us: list[float]) -> Tensor:
    """D is linear in u (`diffusion/sampling.py`)."""
    before, u_before = None, 0.0
    for u, later in pairwise(us):
        image = denoise(y, u)
        y = (later / u) * y + (1 - later / u) * image
        if before is not None:
            y = y - (u - later + (later * math.log(later / u) if later else 0)) / (u - u_before) * (image - before)
        before, u_before = image, u
    return y


def velocity(denoise: Denoiser, y: Tensor, us: list[float]) -> Tensor:
    """The velocity (y - D) / u is linear in u: plain Adams-Bashforth."""
    before, step_before = None, 1.0
    for u, later in pairwise(us):
        v, step = (y - denoise(y, u)) / u, later - u
        y = y + step * (v if before is None else v + step / step_before / 2 * (v - before))
        before, step_before = v, step
    return y


def dpm(denoise: Denoiser, y: Tensor, us: list[float]) -> Tensor:
    """D is linear in log((1 - u) / u): DPM-Solver++(2M); the last step has order 1.

    This is Algorithm 2 of arXiv:2211.01095.
    """
    before, h_before = None, 1.0
    for u, later in pairwise(us):
        image, h = denoise(y, u), log_ratio(later) - log_ratio(u)
        target = image if before is None or not later else image + h / h_before / 2 * (image - before)
        y = (later / u) * y + (1 - later / u) * target
        before, h_before = image, h
    return y


def log_ratio(u: float) -> float:
    """Return log((1 - u) / u), bounded at u = 1: DPM-Solver++ needs a finite start."""
    return math.log(max(1 - u, 1e-3) / max(u, 1e-12))


SOLVERS: tuple[Solver, ...] = (ddim, exponential, velocity, dpm)


def grid(steps: int, exponent: float) -> list[float]:
    return [(1 - n / steps) ** exponent for n in range(steps + 1)]


def main() -> None:
    noise = torch.randn(SAMPLES, dtype=torch.float64, generator=generator(0, "noise"))
    exact = {width: exponential(ideal(width), noise, grid(EXACT_STEPS, 1.5)) for width in WIDTHS}
    for steps in STEPS:
        rows = []
        for solver in SOLVERS:
            for exponent in EXPONENTS:
                us = grid(steps, exponent)
                errors = [float((solver(ideal(w), noise, us) - exact[w]).abs().mean()) for w in WIDTHS]
                rows.append((math.prod(errors) ** (1 / len(errors)), solver.__name__, exponent, errors))
        for mean, name, exponent, errors in sorted(rows)[:6]:
            print(f"{steps:3} steps  {name:12} p={exponent}  {mean:.4f}  {' '.join(f'{e:.4f}' for e in errors)}")


if __name__ == "__main__":
    main()
