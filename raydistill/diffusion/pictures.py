"""Convert pixels to the numbers that a generator computes with, and back.

Shapes: B images, C = 3 colours, H rows, W columns. Black is -1 and white is +1.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_tensors(images_NHWC: np.ndarray | Tensor) -> Tensor:
    """Return uint8 images [N, H, W, 3] as float32 [N, 3, H, W] in [-1, 1]."""
    return torch.as_tensor(images_NHWC).movedim(-1, 1).float() / 127.5 - 1


def to_pixels(images_BCHW: Tensor) -> np.ndarray:
    """Convert float [B, 3, H, W], clipped to [-1, 1], to rounded uint8 [B, H, W, 3].

    It is the inverse of `to_tensors`.
    """
    pixels = (images_BCHW.detach().float().clamp(-1, 1) + 1) * 127.5
    return np.ascontiguousarray(pixels.round().to(torch.uint8).movedim(1, -1).cpu().numpy())
