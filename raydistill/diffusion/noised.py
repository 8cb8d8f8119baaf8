"""A generator as the space of synthetic images: noised states that it denoises.

A stored value is a state of the process at some time, in the coordinates of `sampling.solve`:
y = u eps + (1 - u) x0. `decode` solves the probability-flow ODE from there, so that every image is
one that the generator draws. `encode` adds noise of a seed to an image, as SDEdit does (Meng et al.
2022, arXiv:2108.01073); at strength 1 nothing of the image is left. Distilling through a generator is
due to Cazenavette et al. 2023, arXiv:2305.01649.

Shapes: S images, states as the generator's space has them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from raydistill.diffusion.conditions import Conditions
from raydistill.diffusion.model import Generator
from raydistill.diffusion.sampling import Guided, sampling_grid, solve
from raydistill.learning.normalise import Normalisation
from raydistill.seeding import generator as random


@dataclass(frozen=True, eq=False)
class Noised:
    """Noised states of S images, which a generator denoises.

    Parameters
    ----------
    generator
        A trained generator, without gradients of its parameters.
    conditions
        What each of the S images is to show.
    normalisation
        Of the images; the generator takes its own.
    steps
        Calls of the generator for an image.
    strength
        Time of the states, in (0, 1].
    seed
        Decides the noise of `encode`.
    """

    generator: Generator
    conditions: Conditions
    normalisation: Normalisation
    steps: int
    strength: float
    seed: int

    def encode(self, images_SCHW: Tensor) -> Tensor:
        """Return the noised states of images [S, C, H, W]."""
        std, mean = self._scale(images_SCHW)
        clean = self.generator.space.encode(((images_SCHW * std + mean) * 2 - 1).to(self._dtype))
        noise = torch.randn(clean.shape, generator=random(self.seed, "noise")).to(clean)
        u = sampling_grid(self.generator.process, self.steps, self.strength)[0][0]
        return (u * noise + (1 - u) * clean).to(images_SCHW)

    def decode(self, stored: Tensor) -> Tensor:
        """Return the images [S, C, H, W] of noised states, differentiable in them."""
        generator, process = self.generator, self.generator.process
        u = sampling_grid(process, self.steps, self.strength)[0][0]
        guided = Guided(generator, self.conditions, 1.0)
        clean = solve(guided, process, stored.to(self._dtype) / u, self.steps, 1, strength=self.strength)
        std, mean = self._scale(stored)
        return ((generator.space.decode(clean).clamp(-1, 1).to(stored) + 1) / 2 - mean) / std

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.generator.parameters()).dtype

    def _scale(self, like: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (torch.tensor(values).to(like)[:, None, None] for values in self.normalisation)
        return std, mean
