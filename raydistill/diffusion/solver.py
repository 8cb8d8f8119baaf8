"""Integrate the probability-flow equation from noise to images, with one call of D per step.

In u = sigma / (alpha + sigma) and y = x / (alpha + sigma) every process has straight paths,
y = (1 - u) x0 + u eps, and the equation reads dy/du = (y - D) / u. With D linear in u between two
steps, it is solved exactly:

    y' = (u'/u) y + (1 - u'/u) D - d (u - u' + u' log(u'/u)),    d = (D - D_before) / (u - u_before).

This is the two-step Adams-Bashforth method for D. With d = 0 it is DDIM (Song et al. 2021,
arXiv:2010.02502), of order 1. DPM-Solver++ (Lu et al. 2022, arXiv:2211.01095) takes D linear in
log(alpha / sigma) instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from torch import Tensor

from raydistill.diffusion.processes import Process

Order = Literal[1, 2]


def solve(
    denoise: Callable[[Tensor, Tensor], Tensor], process: Process, noise: Tensor, steps: int, order: Order = 2
) -> Tensor:
    """Return samples.

    Parameters
    ----------
    denoise
        D(x_t, t_B): estimates the image, with the shape of x_t.
    process
        The process for which D was trained.
    noise
        [B, ...], standard normal. Samples are a function of it.
    steps
        Calls of `denoise`.
    order
        1: DDIM; 2: the two-step method. The first step has order 1.

    Returns
    -------
    torch.Tensor
        x0, with the shape, dtype and device of `noise`.

    Raises
    ------
    ValueError
        If `steps` is not positive.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    times = process.sampling_times(steps)
    alphas, sigmas = process.alpha(times), process.sigma(times)
    scales = alphas + sigmas
    us = [*(sigmas / scales).tolist(), 0.0]
    y, before = noise * us[0], None
    for n, scale in enumerate(scales.tolist()):
        u, later = us[n], us[n + 1]
        image = denoise(y * scale, times[n].to(y).expand(len(y)))
        y = (later / u) * y + (1 - later / u) * image
        if order == 2 and before is not None:
            y = y - (_area(u, later) / (u - us[n - 1])) * (image - before)
        before = image
    return y


def _area(u: float, later: float) -> float:
    """Return u - u' + u' log(u'/u), which is u at u' = 0."""
    return u - later + (later * math.log(later / u) if later else 0.0)
