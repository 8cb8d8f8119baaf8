"""From stored pixels (uint8, 0..255) to what networks see, and back.

Either per channel (`Normalisation`) or by ZCA (`Whitening`); both have `apply`, `invert` and `digest`. Every distilled set ships its
own: users of the peers' released sets reached 10 % accuracy for want of it. Shapes: D = C H W, the pixels of an image in that order.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

MINIMUM_STD = 1 / 255  # of a channel without any variation: one grey level
BLOCK = 1024  # images that are whitened at a time, in float64: 25 MB of them at 32 px


class Normalisation(NamedTuple):
    """Mean and standard deviation per colour channel of the training images, in units where white is 1."""

    mean_C: tuple[float, ...]
    std_C: tuple[float, ...]

    def apply(self, images_NHWC: Tensor) -> Tensor:
        """float32 [N, C, H, W] from uint8 [N, H, W, C]; rows and columns stay where they are."""
        images = images_NHWC.permute(0, 3, 1, 2).contiguous().float()
        mean, std = self._tensors(images)
        return images.div_(255).sub_(mean).div_(std)  # in place: of a whole survey there is memory for one copy

    def invert(self, images_NCHW: Tensor) -> Tensor:
        """float32 [N, H, W, C] in display units, in which black is 0 and white 1: not clipped."""
        mean, std = self._tensors(images_NCHW)
        return (images_NCHW * std + mean).permute(0, 2, 3, 1).contiguous()

    @property
    def digest(self) -> str:
        return hashlib.sha256(repr((self.mean_C, self.std_C)).encode()).hexdigest()

    def _tensors(self, like: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (torch.tensor(values).to(like)[None, :, None, None] for values in self)
        return mean, std


@dataclass(frozen=True, eq=False)
class Whitening:
    """ZCA: the linear map that decorrelates the pixels of the training images and otherwise leaves them as they are.

        x' = (x - mean) (Σ + eps I)^(-1/2),    x = mean + x' (Σ + eps I)^(1/2)

    with the mean and the covariance Σ of the training images, in units where white is 1 and without dividing by a channel's deviation
    first: as `kornia.enhance.ZCAWhitening(eps=0.1)`, with which the code of MTT (arXiv:2203.11932) and DATM (arXiv:2310.05773) whitens.
    mean_D, forward_DD, inverse_DD: float32, both matrices symmetric. They are applied in float64.
    """

    mean_D: Tensor
    forward_DD: Tensor
    inverse_DD: Tensor
    eps: float

    def apply(self, images_NHWC: Tensor) -> Tensor:
        """float32 [N, C, H, W] from uint8 [N, H, W, C]; rows and columns stay where they are."""
        forward_DD, mean_D = self.forward_DD.double(), self.mean_D.double()
        n, height, width, channels = images_NHWC.shape
        white = torch.empty(n, channels, height, width)
        for images, out in zip(images_NHWC.split(BLOCK), white.split(BLOCK), strict=True):
            pixels_BD = images.permute(0, 3, 1, 2).flatten(1).double() / 255
            out.copy_(((pixels_BD - mean_D) @ forward_DD).view_as(out))
        return white

    def invert(self, images_NCHW: Tensor) -> Tensor:
        """float32 [N, H, W, C] in display units, in which black is 0 and white 1: not clipped."""
        pixels_ND = images_NCHW.flatten(1).double() @ self.inverse_DD.double() + self.mean_D
        return pixels_ND.float().view_as(images_NCHW).permute(0, 2, 3, 1).contiguous()

    @cached_property
    def digest(self) -> str:
        tensors = (self.mean_D, self.forward_DD, self.inverse_DD)
        return hashlib.sha256(b"".join(t.numpy().tobytes() for t in tensors)).hexdigest()


AnyNormalisation = Normalisation | Whitening


class PixelSums:
    """Sums over images of their pixels and of the products of each two, from which the covariance follows.

    Whole numbers below 2^53 (for up to 10^11 images), which float64 holds exactly: neither the images' order nor the pieces in which
    they come nor the number of threads changes a bit.
    """

    def __init__(self, num_pixels: int) -> None:
        self._count = 0
        self._sum_D = torch.zeros(num_pixels, dtype=torch.float64)
        self._products_DD = torch.zeros(num_pixels, num_pixels, dtype=torch.float64)

    def add(self, images_NHWC: Tensor) -> None:
        """Count uint8 images [N, H, W, C] in."""
        pixels_ND = images_NHWC.permute(0, 3, 1, 2).flatten(1).double()
        self._count += len(pixels_ND)
        self._sum_D += pixels_ND.sum(dim=0)
        self._products_DD.addmm_(pixels_ND.T, pixels_ND)

    def mean(self) -> Tensor:
        """float64 [D], in units where white is 1."""
        return self._sum_D / self._count / 255

    def covariance(self) -> Tensor:
        """float64 [D, D], in units where white is 1; the unbiased estimate, as kornia's. Of a single image: zero."""
        centred_DD = self._products_DD - torch.outer(self._sum_D, self._sum_D / self._count)
        return (centred_DD + centred_DD.T) / (2 * max(self._count - 1, 1) * 255**2)

    def whitening(self, eps: float) -> Whitening:
        """The whitening of these images. The number of threads may change its last bits, as it decides the order of sums."""
        forward_DD, inverse_DD = zca(self.covariance(), eps)
        return Whitening(self.mean().float(), forward_DD.float(), inverse_DD.float(), eps)


def zca(covariance_DD: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(Σ + eps I)^(-1/2) and its inverse (Σ + eps I)^(1/2), in the dtype of Σ."""
    variance_D, axes_DD = torch.linalg.eigh(covariance_DD)
    scale_D = (variance_D.clamp_min(0) + eps).sqrt()
    return (axes_DD / scale_D) @ axes_DD.T, (axes_DD * scale_D) @ axes_DD.T


def one_hot(labels_N: Tensor, num_classes: int) -> Tensor:
    """[N, K] float32 target probabilities of hard labels."""
    return torch.nn.functional.one_hot(labels_N.long(), num_classes).float()
