"""Declare generator networks: pixel U-Net, component perceptron, Stable Diffusion.

A network maps (x, label, embedding) to F(x): the state [B, ...], the label of the time [B] and what
`embedding(layout)` makes of the condition.
"""

from __future__ import annotations

import math
from math import gcd
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydistill.diffusion.network_options import UNet
from raydistill.imports import import_beside_torchvision

# diffusers' embedding has the frequencies 1 to 1e-4, for times in [0, 1000].
LABEL_SCALE = 1000.0
MAX_NORM_GROUPS = 32  # groups of a group norm: Wu & He 2018, arXiv:1803.08494


class PatchedUNet(nn.Module):
    def __init__(self, config: UNet, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.patch = config.patch
        self.unet = _make_unet(config, shape[0] * config.patch**2, shape[1] // config.patch)
        if config.block == "attention_gate":
            gate_attention(self.unet)
        # D starts at skip x_t, as in Karras et al. 2022.
        nn.init.zeros_(self.unet.conv_out.weight)
        nn.init.zeros_(self.unet.conv_out.bias)

    def forward(self, x_BCHW: Tensor, label_B: Tensor, embedding_BD: Tensor) -> Tensor:
        patches = F.pixel_unshuffle(x_BCHW, self.patch)
        (out,) = self.unet(patches, LABEL_SCALE * label_B, class_labels=embedding_BD, return_dict=False)
        return F.pixel_shuffle(out, self.patch)


def _make_unet(config: UNet, channels: int, side: int) -> Any:
    levels = range(len(config.channels))
    attends = [level >= len(levels) - config.attention for level in levels]
    groups = gcd(MAX_NORM_GROUPS, *(max(width // 4, 1) for width in config.channels))
    return import_beside_torchvision("diffusers.models.unets.unet_2d").UNet2DModel(
        sample_size=side,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=config.channels,
        down_block_types=["AttnDownBlock2D" if attend else "DownBlock2D" for attend in attends],
        up_block_types=["AttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(attends)],
        layers_per_block=config.layers,
        add_attention=config.attention > 0,
        attention_head_dim=gcd(32, *config.channels),
        norm_num_groups=groups,
        attn_norm_num_groups=groups,
        resnet_time_scale_shift="scale_shift",
        class_embed_type="identity",
        dropout=config.dropout,
    )


# Gate attention and convolution, after GalCatDiff's residual attention block.
#
# GalCatDiff (Fan et al. 2025, arXiv:2506.16255) combines both dynamically: attention for the shape of
# the whole galaxy, convolution for its fine structure. Here
#
#     out = x + g(x) attention(x) + (1 - g(x)) convolution(x),
#
# with one gate g in (0, 1) per channel, computed from the mean of x over the pixels.


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


# Map vectors to vectors by residual blocks, modulated by time and condition.

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
