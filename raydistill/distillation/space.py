r"""Define the spaces in which synthetic images are stored, and decoded from.

A distiller moves stored values z along the gradient of the loss of their images x = decode(z). The
chain rule adds one factor to the exact gradient, the transposed Jacobian of `decode`:

    dL/dz = (dx/dz)^T dL/dx

- `Tiles`: z are images, or tiles of them: a stored image is a grid of f x f tiles, each enlarged to
  the full size by bilinear interpolation (multi-formation, IDC, Kim et al. 2022, arXiv:2205.14959).
  Such images have 1/f of the resolution, so they are not prototypes to look at.
- `Components`: z are whitened principal components of real images, so that an image is a plausible
  mixture of real ones and has no noise of single pixels. Its values are kept in the range of
  pictures.
- `Pyramid`: z are images of 1, 2, 4, … pixels a side, which are enlarged and added. Their values are
  kept in the range of pictures, too.

Shapes: S images, T = S / f^2 stored ones, K components, D = C H W.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from raydistill.distillation.options import ImageComponents, ImagePyramid, ImageSpace
from raydistill.learning.components import axes_above_rounding
from raydistill.learning.normalise import AnyNormalisation, Normalisation
from raydistill.seeding import generator

if TYPE_CHECKING:
    from raydistill.distillation.recipe import Recipe

MOST_IMAGES = 4096  # whose principal components are found: 400 MB of float64 at 64 px


class Space(Protocol):
    """The map between stored values and images."""

    def encode(self, images_SCHW: Tensor) -> Tensor:
        """Return the stored values whose images are nearest to these."""
        ...

    def decode(self, stored: Tensor) -> Tensor:
        """Return the images [S, C, H, W]."""
        ...


def gradient(space: Space, stored: Tensor, d_images_SCHW: Tensor) -> Tensor:
    """Return the gradient in the stored values, given that in their images."""
    return torch.func.vjp(space.decode, stored)[1](d_images_SCHW)[0]


@dataclass(frozen=True)
class Tiles:
    """Images themselves (f = 1), or grids of f x f smaller ones.

    Parameters
    ----------
    factor
        f.
    """

    factor: int = 1

    def decode(self, stored_TCHW: Tensor) -> Tensor:
        """Return images [S, C, H, W], grouped by stored image, row by row."""
        if self.factor == 1:
            return stored_TCHW
        f, (_, channels, height, width) = self.factor, stored_TCHW.shape
        grid = stored_TCHW.view(-1, channels, f, height // f, f, width // f)
        tiles = grid.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, height // f, width // f)
        return F.interpolate(tiles, size=(height, width), mode="bilinear", align_corners=False)

    def encode(self, images_SCHW: Tensor) -> Tensor:
        """Return stored images [T, C, H, W], tiles averaged over f x f pixels.

        Raises
        ------
        ValueError
            The number of images is not a multiple of f^2, or their side none of f.
        """
        f, (num_images, channels, height, width) = self.factor, images_SCHW.shape
        if num_images % f**2 or height % f or width % f:
            raise ValueError(
                f"multi_formation = {f} needs a multiple of {f**2} images and of {f} pixels, "
                f"got {num_images} images of {height} x {width} pixels"
            )
        if f == 1:
            return images_SCHW
        small = F.avg_pool2d(images_SCHW, f).view(-1, f, f, channels, height // f, width // f)
        return small.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, height, width)


@dataclass(frozen=True, eq=False)
class Components:
    """Whitened principal components of real images.

    x = clip(mean + sum_k z_k std_k axis_k)

    Parameters
    ----------
    mean_CHW
        Mean image.
    axes_KD
        Principal axes times the standard deviation of the real images along each.
    variances_K
        Squares of these deviations.
    low_C11, high_C11
        Black and white of each channel.
    """

    mean_CHW: Tensor
    axes_KD: Tensor
    variances_K: Tensor
    low_C11: Tensor
    high_C11: Tensor

    @classmethod
    def fit(cls, images_NCHW: Tensor, count: int, normalisation: AnyNormalisation, seed: int) -> Components:
        """Return the principal components of real images.

        Parameters
        ----------
        images_NCHW
            Normalised images. Of more than `MOST_IMAGES` the seed draws as many.
        count
            Largest number of components. There are never more than the rank of the images.
        normalisation
            Of the images. ZCA leaves no range per channel, so values are not clipped.
        seed
            Draws images.
        """
        chosen_N = torch.randperm(len(images_NCHW), generator=generator(seed, "components"))[:MOST_IMAGES]
        flat_ND = images_NCHW[chosen_N.sort().values.to(images_NCHW.device)].flatten(1).cpu().double()
        mean_D = flat_ND.mean(dim=0)
        axes_KD, variances_K = axes_above_rounding(flat_ND - mean_D, count)
        tensors = (
            mean_D.unflatten(0, images_NCHW.shape[1:]), axes_KD * variances_K.sqrt()[:, None], variances_K,
            *value_range(normalisation, images_NCHW.shape[1]),
        )  # fmt: skip
        return cls(*(tensor.to(images_NCHW) for tensor in tensors))

    def decode(self, stored_SK: Tensor) -> Tensor:
        """Return images [S, C, H, W]."""
        offsets_SD = stored_SK @ self.axes_KD
        return (self.mean_CHW + offsets_SD.unflatten(1, self.mean_CHW.shape)).clamp(self.low_C11, self.high_C11)

    def encode(self, images_SCHW: Tensor) -> Tensor:
        """Return components [S, K]."""
        return (images_SCHW - self.mean_CHW).flatten(1) @ self.axes_KD.T / self.variances_K


@dataclass(frozen=True, eq=False)
class Pyramid:
    """Images of 1, 2, 4, … pixels a side, enlarged bilinearly and added.

    x = clip(colours sum_l enlarge(z_l)), where the last z_l has the full size

    Parameters
    ----------
    channels, side
        C, and H = W.
    colours_CC
        From values whose channels are uncorrelated to the channels of the images.
    low_C11, high_C11
        Black and white of each channel.
    """

    channels: int
    side: int
    colours_CC: Tensor
    low_C11: Tensor
    high_C11: Tensor

    @classmethod
    def of(cls, images_NCHW: Tensor, normalisation: AnyNormalisation, decorrelated: bool = True) -> Pyramid:
        """Return the pyramid of images like these."""
        low, high = (bound.to(images_NCHW) for bound in value_range(normalisation, images_NCHW.shape[1]))
        channels, side = images_NCHW.shape[1], images_NCHW.shape[-1]
        colours_CC = torch.eye(channels)
        if decorrelated and channels > 1:
            covariance_CC = images_NCHW.transpose(0, 1).flatten(1).double().cov()
            colours_CC = torch.linalg.cholesky(covariance_CC + 1e-6 * torch.eye(channels).to(covariance_CC))
        return cls(channels, side, colours_CC.to(images_NCHW), low, high)

    @property
    def sides(self) -> list[int]:
        """Return the sides of the levels, from 1 pixel to the whole image."""
        return [2**level for level in range(self.side.bit_length()) if 2**level < self.side] + [self.side]

    def decode(self, stored_SD: Tensor) -> Tensor:
        """Return images [S, C, H, W] of the levels, one behind the other."""
        parts = stored_SD.split([self.channels * side**2 for side in self.sides], dim=1)
        levels = [part.view(-1, self.channels, side, side) for part, side in zip(parts, self.sides, strict=True)]
        images = functools.reduce(torch.add, map(self._enlarge, levels))
        return torch.einsum("dc,schw->sdhw", self.colours_CC.to(images), images).clamp(self.low_C11, self.high_C11)

    def encode(self, images_SCHW: Tensor) -> Tensor:
        """Return levels [S, D]; each has what those before it lack, the last all."""
        rest_SCHW, parts = torch.einsum("dc,schw->sdhw", self.colours_CC.inverse().to(images_SCHW), images_SCHW), []
        for side in self.sides:
            level = F.adaptive_avg_pool2d(rest_SCHW, side)
            rest_SCHW = rest_SCHW - self._enlarge(level)
            parts.append(level.flatten(1))
        return torch.cat(parts, dim=1)

    def _enlarge(self, level: Tensor) -> Tensor:
        size = (self.side, self.side)
        return (
            level if level.shape[-1] == self.side else F.interpolate(level, size, mode="bilinear", align_corners=False)
        )


def image_space(kind: ImageSpace, images_NCHW: Tensor, normalisation: AnyNormalisation, seed: int) -> Space | None:
    """Return the space of this kind for images like these.

    None for pixels, and for a generator, which the caller opens (`diffusion.noised`).
    """
    match kind:
        case ImageComponents():
            return Components.fit(images_NCHW, kind.components, normalisation, seed)
        case ImagePyramid():
            return Pyramid.of(images_NCHW, normalisation, kind.decorrelated)
    return None


def resolve_space(recipe: Recipe, space: Space | None) -> Space:
    """Return the space, or that of pixels; ValueError if the recipe needs another."""
    if space is None and recipe.space.kind != "pixels":
        raise ValueError(f"recipe.space is {recipe.space.kind}: give the space, `image_space` of real images")
    return space or Tiles(recipe.multi_formation)


class StoredImages:
    """Synthetic images, their moving average and their labels, as a run changes them.

    Parameters
    ----------
    recipe
        Space of the images, and decay of their moving average.
    images_SCHW
        Initial images.
    labels_SK
        Their class probabilities or logits.
    space
        Where the images are stored. None: the space of pixels.
    """

    def __init__(self, recipe: Recipe, images_SCHW: Tensor, labels_SK: Tensor, space: Space | None) -> None:
        self.recipe = recipe
        self._space = resolve_space(recipe, space)
        self.stored = self._space.encode(images_SCHW).clone()
        self.average = self.stored.clone()
        self.labels = labels_SK.clone()

    @property
    def images(self) -> Tensor:
        """Return the images [S, C, H, W] on which a student is trained."""
        return self._space.decode(self.stored)

    @property
    def published_images(self) -> Tensor:
        """Return the images' moving average to publish, or the images if there is none."""
        return self._space.decode(self.average) if self.recipe.ema else self.images

    def _copies(self, others: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return copies of the stored tensors and of others, for `state_dict`."""
        tensors = {"images": self.stored, "average": self.average, "labels": self.labels} | others
        return {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}

    def _load_copies(self, tensors: dict[str, Tensor]) -> None:
        self.stored.copy_(tensors["images"])
        self.average.copy_(tensors["average"])
        self.labels.copy_(tensors["labels"])


def value_range(normalisation: AnyNormalisation, channels: int) -> tuple[Tensor, Tensor]:
    """Return black and white of each channel, [C, 1, 1]; infinite after a whitening."""
    low_C, high_C = torch.full((channels,), -torch.inf), torch.full((channels,), torch.inf)
    if isinstance(normalisation, Normalisation):
        mean_C, std_C = (torch.tensor(values, dtype=torch.float64) for values in normalisation)
        low_C, high_C = -mean_C / std_C, (1 - mean_C) / std_C
    return low_C[:, None, None], high_C[:, None, None]
