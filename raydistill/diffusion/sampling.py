"""Generate images from noise and conditions, with classifier-free guidance."""

from __future__ import annotations

import torch
from torch import Tensor

from raydistill.diffusion.conditions import Conditions
from raydistill.diffusion.model import Generator
from raydistill.diffusion.options.sampling import Sampling
from raydistill.diffusion.solver import solve


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
    guided = Guided(generator, conditions.to(generator.device), sampling.guidance)
    noise = generator.space.encode_noise(noise_BCHW.to(generator.device))
    start = None if start_BCHW is None else generator.space.encode(start_BCHW.to(generator.device))
    states = solve(guided, generator.process, noise, sampling.steps, sampling.order, start, strength, sampling.shift)
    return generator.space.decode(states).clamp(-1, 1)


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
