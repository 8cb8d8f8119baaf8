"""A network of another package: one convolution and a mean over the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn


@dataclass(frozen=True)
class Tiny:
    """One layer of `width` filters."""

    kind: Literal["tiny"] = "tiny"
    width: int = 8

    @property
    def name(self) -> str:
        return f"tiny-w{self.width}"

    def check(self, image_size: int) -> None:
        if image_size < 3:
            raise ValueError("pictures are smaller than the filters")

    def module(self, num_classes: int, image_size: int, channels: int = 3) -> nn.Module:
        features = nn.Sequential(nn.Conv2d(channels, self.width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return nn.Sequential(features, nn.Linear(self.width, num_classes))
