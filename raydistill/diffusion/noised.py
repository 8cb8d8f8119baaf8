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
from raydistill.learning.encoders import Renormalise
from raydistill.learning.normalise import Normalisation
from raydistill.seeding import generator as random

SCALE = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # a generator's: black -1, white 1


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
        pictures = Renormalise(self.normalisation, SCALE)(images_SCHW).to(self._dtype)
        clean = self.generator.space.encode(pictures)
        noise = torch.randn(clean.shape, generator=random(self.seed, "noise")).to(clean)
        return (self._u * noise + (1 - self._u) * clean).to(images_SCHW)

    def decode(self, stored: Tensor) -> Tensor:
        """Return the images [S, C, H, W] of noised states, differentiable in them."""
        guided, noise = Guided(self.generator, self.conditions, 1.0), stored.to(self._dtype) / self._u
        clean = solve(guided, self.generator.process, noise, self.steps, 1, strength=self.strength)
        pictures = self.generator.space.decode(clean).clamp(-1, 1).to(stored)
        return Renormalise(SCALE, self.normalisation)(pictures)

    @property
    def _u(self) -> float:
        """The share of noise in a stored state."""
        return sampling_grid(self.generator.process, self.steps, self.strength)[0][0]

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.generator.parameters()).dtype
