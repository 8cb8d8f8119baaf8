"""Generate images from noise and conditions, with classifier-free guidance."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from raydistill.diffusion.conditions import Conditions
from raydistill.diffusion.model import Generator
from raydistill.diffusion.options import Order, Sampling
from raydistill.diffusion.processes import Process


@torch.no_grad()
def sample(
    generator: Generator,
    conditions: Conditions,
    noise_BCHW: Tensor,
    sampling: Sampling | None = None,
    start_BCHW: Tensor | None = None,
    strength: float = 1.0,
) -> Tensor:
    """Return images that follow the conditions.

    Parameters
    ----------
    generator
        A trained generator.
    conditions
        What the B images are to show.
    noise_BCHW
        Standard normal [B, 3, H, W], on any device. Equal noise gives equal images.
    sampling
        Hyper-parameters; None: the defaults.
    start_BCHW
        Images in [-1, 1], such as real galaxies, whose noised states are the first ones. None: the
        first states are noise. Both agree at strength 1 if the process ends in noise alone.
    strength
        Time in (0, 1] of the first states. Below 1, samples keep much of `start_BCHW`.

    Returns
    -------
    torch.Tensor
        float32 [B, 3, H, W] in [-1, 1], on the generator's device.

    Raises
    ------
    ValueError
        If the noise or the start has another number of images than the conditions, or another size
        than the generator. If `strength` is below 1 without a start.
    """
    sampling = sampling or Sampling()
    expected = (len(conditions), 3, generator.image_size, generator.image_size)
    if noise_BCHW.shape != expected:
        raise ValueError(f"the noise must have the shape {list(expected)}, got {list(noise_BCHW.shape)}")
    if start_BCHW is not None and start_BCHW.shape != expected:
        raise ValueError(f"the start must have the shape {list(expected)}, got {list(start_BCHW.shape)}")
    if start_BCHW is None and strength != 1:
        raise ValueError(f"a strength of {strength} needs images to start from")
    guided = guided_by(generator, conditions, sampling)
    noise = generator.space.encode_noise(noise_BCHW.to(generator.device))
    start = None if start_BCHW is None else generator.space.encode(start_BCHW.to(generator.device))
    states = solve(guided, generator.process, noise, sampling.steps, sampling.order, start, strength, sampling.shift)
    return generator.space.decode(states).clamp(-1, 1)


def guided_by(generator: Generator, conditions: Conditions, sampling: Sampling) -> Guided:
    """Return D with the guidance of these hyper-parameters, on the generator's device."""
    return Guided(generator, conditions.to(generator.device), sampling.guidance)


class Guided:
    """D with guidance, as `solve` calls it.

    The estimate is clipped to possible pixels (Saharia et al. 2022, arXiv:2205.11487, Section 2.3).
    An expected image never exceeds them, but guidance does.

    Parameters
    ----------
    generator
        The generator D.
    conditions
        Conditions of the B images, on its device.
    guidance
        The factor g. Without effect where nothing is known.
    """

    def __init__(self, generator: Generator, conditions: Conditions, guidance: float) -> None:
        self.generator, self.guidance = generator, guidance
        self.plain = guidance == 1 or not bool(conditions.known_BV.any())
        self.conditions = conditions if self.plain else Conditions.cat([conditions, conditions.nothing_known()])

    def __call__(self, x: Tensor, t_B: Tensor) -> Tensor:
        """Return the guided estimate of the states."""
        if self.plain:
            return self.generator.space.clip(self.generator.denoise(x, t_B, self.conditions))
        both = self.generator.denoise(torch.cat([x, x]), torch.cat([t_B, t_B]), self.conditions)
        conditional, unconditional = both.chunk(2)
        return self.generator.space.clip(unconditional + self.guidance * (conditional - unconditional))


# Integrate the probability-flow ODE from noise to images; a step calls D once.
#
# In u = sigma / (alpha + sigma) and y = x / (alpha + sigma) every process has straight paths,
# y = (1 - u) x0 + u eps, and the equation reads dy/du = (y - D) / u. With D linear in u between two
# steps, it is solved exactly:
#
#     y' = (u'/u) y + (1 - u'/u) D - d (u - u' + u' log(u'/u)),
#     d = (D - D_before) / (u - u_before).
#
# This is the exponential two-step Adams-Bashforth method (Hochbruck & Ostermann 2010,
# doi:10.1017/S0962492910000048). With d = 0 it is DDIM (Song et al. 2021,
# arXiv:2010.02502), of order 1. DPM-Solver++ (Lu et al. 2022, arXiv:2211.01095) takes D linear in
# log(alpha / sigma) instead.
#
# Step n is at u_0 + (u_1 - u_0) v, where u_t is the u of time t and v = (1 - n / steps)^2. On
# mixtures of narrow and wide peaks this solver and these steps have the least error among four
# solvers and four exponents (`benchmarks/solvers.py`).
#
# The brightness of a picture is the sum of many pixels with common deviations. It exceeds their noise
# already at u near 1, where v has few steps. A shift s moves them there: s v / (1 + (s - 1) v), as
# Esser et al. 2024, arXiv:2403.03206, do for large pictures.


def solve(
    denoise: Callable[[Tensor, Tensor], Tensor],
    process: Process,
    noise: Tensor,
    steps: int,
    order: Order = 2,
    start: Tensor | None = None,
    strength: float = 1.0,
    shift: float = 1.0,
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
    start
        The image x0 of the first x_t, with the shape of `noise`. None: 0.
    strength
        Time of the first step, in (0, 1].
    shift
        More than 1: more steps at high noise.

    Returns
    -------
    torch.Tensor
        x0, with the shape, dtype and device of `noise`.

    Raises
    ------
    ValueError
        If `steps` or `strength` is out of range.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    us, times = sampling_grid(process, steps, strength, shift)
    scales = (process.alpha(times) + process.sigma(times)).tolist()
    y, before = noise * us[0] + (0 if start is None else (1 - us[0]) * start), None
    for n, scale in enumerate(scales):
        u, later = us[n], us[n + 1]
        image = denoise(y * scale, times[n].to(y).expand(len(y)))
        y = (later / u) * y + (1 - later / u) * image
        if order == 2 and before is not None:
            y = y - (_area(u, later) / (u - us[n - 1])) * (image - before)
        before = image
    return y


def sampling_grid(
    process: Process, steps: int, strength: float = 1.0, shift: float = 1.0
) -> tuple[list[float], Tensor]:
    """Return decreasing u of `steps` steps, with their end 0, and the steps' times."""
    if not 0 < strength <= 1:
        raise ValueError(f"strength must lie in (0, 1], got {strength}")
    ends = torch.tensor([0.0, strength], dtype=torch.float64)
    least, most = process.sigma(ends) / (process.alpha(ends) + process.sigma(ends))
    v = torch.linspace(1, 0, steps + 1, dtype=torch.float64)[:-1].square()
    us = least + (most - least) * shift * v / (1 + (shift - 1) * v)
    return [*us.tolist(), 0.0], process.time_at(us)


def _area(u: float, later: float) -> float:
    """Return u - u' + u' log(u'/u), which is u at u' = 0."""
    return u - later + (later * math.log(later / u) if later else 0.0)
