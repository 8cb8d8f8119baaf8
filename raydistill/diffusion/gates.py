"""Gate attention and convolution, after GalCatDiff's residual attention block.

GalCatDiff (Fan et al. 2025, arXiv:2506.16255) combines both dynamically: attention for the shape of
the whole galaxy, convolution for its fine structure. Here

    out = x + g(x) attention(x) + (1 - g(x)) convolution(x),

with one gate g in (0, 1) per channel, computed from the mean of x over the pixels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class GatedAttention(nn.Module):
    """Replace an attention block x + attention(x) of diffusers by the gated mixture.

    Parameters
    ----------
    attention
        Maps [B, C, H, W] to x + attention(x).
    channels
        The channels C.
    """

    def __init__(self, attention: nn.Module, channels: int) -> None:
        super().__init__()
        self.attention = attention
        self.convolution = nn.Conv2d(channels, channels, 3, padding=1)
        self.gate = nn.Linear(channels, channels)
        nn.init.zeros_(self.gate.weight)  # both parts have equal weight at first
        nn.init.zeros_(self.gate.bias)

    def forward(self, x_BCHW: Tensor, **options: Any) -> Tensor:
        """Return the mixture; `options` go to the attention."""
        gate = torch.sigmoid(self.gate(x_BCHW.mean(dim=(2, 3))))[:, :, None, None]
        attended = self.attention(x_BCHW, **options) - x_BCHW
        return x_BCHW + gate * attended + (1 - gate) * self.convolution(x_BCHW)


def gate_attention(unet: Any) -> None:
    """Replace every attention of a `diffusers.UNet2DModel` by a gated one, in place.

    The form of the gate is ours: one per channel, as in squeeze-and-excitation (Hu et al. 2018, arXiv:1709.01507).
    """
    for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks):
        attentions = getattr(block, "attentions", None) or []
        for n, attention in enumerate(attentions):
            if attention is not None:
                attentions[n] = GatedAttention(attention, attention.to_q.in_features)
