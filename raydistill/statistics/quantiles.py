"""Give the pixels of one survey the distribution that those of another one have.

Telescopes differ in depth, colours and stretch. Per channel, the map

    x' = F_reference^(-1)(F(x))

with the distribution functions F of all pixels of many pictures undoes what is the same monotonic
function for every pixel. It needs no label, but galaxies of the same kinds in both surveys. It is
known as histogram matching.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

LEVELS = 256  # of uint8


class QuantileMap(NamedTuple):
    """A monotonic map of pixel values.

    Attributes
    ----------
    table_LC
        uint8 [256, C]: the new value of each value, by channel.
    """

    table_LC: Tensor

    @classmethod
    def between(cls, images_NHWC: Tensor, reference_MHWC: Tensor) -> QuantileMap:
        """Return the map that gives images the distribution of the reference.

        Parameters
        ----------
        images_NHWC, reference_MHWC
            uint8, at least one image each.
        """
        channels = range(images_NHWC.shape[-1])
        own_LC, reference_LC = (
            np.stack([_middle_ranks(images[..., channel]) for channel in channels], axis=1)
            for images in (images_NHWC, reference_MHWC)
        )
        values = np.arange(LEVELS)
        mapped_LC = np.stack([np.interp(own_LC[:, n], reference_LC[:, n], values) for n in channels], axis=1)
        ends = reference_MHWC.flatten(0, 2).aminmax(dim=0)
        mapped_LC = np.rint(mapped_LC).clip(ends.min.numpy(), ends.max.numpy())
        return cls(torch.tensor(mapped_LC.astype(np.uint8)))

    def apply(self, images_NHWC: Tensor) -> Tensor:
        """Return the mapped images, uint8 of the same shape."""
        mapped = [self.table_LC[:, n][images_NHWC[..., n].long()] for n in range(images_NHWC.shape[-1])]
        return torch.stack(mapped, dim=-1)


def _middle_ranks(pixels: Tensor) -> np.ndarray:
    """Return the middle rank of each value, float64 [256].

    It is the share of smaller pixels plus half the share of equal ones.
    """
    shares = pixels.flatten().bincount(minlength=LEVELS).double().numpy() / pixels.numel()
    return np.cumsum(shares) - shares / 2
