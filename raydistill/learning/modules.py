"""Build the torch modules of the built-in architectures."""

from __future__ import annotations

import math
from functools import singledispatch
from itertools import pairwise

import torch
from torch import Tensor, nn

from raydistill.learning.architectures import MLP, VGG11, AlexNet, BuiltIn, ConvNet, PooledConvNet, ResNet18, ViT


@singledispatch
def build(architecture: BuiltIn, num_classes: int, image_size: int, channels: int) -> nn.Module:
    """Return the module of an architecture whose images fit (`BuiltIn.check`)."""
    raise NotImplementedError(type(architecture).__name__)


@build.register
def _(architecture: ConvNet, num_classes: int, image_size: int, channels: int) -> nn.Module:
    depth, width = architecture.depth, architecture.width
    # Groups of 16 channels, or fewer that divide the width. One group per channel is instance norm
    # with a learned scale and shift, as in the peers' code.
    sixteens = math.gcd(width, max(1, width // 16))
    groups = {"instance": width, "group": sixteens, "none": 0}[architecture.norm]
    blocks: list[nn.Module] = []
    for index in range(depth):
        blocks.append(nn.Conv2d(channels if index == 0 else width, width, kernel_size=3, padding=1))
        blocks += [*([nn.GroupNorm(groups, width)] if groups else []), nn.ReLU(), nn.AvgPool2d(2)]
    side = image_size // 2**depth
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(width * side * side, num_classes))


@build.register
def _(architecture: PooledConvNet, num_classes: int, image_size: int, channels: int) -> nn.Module:
    blocks: list[nn.Module] = []
    for index, (before, width) in enumerate(pairwise([channels, *architecture.widths])):
        blocks += [nn.AvgPool2d(2)] if index else []
        blocks += [nn.Conv2d(before, width, 3, padding=1), nn.GroupNorm(architecture.groups, width), nn.GELU()]
    return nn.Sequential(
        *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(architecture.widths[-1], num_classes)
    )


@build.register
def _(architecture: MLP, num_classes: int, image_size: int, channels: int) -> nn.Module:
    width = architecture.width
    hidden = [
        layer for a, b in pairwise([channels * image_size**2, width, width]) for layer in (nn.Linear(a, b), nn.ReLU())
    ]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, num_classes))


@build.register
def _(architecture: AlexNet, num_classes: int, image_size: int, channels: int) -> nn.Module:
    one, two, three = architecture.width, 3 * architecture.width // 2, 2 * architecture.width
    layers: list[nn.Module] = [nn.Conv2d(channels, one, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(one, two, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
    for a, b in ((two, three), (three, two), (two, two)):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU()]
    side = image_size // 8
    return nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(two * side * side, num_classes))


@build.register
def _(architecture: VGG11, num_classes: int, image_size: int, channels: int) -> nn.Module:
    layers: list[nn.Module] = []
    before = channels
    for stage in ((1,), (2,), (4, 4), (8, 8), (8, 8)):
        for wide in (factor * architecture.width for factor in stage):
            layers += [nn.Conv2d(before, wide, 3, padding=1), _instance(wide), nn.ReLU()]
            before = wide
        layers.append(nn.MaxPool2d(2))
    side = image_size // 32
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * side * side, num_classes))


@build.register
def _(architecture: ResNet18, num_classes: int, image_size: int, channels: int) -> nn.Module:
    widths = [architecture.width * 2**stage for stage in range(4)]
    layers: list[nn.Module] = [
        nn.Conv2d(channels, widths[0], 3, padding=1, bias=False),
        _instance(widths[0]),
        nn.ReLU(),
    ]
    before = widths[0]
    for stage, wide in enumerate(widths):
        for block in range(2):
            layers.append(_Residual(before, wide, stride=2 if stage and not block else 1))
            before = wide
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, num_classes))


@build.register
def _(architecture: ViT, num_classes: int, image_size: int, channels: int) -> nn.Module:
    width, patch = architecture.width, architecture.patch
    blocks = [Block(width, architecture.heads) for _ in range(architecture.depth)]
    first = Patches(channels, patch, width, (image_size // patch) ** 2)
    return nn.Sequential(first, *blocks, nn.LayerNorm(width), Mean(), nn.Linear(width, num_classes))


class _Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut, a 1x1 convolution if the shape changes."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, padding=1, bias=False), _instance(after), nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False), _instance(after),
        )  # fmt: skip
        same = stride == 1 and before == after
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), _instance(after))
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return torch.relu(self.body(x_BCHW) + self.shortcut(x_BCHW))


def _instance(width: int) -> nn.Module:
    return nn.GroupNorm(width, width)


# The layers of a vision transformer; `learning.architectures.ViT` builds it.
#
# Shape letters: B images, T tokens, W size of a token.


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
