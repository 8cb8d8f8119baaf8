"""A baseline of another package: the images nearest to the mean of their class."""

from __future__ import annotations

import torch
from torch import Tensor

from raydistill.distillation import Coreset


def medoid(images_NCHW: Tensor, labels_N: Tensor, num_classes: int, ipc: int, g: torch.Generator) -> Coreset:
    """Return the `ipc` images of each class that are nearest to its mean."""
    chosen = []
    for label in range(num_classes):
        members = (labels_N == label).nonzero().squeeze(1)
        flat = images_NCHW[members].flatten(1)
        distances = (flat - flat.mean(0)).square().sum(1)
        chosen.append(members[distances.argsort(stable=True)[:ipc]])
    indices = torch.cat(chosen)
    return Coreset(images_NCHW[indices], tuple(indices[:, None]))
