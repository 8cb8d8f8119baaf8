"""Draw one large picture from a grid of conditions.

The conditions may be embeddings of galaxies. Every tile of the picture has its own condition, and overlaps its neighbours. In each step the
generator estimates all tiles, and the estimates are averaged where they overlap, with weights that
fall to the edge of a tile (Bar-Tal et al. 2023, arXiv:2302.08113). With conditions that are embeddings
it is the large image of representation-guided diffusion (Graikos et al. 2023, arXiv:2312.07330).
"""

from __future__ import annotations

import torch
from torch import Tensor

from raydistill.diffusion.conditions import Conditions
from raydistill.diffusion.model import Generator
from raydistill.diffusion.options import Sampling
from raydistill.diffusion.sampling import guided_by, solve
from raydistill.diffusion.spaces import Pixels


def field_size(tile: int, count: int, overlap: int) -> int:
    """Return the side of a picture of `count` tiles that share `overlap` pixels each."""
    return tile + (count - 1) * (tile - overlap)


@torch.no_grad()
def sample_field(
    generator: Generator, conditions: Conditions, noise_CHW: Tensor, columns: int, overlap: int,
    sampling: Sampling | None = None,
) -> Tensor:  # fmt: skip
    """Return a picture of tiles that follow the conditions.

    Parameters
    ----------
    generator
        A trained generator of pixels.
    conditions
        Those of the tiles, row by row.
    noise_CHW
        Standard normal [3, H, W]; each side is a `field_size` of the generator's pictures.
    columns
        Tiles of a row.
    overlap
        Pixels that neighbouring tiles share, at least 0.
    sampling
        Hyper-parameters; None: the defaults.

    Returns
    -------
    torch.Tensor
        float32 [3, H, W] in [-1, 1].

    Raises
    ------
    ValueError
        The noise does not fit the tiles, or the generator computes in another space.
    """
    tile, sampling = generator.image_size, sampling or Sampling()
    if not isinstance(generator.space, Pixels):
        raise ValueError("a field needs a generator that computes with pixels")
    if not 0 <= overlap < tile or len(conditions) % columns:
        raise ValueError(
            f"{len(conditions)} tiles of {tile} pixels give no rows of {columns} with {overlap} shared pixels"
        )
    rows, step = len(conditions) // columns, tile - overlap
    expected = (3, field_size(tile, rows, overlap), field_size(tile, columns, overlap))
    if noise_CHW.shape != expected:
        raise ValueError(f"the noise must have the shape {list(expected)}, got {list(noise_CHW.shape)}")
    corners = [(row * step, column * step) for row in range(rows) for column in range(columns)]
    places = [(slice(y, y + tile), slice(x, x + tile)) for y, x in corners]
    ramp = torch.minimum(torch.arange(1, tile + 1), torch.arange(tile, 0, -1)).float()
    weight_HW = (ramp[:, None] * ramp).to(generator.device)
    total_HW = torch.zeros(expected[1:], device=generator.device)
    for place in places:
        total_HW[place] += weight_HW
    guided = guided_by(generator, conditions, sampling)

    def denoise(x_1CHW: Tensor, t_1: Tensor) -> Tensor:
        tiles = torch.cat([x_1CHW[:, :, y, x] for y, x in places])
        estimate_1CHW = torch.zeros_like(x_1CHW)
        for (y, x), clean in zip(places, guided(tiles, t_1.expand(len(tiles))), strict=True):
            estimate_1CHW[0, :, y, x] += weight_HW * clean
        return estimate_1CHW / total_HW

    noise = noise_CHW[None].to(generator.device)
    states = solve(denoise, generator.process, noise, sampling.steps, sampling.order, shift=sampling.shift)
    return generator.space.decode(states).clamp(-1, 1)[0]
