"""The layers of a vision transformer; `learning.architectures.ViT` builds it.

Shape letters: B images, T tokens, W size of a token.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Patches(nn.Module):
    """Embed [B, C, H, W] as [B, patches, width], with a learned position."""

    def __init__(self, channels: int, patch: int, width: int, patches: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(channels, width, patch, stride=patch)
        self.position = nn.Parameter(0.02 * torch.randn(patches, width))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return self.embed(images_BCHW).flatten(2).transpose(1, 2) + self.position


class Block(nn.Module):
    """Attention and a two-layer perceptron, each with a layer norm and a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.qkv, self.out = (
            nn.LayerNorm(width),
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
        )
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x_BTW: Tensor) -> Tensor:
        B, T, W = x_BTW.shape
        q, k, v = (
            self.qkv(self.before_attention(x_BTW)).view(B, T, 3, self.heads, W // self.heads).permute(2, 0, 3, 1, 4)
        )
        # Written out, because the fused kernels have no second derivative.
        weights = (q @ k.transpose(-1, -2) / math.sqrt(W // self.heads)).softmax(dim=-1)
        x_BTW = x_BTW + self.out((weights @ v).transpose(1, 2).reshape(B, T, W))
        return x_BTW + self.mlp(x_BTW)


class Mean(nn.Module):
    """Average over the tokens, [B, T, W] to [B, W]."""

    def forward(self, x_BTW: Tensor) -> Tensor:
        return x_BTW.mean(dim=1)
