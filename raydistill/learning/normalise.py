"""Map stored pixels (uint8, 0..255) to the inputs of networks, and back.

`Normalisation` works per channel, `Whitening` by ZCA; both have `apply`, `invert` and `digest`.
Every distilled set contains its own: without it, users of other published sets reached 10 %
accuracy. Shapes: D = C H W, the pixels of an image in that order.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

MINIMUM_STD = 1 / 255  # for a constant channel: one grey level
BLOCK = 1024  # images whitened at a time: 25 MB of float64 at 32 px


def _check_levels(images_NHWC: Tensor) -> None:
    if images_NHWC.is_floating_point() and images_NHWC.numel() and images_NHWC.max() <= 1:
        raise ValueError("pixels are 0 to 255, and these are at most 1: multiply them by 255")


class Normalisation(NamedTuple):
    """Mean and standard deviation per colour channel of training images; white is 1."""

    mean_C: tuple[float, ...]
    std_C: tuple[float, ...]

    def apply(self, images_NHWC: Tensor) -> Tensor:
        """Return float32 [N, C, H, W] from pixels of 0 to 255 [N, H, W, C].

        Rows and columns stay in order.

        Raises
        ------
        ValueError
            The pixels are floats of at most 1.
        """
        _check_levels(images_NHWC)
        images = images_NHWC.permute(0, 3, 1, 2).contiguous().float()
        mean, std = self._tensors(images)
        return images.div_(255).sub_(mean).div_(std)  # in place: memory holds one copy of a survey

    def invert(self, images_NCHW: Tensor) -> Tensor:
        """Return float32 [N, H, W, C] in display units (black 0, white 1), not clipped."""
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
    """ZCA whitening: a symmetric linear map that decorrelates training images' pixels.

        x' = (x - mean) (Σ + eps I)^(-1/2),    x = mean + x' (Σ + eps I)^(1/2)

    The mean and the covariance Σ are those of the training images, in units where white is 1, not
    divided by a channel's standard deviation. This is `kornia.enhance.ZCAWhitening(eps=0.1)`, used
    by the code of MTT (arXiv:2203.11932) and DATM (arXiv:2310.05773).

    Parameters
    ----------
    mean_D, forward_DD, inverse_DD
        Mean and the two symmetric matrices, float32; they are applied in float64.
    eps
        Regularisation of the covariance.
    """

    mean_D: Tensor
    forward_DD: Tensor
    inverse_DD: Tensor
    eps: float

    def apply(self, images_NHWC: Tensor) -> Tensor:
        """Return float32 [N, C, H, W] from pixels, as `Normalisation.apply` does."""
        _check_levels(images_NHWC)
        forward_DD, mean_D = self.forward_DD.double(), self.mean_D.double()
        n, height, width, channels = images_NHWC.shape
        white = torch.empty(n, channels, height, width)
        for images, out in zip(images_NHWC.split(BLOCK), white.split(BLOCK), strict=True):
            pixels_BD = images.permute(0, 3, 1, 2).flatten(1).double() / 255
            out.copy_(((pixels_BD - mean_D) @ forward_DD).view_as(out))
        return white

    def invert(self, images_NCHW: Tensor) -> Tensor:
        """Return float32 [N, H, W, C] in display units (black 0, white 1), not clipped."""
        pixels_ND = images_NCHW.flatten(1).double() @ self.inverse_DD.double() + self.mean_D
        return pixels_ND.float().view_as(images_NCHW).permute(0, 2, 3, 1).contiguous()

    @cached_property
    def digest(self) -> str:
        tensors = (self.mean_D, self.forward_DD, self.inverse_DD)
        return hashlib.sha256(b"".join(t.numpy().tobytes() for t in tensors)).hexdigest()


AnyNormalisation = Normalisation | Whitening


class PixelSums:
    """Sums of pixels and their pairwise products over images, for mean and covariance.

    The sums are integers below 2^53 (for up to 10^11 images), which float64 represents exactly. The
    order of the images, their batches and the number of threads therefore do not change a bit.
    """

    def __init__(self, num_pixels: int) -> None:
        self._count = 0
        self._sum_D = torch.zeros(num_pixels, dtype=torch.float64)
        self._products_DD = torch.zeros(num_pixels, num_pixels, dtype=torch.float64)

    def add(self, images_NHWC: Tensor) -> None:
        """Add uint8 images [N, H, W, C]."""
        pixels_ND = images_NHWC.permute(0, 3, 1, 2).flatten(1).double()
        self._count += len(pixels_ND)
        self._sum_D += pixels_ND.sum(dim=0)
        self._products_DD.addmm_(pixels_ND.T, pixels_ND)

    def mean(self) -> Tensor:
        """Return the mean, float64 [D], in units where white is 1."""
        return self._sum_D / self._count / 255

    def covariance(self) -> Tensor:
        """Return the unbiased covariance, float64 [D, D] (white is 1); 0 for one image."""
        centred_DD = self._products_DD - torch.outer(self._sum_D, self._sum_D / self._count)
        return (centred_DD + centred_DD.T) / (2 * max(self._count - 1, 1) * 255**2)

    def whitening(self, eps: float) -> Whitening:
        """Return the whitening; its last bits may depend on the number of threads."""
        forward_DD, inverse_DD = zca(self.covariance(), eps)
        return Whitening(self.mean().float(), forward_DD.float(), inverse_DD.float(), eps)


def zca(covariance_DD: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return (Σ + eps I)^(-1/2) and its inverse (Σ + eps I)^(1/2), in the dtype of Σ."""
    variance_D, axes_DD = torch.linalg.eigh(covariance_DD)
    scale_D = (variance_D.clamp_min(0) + eps).sqrt()
    return (axes_DD / scale_D) @ axes_DD.T, (axes_DD * scale_D) @ axes_DD.T


def one_hot(labels_N: Tensor, num_classes: int) -> Tensor:
    """Return the target probabilities of hard labels, float32 [N, K]."""
    return torch.nn.functional.one_hot(labels_N.long(), num_classes).float()
