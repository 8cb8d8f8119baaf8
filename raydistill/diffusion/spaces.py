"""Choose diffusion states: normalised pixels or whitened principal components.

A space maps images in [-1, 1] to states with mean 0 and standard deviation `SIGMA_DATA`, and noise
in pixels to standard normal noise of the state. Buffers hold its statistics of the images, so
`state_dict` covers it.

Shapes: N images, C colours, H rows, W columns, P = C H W, K components.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raydistill.diffusion.options.spaces import Shape
from raydistill.diffusion.processes import SIGMA_DATA
from raydistill.seeding import generator

OVERSAMPLING, ROUNDS = 16, 6  # of the subspace iteration; Halko et al. use 5 to 20 and 1 to 4


class Pixels(nn.Module):
    """The map of `PixelSpace`."""

    mean: Tensor
    std: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("mean", torch.zeros(shape[0], 1, 1))
        self.register_buffer("std", torch.tensor(SIGMA_DATA))

    def fit(self, images_NCHW: Tensor) -> None:
        """Take the statistics of images; of images that are all equal, only the mean."""
        self.mean.copy_(images_NCHW.double().mean(dim=(0, 2, 3), keepdim=True)[0])
        std = (images_NCHW - self.mean).double().square().mean().sqrt()
        self.std.copy_(std if std > 0 else torch.tensor(SIGMA_DATA))

    def encode(self, images_BCHW: Tensor) -> Tensor:
        """Return the states of images."""
        return (images_BCHW - self.mean) * (SIGMA_DATA / self.std)

    def encode_noise(self, noise_BCHW: Tensor) -> Tensor:
        """Return the noise of the states: the same."""
        return noise_BCHW

    def decode(self, states_BCHW: Tensor) -> Tensor:
        """Return the images of states."""
        return states_BCHW * (self.std / SIGMA_DATA) + self.mean

    def clip(self, states_BCHW: Tensor) -> Tensor:
        """Return the states of the images clipped to [-1, 1]."""
        return self.encode(self.decode(states_BCHW).clamp(-1, 1))


class Components(nn.Module):
    """The map of `ComponentSpace`."""

    mean: Tensor
    axes: Tensor
    std: Tensor

    def __init__(self, shape: Shape, components: int) -> None:
        super().__init__()
        self.image_shape, self.shape = shape, (components,)
        size = shape[0] * shape[1] * shape[2]
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("axes", torch.zeros(components, size))
        self.register_buffer("std", torch.ones(components))

    def fit(self, images_NCHW: Tensor) -> None:
        """Find the principal components of images."""
        flat_NP = images_NCHW.flatten(1).double()
        mean_P = flat_NP.mean(dim=0)
        axes_KP, variances_K = principal_axes(flat_NP - mean_P, self.shape[0])
        rank = int((variances_K > 1e-9 * variances_K.max()).sum())  # the rest is rounding
        self.mean.copy_(mean_P)
        self.axes.zero_()[:rank] = axes_KP[:rank].to(self.axes)
        self.std.fill_(1)[:rank] = variances_K[:rank].sqrt().to(self.std)

    def encode(self, images_BCHW: Tensor) -> Tensor:
        """Return the states [B, K] of images."""
        return (images_BCHW.flatten(1) - self.mean) @ self.axes.T * (SIGMA_DATA / self.std)

    def encode_noise(self, noise_BCHW: Tensor) -> Tensor:
        """Return the states' noise [B, K]: its components, also standard normal."""
        return noise_BCHW.flatten(1) @ self.axes.T

    def decode(self, states_BK: Tensor) -> Tensor:
        """Return the images of states."""
        flat_BP = states_BK * (self.std / SIGMA_DATA) @ self.axes + self.mean
        return flat_BP.unflatten(1, self.image_shape)

    def clip(self, states_BK: Tensor) -> Tensor:
        """Return the states: the pixels of partial images need not lie in [-1, 1]."""
        return states_BK


def principal_axes(centred_NP: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return at most `count` principal axes [K, P] and variances [K], largest first.

    The rows are centred, and float64. Subspace iteration from random vectors (Halko et al. 2011,
    arXiv:0909.4061, Algorithm 4.4) costs N P K operations a round, where the covariance would cost
    N P^2.
    """
    rows, columns = centred_NP.shape
    guesses = min(count + OVERSAMPLING, rows, columns)
    basis_PQ = torch.randn(columns, guesses, dtype=centred_NP.dtype, generator=generator(0, "principal axes"))
    for _ in range(ROUNDS):
        basis_PQ = torch.linalg.qr(centred_NP.T @ (centred_NP @ basis_PQ)).Q
    projected_NQ = centred_NP @ basis_PQ
    variances_Q, rotation_QQ = torch.linalg.eigh(projected_NQ.T @ projected_NQ / rows)
    axes_QP = (basis_PQ @ rotation_QQ.flip(1)).T
    return _with_fixed_signs(axes_QP[:count]), variances_Q.flip(0)[:count].clamp_min(0)


def _with_fixed_signs(axes_KP: Tensor) -> Tensor:
    """Return axes with positive largest entries; libraries differ in their sign."""
    largest_K1 = axes_KP.abs().argmax(dim=1, keepdim=True)
    return axes_KP * axes_KP.gather(1, largest_K1).sign()
