"""Declare generator networks: pixel U-Net, component perceptron, Stable Diffusion.

A network maps (x, label, embedding) to F(x): the state [B, ...], the label of the time [B] and what
`embedding(layout)` makes of the condition.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from raydistill.core.checks import at_least, at_least_0_below_1
from raydistill.diffusion.conditions import ConditionEmbedding, ConditionLayout
from raydistill.diffusion.gates import gate_attention
from raydistill.diffusion.perceptron import Perceptron
from raydistill.diffusion.stable_diffusion import StableDiffusion
from raydistill.imports import import_beside_torchvision

# diffusers' embedding has the frequencies 1 to 1e-4, for times in [0, 1000].
LABEL_SCALE = 1000.0
MAX_NORM_GROUPS = 32  # groups of a group norm: Wu & He 2018, arXiv:1803.08494


@dataclass(frozen=True)
class UNet:
    """A U-Net with residual blocks and attention (`diffusers.UNet2DModel`).

    Parameters
    ----------
    channels
        Channels at each level; every level has half the side of the one before.
    layers
        Residual blocks per level.
    patch
        Side of the squares of pixels that become channels in front of the network, by pixel
        unshuffling. 2 saves three quarters of the work.
    attention
        Levels with attention, counted from the lowest.
    block
        "resnet": attention follows each convolution. "attention_gate": a learned gate mixes
        attention with a parallel convolution, after GalCatDiff's block.
    dropout
        Probability that a channel's value is dropped in a residual block. Useful for fewer than
        some 50,000 images (Karras et al. 2022 use 0.13 for CIFAR-10).

    References
    ----------
    Ronneberger et al. 2015, arXiv:1505.04597; Dhariwal & Nichol 2021, arXiv:2105.05233.
    """

    kind: Literal["unet"] = "unet"
    channels: tuple[int, ...] = (32, 64, 128)
    layers: int = 1
    patch: int = 2
    attention: int = 1
    block: Literal["resnet", "attention_gate"] = "resnet"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not self.channels:
            raise ValueError("channels must name at least one level")
        at_least(4, **{f"channels[{level}]": width for level, width in enumerate(self.channels)})
        at_least(1, layers=self.layers, patch=self.patch)
        at_least(0, attention=self.attention)
        at_least_0_below_1(dropout=self.dropout)

    def embedding(self, layout: ConditionLayout) -> nn.Module:
        """Return the embedding of conditions, as the network adds it to that of the time."""
        return ConditionEmbedding(layout, 4 * self.channels[0])

    def module(self, shape: tuple[int, ...]) -> nn.Module:
        """Return the network with random parameters.

        Parameters
        ----------
        shape
            Shape of a state: [C, H, W].

        Raises
        ------
        ValueError
            If the patches and levels do not divide the image.
        """
        smallest = self.patch * 2 ** (len(self.channels) - 1)
        if shape[1] % smallest:
            what = f"patch {self.patch} and {len(self.channels)} levels need an image size that is a multiple of"
            raise ValueError(f"{what} {smallest}, got {shape[1]}")
        return _PatchedUNet(self, shape)


class _PatchedUNet(nn.Module):
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


@dataclass(frozen=True)
class Mlp:
    """A residual perceptron for images as principal components (`ComponentSpace`).

    Parameters
    ----------
    width
        Features of a block.
    blocks
        Residual blocks, each with two layers and its own scale and shift by time and condition.
    """

    kind: Literal["mlp"] = "mlp"
    width: int = 512
    blocks: int = 5

    def __post_init__(self) -> None:
        at_least(4, width=self.width)
        at_least(1, blocks=self.blocks)

    def embedding(self, layout: ConditionLayout) -> nn.Module:
        """Return the embedding of conditions, as the network adds it to that of the time."""
        return ConditionEmbedding(layout, self.width)

    def module(self, shape: tuple[int, ...]) -> nn.Module:
        """Return the network with random parameters, for states of shape [K]."""
        return Perceptron(shape[0], self.width, self.blocks)


Network = UNet | Mlp | StableDiffusion
