"""Map vectors to vectors by residual blocks, modulated by time and condition."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

NUM_FREQUENCIES = 32


class Perceptron(nn.Module):
    """Residual blocks with adaptive layer norm (Peebles & Xie 2023, arXiv:2212.09748).

    Parameters
    ----------
    size
        Entries K of a state.
    width
        Features of a block, and of the embedding of a condition.
    blocks
        Number of blocks.
    """

    def __init__(self, size: int, width: int, blocks: int) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(2 * NUM_FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
        self.first = nn.Linear(size, width)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(blocks))
        self.norm, self.last = nn.LayerNorm(width), nn.Linear(width, size)
        nn.init.zeros_(self.last.weight)  # D starts at skip x_t, as in Karras et al. 2022
        nn.init.zeros_(self.last.bias)

    def forward(self, x_BK: Tensor, label_B: Tensor, embedding_BW: Tensor) -> Tensor:
        """Return F [B, K] for states, labels of the time and embeddings of the condition."""
        context_BW = nn.functional.silu(self.time(_embed_time(label_B)) + embedding_BW)
        h_BW = self.first(x_BK)
        for block in self.blocks:
            h_BW = block(h_BW, context_BW)
        return self.last(self.norm(h_BW))


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(width, 3 * width)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        nn.init.zeros_(self.modulation.weight)  # a block starts as the identity
        nn.init.zeros_(self.modulation.bias)

    def forward(self, h_BW: Tensor, context_BW: Tensor) -> Tensor:
        scale, shift, gate = self.modulation(context_BW).chunk(3, dim=1)
        return h_BW + gate * self.mlp(self.norm(h_BW) * (1 + scale) + shift)


def _embed_time(label_B: Tensor) -> Tensor:
    """Return sines and cosines [B, 2 NUM_FREQUENCIES] of labels of order 1.

    Their wavelengths are 20 to 0.06.
    """
    frequencies = torch.logspace(math.log10(0.3), 2, NUM_FREQUENCIES, device=label_B.device, dtype=label_B.dtype)
    angles = label_B[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)
