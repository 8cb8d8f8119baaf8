"""Compose a fit's training set: real and added images, and drawing probabilities.

Real images are labelled galaxies; added images are those of a source.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from raydistill.seeding import generator


class Pool(NamedTuple):
    """Images of one origin.

    Parameters
    ----------
    images
        uint8 [N, H, W, 3], or normalised float32 [N, 3, H, W].
    labels_N
        int64 [N].
    targets_NK
        Target probabilities; None: those of the labels.
    """

    images: Tensor
    labels_N: Tensor
    targets_NK: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels_N)


def draw_shots(labels_N: Tensor, shots: int | None, seed: int) -> Tensor:
    """Return the labelled galaxies' rows: up to `shots` random per class, or all.

    The rows of a smaller number are among those of a larger one.

    Returns
    -------
    torch.Tensor
        int64, in increasing order.
    """
    if shots is None:
        return torch.arange(len(labels_N))
    order_N = torch.randperm(len(labels_N), generator=generator(seed, "shots"))
    kept = [order_N[labels_N[order_N] == label][:shots] for label in labels_N.unique()]
    return torch.cat(kept).sort().values


def mixed_probabilities(real_N: Tensor, added_M: Tensor, ratio: float) -> Tensor:
    """Return each image's drawing probability; all classes are drawn equally often.

    Parameters
    ----------
    real_N, added_M
        Classes of the real and of the added images.
    ratio
        Added images drawn for each real one, in a class that has both.

    Returns
    -------
    torch.Tensor
        float64 [N + M], with the sum 1.
    """
    classes = int(torch.cat([real_N, added_M]).max()) + 1
    counts_2K = torch.stack([part.bincount(minlength=classes).double() for part in (real_N, added_M)])
    shares_2K = torch.tensor([[1.0], [ratio]], dtype=torch.float64) * (counts_2K > 0)
    shares_2K = shares_2K / shares_2K.sum(dim=0)  # NaN for an empty class, which no image indexes
    each_2K = shares_2K / counts_2K
    probabilities = torch.cat([each_2K[0][real_N], each_2K[1][added_M]])
    return probabilities / probabilities.sum()
