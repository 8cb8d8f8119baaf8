"""Networks and workers that fail as a fault in a library or a driver would."""

from __future__ import annotations

import os

from torch import Tensor, nn

POISON, FAULT = 1e6, -1e6  # parameters with which `Deadly` exits its process, or raises


class Deadly(nn.Module):
    def __init__(self, num_inputs: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(num_inputs, num_classes)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        if (self.linear.bias == POISON).all():
            os._exit(1)
        if (self.linear.bias == FAULT).all():
            raise RuntimeError("a persistent fault")
        logits: Tensor = self.linear(images_NCHW.flatten(1))
        return logits


def deadly(num_classes: int, image_size: int, channels: int) -> nn.Module:
    return Deadly(channels * image_size**2, num_classes)


class Faulty:
    """A pool worker on a machine whose disk is full."""

    def evaluate(self) -> None:
        raise OSError("no space left for the trajectories")
