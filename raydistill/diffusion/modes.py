"""Draw pictures of classes near the modes of their galaxies.

Samples of a generator cover a class as its galaxies do; a few of them cover it badly. So each picture
is drawn towards a mode of its own: the centre of a cluster (k-means) of the galaxies of its class, in
the space of the generator. Early on, the estimate D of the image moves towards the mode m,

    D' = D + weight (m - D),

and late steps are free, so that the picture is one that the generator draws (mode guidance and stop
guidance of MGD3, Chan-Santiago et al. 2025, arXiv:2505.18963, which moves the noise instead).
"""

from __future__ import annotations

import torch
from torch import Tensor

from raydistill.diffusion.conditions import Conditions
from raydistill.diffusion.model import Generator
from raydistill.diffusion.options import Sampling
from raydistill.diffusion.sampling import guided_by, solve
from raydistill.seeding import fold_in
from raydistill.statistics.clusters import k_means

WEIGHT, STOP = 0.1, 0.5  # the paper's values of lambda, and of the time at which guidance ends


@torch.no_grad()
def near_modes(
    generator: Generator, conditions: Conditions, noise_BCHW: Tensor, modes: Tensor, sampling: Sampling,
    weight: float = WEIGHT,
) -> Tensor:  # fmt: skip
    """Return pictures [B, 3, H, W] in [-1, 1], each drawn towards its mode.

    Parameters
    ----------
    conditions, noise_BCHW, sampling
        As in `sampling.sample`.
    modes
        One for each picture, in the space of the generator.
    weight
        How far an estimate moves towards the mode at each early step, from 0 to 1.
    """
    guided = guided_by(generator, conditions, sampling)

    def towards(x: Tensor, t_B: Tensor) -> Tensor:
        estimate = guided(x, t_B)
        early = (t_B > STOP).view(-1, *[1] * (x.dim() - 1))
        return torch.where(early, estimate.lerp(modes, weight), estimate)

    noise = generator.space.encode_noise(noise_BCHW.to(generator.device))
    states = solve(towards, generator.process, noise, sampling.steps, sampling.order, shift=sampling.shift)
    return generator.space.decode(states).clamp(-1, 1)


@torch.no_grad()
def modes_of(generator: Generator, pictures_NCHW: Tensor, count: int, seed: int) -> Tensor:
    """Return the centres of `count` clusters of a class's pictures.

    They are states in the space of the generator. Fewer pictures than clusters repeat.
    """
    states = torch.cat([generator.space.encode(part.to(generator.device)) for part in pictures_NCHW.split(256)])
    flat = states.flatten(1).double().cpu().numpy()
    _, centres_KF = k_means(flat, min(count, len(flat)), fold_in(seed, "modes"))
    centres = torch.from_numpy(centres_KF).to(states).view(-1, *states.shape[1:])
    return centres.repeat(-(-count // len(centres)), *[1] * (centres.dim() - 1))[:count]
