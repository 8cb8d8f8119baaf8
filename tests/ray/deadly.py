"""Networks and workers that fail as a fault in a library or a driver would."""

from __future__ import annotations

import os
import time
from pathlib import Path

from torch import Tensor, nn

POISON, FAULT = 1e6, -1e6  # parameters with which `Deadly` exits its process, or raises


MAX_WAIT = 120.0  # s


class Deadly(nn.Module):
    """A linear network; with parameters `POISON` it exits once a file matches `after`."""

    def __init__(self, num_inputs: int, num_classes: int, root: str, after: str) -> None:
        super().__init__()
        self.linear = nn.Linear(num_inputs, num_classes)
        self._root, self._after = Path(root), after

    def forward(self, images_NCHW: Tensor) -> Tensor:
        if (self.linear.bias == POISON).all():
            self._wait()
            os._exit(1)
        if (self.linear.bias == FAULT).all():
            raise RuntimeError("a persistent fault")
        logits: Tensor = self.linear(images_NCHW.flatten(1))
        return logits

    def _wait(self) -> None:
        deadline = time.monotonic() + MAX_WAIT
        while self._after and not any(self._root.glob(self._after)) and time.monotonic() < deadline:
            time.sleep(0.01)


def deadly(num_classes: int, image_size: int, channels: int, root: str = "", after: str = "") -> nn.Module:
    return Deadly(channels * image_size**2, num_classes, root, after)


class Faulty:
    """A pool worker on a machine whose disk is full."""

    def evaluate(self) -> None:
        raise OSError("no space left for the trajectories")
