"""A baseline of another package: the images nearest to the mean of their class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from raydistill.distillation import Coreset


def medoid(images_NCHW: Tensor, labels_N: Tensor, counts_K: Sequence[int], g: torch.Generator) -> Coreset:
    """Return the images of each class that are nearest to its mean."""
    chosen = []
    for label, count in enumerate(counts_K):
        members = (labels_N == label).nonzero().squeeze(1)
        flat = images_NCHW[members].flatten(1)
        distances = (flat - flat.mean(0)).square().sum(1)
        chosen.append(members[distances.argsort(stable=True)[:count]])
    indices = torch.cat(chosen)
    return Coreset(images_NCHW[indices], tuple(indices[:, None]))
