"""From stored pixels (uint8, 0..255) to what networks see, and back.

Every distilled set ships its `Normalisation`: users of the peers' released sets reached 10 % accuracy for want of it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

MINIMUM_STD = 1 / 255  # of a channel without any variation: one grey level


class Normalisation(NamedTuple):
    """Mean and standard deviation per colour channel of the training images, in units where white is 1."""

    mean_C: tuple[float, ...]
    std_C: tuple[float, ...]

    def apply(self, images_NHWC: Tensor) -> Tensor:
        """float32 [N, C, H, W] from uint8 [N, H, W, C]; rows and columns stay where they are."""
        images = images_NHWC.permute(0, 3, 1, 2).float() / 255
        mean, std = self._tensors(images)
        return ((images - mean) / std).contiguous()

    def invert(self, images_NCHW: Tensor) -> Tensor:
        """float32 [N, H, W, C] in display units, clipped to [0, 1]: the picture of a normalised image."""
        mean, std = self._tensors(images_NCHW)
        return (images_NCHW * std + mean).clamp(0, 1).permute(0, 2, 3, 1).contiguous()

    def _tensors(self, like: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (torch.tensor(values).to(like)[None, :, None, None] for values in self)
        return mean, std


def one_hot(labels_N: Tensor, num_classes: int) -> Tensor:
    """[N, K] float32 target probabilities of hard labels."""
    return torch.nn.functional.one_hot(labels_N.long(), num_classes).float()
