"""Declare generator networks: pixel U-Net, component perceptron, Stable Diffusion.

A network maps (x, label, embedding) to F(x): the state [B, ...], the label of the time [B] and what
`embedding(layout)` makes of the condition.
"""

from __future__ import annotations

from math import gcd
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from raydistill.diffusion.gates import gate_attention
from raydistill.diffusion.options.networks import UNet
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
