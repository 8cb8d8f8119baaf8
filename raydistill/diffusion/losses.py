"""Measure how well a generator denoises.

Shapes: B images, T = `NUM_TIME_BINS` bins of the time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from raydistill.diffusion.conditions import Conditions
from raydistill.diffusion.model import Generator
from raydistill.diffusion.processes import expand
from raydistill.seeding import generator as seeded

NUM_TIME_BINS = 10


def loss_per_image(
    generator: Generator, images_BCHW: Tensor, conditions: Conditions, times_B: Tensor, noise_BCHW: Tensor
) -> Tensor:
    """Return weight(t) |D(x_t, t) - x0|^2 of each image, averaged over its state.

    Parameters
    ----------
    generator
        The generator D.
    images_BCHW
        Images in [-1, 1].
    conditions
        Their conditions.
    times_B
        Times in [0, 1].
    noise_BCHW
        Standard normal.

    Returns
    -------
    torch.Tensor
        [B], in the units of the process: that of the velocity for `RectifiedFlow`.
    """
    process, space = generator.process, generator.space
    x0, noise = space.encode(images_BCHW), space.encode_noise(noise_BCHW)
    x = expand(process.alpha(times_B), x0) * x0 + expand(process.sigma(times_B), x0) * noise
    error = generator.denoise(x, times_B, conditions) - x0
    return process.weight(times_B) * error.square().flatten(1).mean(dim=1)


def stratified_quantiles(g: torch.Generator, count: int, shard: int = 0, num_shards: int = 1) -> Tensor:
    """Return a shard's quantiles [count], one per stratum; a batch covers [0, 1).

    Image i of the shard has the stratum i num_shards + shard among count num_shards. Kingma et al.
    2021, arXiv:2107.00630, found that even times lower the variance of the loss.
    """
    strata = torch.arange(count, dtype=torch.float64) * num_shards + shard
    return (strata + torch.rand(count, dtype=torch.float64, generator=g)) / (count * num_shards)


@dataclass(frozen=True)
class LossByTime:
    """Sums of losses and numbers of images, float64 [T] each, by bin of the time."""

    sums_T: Tensor
    counts_T: Tensor

    @classmethod
    def of(cls, losses_B: Tensor, times_B: Tensor) -> LossByTime:
        """Return the sums of the losses of images with these times in [0, 1]."""
        bins_B = (times_B * NUM_TIME_BINS).long().clamp(0, NUM_TIME_BINS - 1)
        zeros = torch.zeros(NUM_TIME_BINS, dtype=torch.float64, device=losses_B.device)
        losses = losses_B.detach().double()
        return cls(zeros.index_add(0, bins_B, losses), zeros.index_add(0, bins_B, torch.ones_like(losses)))

    @classmethod
    def zero(cls, device: torch.device | str = "cpu") -> LossByTime:
        """Return the sums over no image."""
        return cls.of(torch.empty(0, device=device), torch.empty(0, device=device))

    def __add__(self, other: LossByTime) -> LossByTime:
        """Return the sums over both."""
        return LossByTime(self.sums_T + other.sums_T, self.counts_T + other.counts_T)

    @property
    def mean(self) -> float:
        """The mean loss of all images; NaN without images."""
        return float(self.sums_T.sum() / self.counts_T.sum())

    @property
    def means(self) -> Tensor:
        """The mean loss [T] in each bin; NaN in an empty one."""
        return self.sums_T / self.counts_T


@torch.no_grad()
def measure(
    generator: Generator, images_NCHW: Tensor, conditions: Conditions, seed: int, batch_size: int = 64
) -> LossByTime:
    """Return the loss on images, with times that are uniform in [0, 1].

    Time and noise of an image depend on `seed` and its position alone, so two generators, or two
    states of one, are compared at equal draws.

    Parameters
    ----------
    generator
        The generator, on any device.
    images_NCHW, conditions
        Held-out images in [-1, 1], and what is known of them.
    seed
        Root of the draws.
    batch_size
        Images per call of the network.

    Returns
    -------
    LossByTime
        On the generator's device.
    """
    total = LossByTime.zero(generator.device)
    times_N = stratified_quantiles(seeded(seed, "times"), len(images_NCHW)).float()
    times_N = times_N[torch.randperm(len(images_NCHW), generator=seeded(seed, "order"))].to(generator.device)
    for first in range(0, len(images_NCHW), batch_size):
        rows = slice(first, first + batch_size)
        images_BCHW = images_NCHW[rows].to(generator.device)
        noise_BCHW = torch.randn(images_BCHW.shape, generator=seeded(seed, "noise", first)).to(generator.device)
        known = conditions[rows].to(generator.device)
        losses = loss_per_image(generator, images_BCHW, known, times_N[rows], noise_BCHW)
        total += LossByTime.of(losses, times_N[rows])
    return total
