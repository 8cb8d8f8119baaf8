"""Form several images from a stored one: more images from as many stored pixels.

A stored image is a grid of f x f tiles. Each tile is enlarged to the full size by bilinear
interpolation and trained on as an image (multi-formation, IDC, Kim et al. 2022, arXiv:2205.14959).
Such images have 1/f of the resolution, so they are not prototypes to look at. f = 1 changes
nothing.

Shape letters: S formed and T = S / f^2 stored images.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def form(stored_TCHW: Tensor, factor: int) -> Tensor:
    """Return formed images [S, C, H, W], grouped by stored image, row by row."""
    if factor == 1:
        return stored_TCHW
    tiles = _tiles(stored_TCHW, factor)
    return F.interpolate(tiles, size=stored_TCHW.shape[-2:], mode="bilinear", align_corners=False)


def form_gradient(stored_TCHW: Tensor, d_images_SCHW: Tensor, factor: int) -> Tensor:
    """Return the gradient in the stored images, given that in the formed images."""
    if factor == 1:
        return d_images_SCHW
    vjp = torch.func.vjp(lambda stored: form(stored, factor), stored_TCHW)[1]
    return vjp(d_images_SCHW)[0]


def store(images_SCHW: Tensor, factor: int) -> Tensor:
    """Return stored images [T, C, H, W] tiled with images, averaged over f x f pixels.

    Raises
    ------
    ValueError
        The number of images is not a multiple of f^2, or their side none of f.
    """
    num_images, channels, height, width = images_SCHW.shape
    if num_images % factor**2 or height % factor or width % factor:
        raise ValueError(
            f"multi_formation = {factor} needs a multiple of {factor**2} images and of {factor} pixels, "
            f"got {num_images} images of {height} x {width} pixels"
        )
    if factor == 1:
        return images_SCHW
    small = F.avg_pool2d(images_SCHW, factor).view(-1, factor, factor, channels, height // factor, width // factor)
    return small.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, height, width)


def _tiles(stored_TCHW: Tensor, factor: int) -> Tensor:
    _, channels, height, width = stored_TCHW.shape
    grid = stored_TCHW.view(-1, channels, factor, height // factor, factor, width // factor)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, height // factor, width // factor)
