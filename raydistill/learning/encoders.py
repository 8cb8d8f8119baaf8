"""Turn images into standardised features by frozen networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raydistill.learning.networks import Network, embedding
from raydistill.learning.normalise import Normalisation

Features = Callable[[Tensor], Tensor]  # of normalised images [B, C, H, W]: [B, F]
Convert = Callable[[Tensor], Tensor]  # of images from one normalisation to another
BATCH = 256  # images whose features are computed at once
SMALLEST_DEVIATION = 1e-6  # of a feature that is constant
LARGEST_FLOAT16 = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Encoder:
    """A frozen network without its last layer; calling it gives standardised features.

    Parameters
    ----------
    network, theta_P
        The network (`learning.networks.embedding`) and its parameters.
    mean_F, deviation_F
        Of the features of real images.
    convert
        Maps images to the network's own normalisation. None: they have it.
    """

    network: Network
    theta_P: Tensor
    mean_F: Tensor
    deviation_F: Tensor
    convert: Convert | None = None

    def __call__(self, images_BCHW: Tensor) -> Tensor:
        """Return the features [B, F], differentiable in the images."""
        images_BCHW = images_BCHW if self.convert is None else self.convert(images_BCHW)
        features_BF = self.network(self.theta_P, images_BCHW).flatten(1)
        return (features_BF - self.mean_F) / self.deviation_F

    @classmethod
    def fit(cls, network: Network, theta_P: Tensor, images_NCHW: Tensor, convert: Convert | None = None) -> Encoder:
        """Return the encoder, standardised on real images."""
        zero, unit = torch.zeros(1).to(theta_P), torch.ones(1).to(theta_P)
        features_NF = features_of(cls(network, theta_P, zero, unit, convert), images_NCHW)
        return cls(network, theta_P, *mean_and_deviation(features_NF), convert)


def mean_and_deviation(features_NF: Tensor) -> tuple[Tensor, Tensor]:
    """Return what standardises features; a constant one has a small deviation."""
    return features_NF.mean(dim=0), features_NF.std(dim=0).clamp_min(SMALLEST_DEVIATION)


def to_float16(values_NF: np.ndarray) -> np.ndarray:
    """Return values as float16; those beyond ±65504 become ±65504."""
    return values_NF.clip(-LARGEST_FLOAT16, LARGEST_FLOAT16).astype(np.float16)


@torch.no_grad()
def features_of(encoder: Features, images_NCHW: Tensor) -> Tensor:
    """Return the features [N, F] of images, in batches."""
    return torch.cat([encoder(images) for images in images_NCHW.split(BATCH)])


def frozen_encoders(network: Network, ends_P: Sequence[Tensor], images_NCHW: Tensor) -> list[Encoder]:
    """Return trained networks without their last layer, standardised on real images.

    ValueError if the network's last layer is not linear.
    """
    psi = embedding(network)
    return [
        Encoder.fit(psi, psi.layout.flatten(network.layout.split(end_P.to(images_NCHW))), images_NCHW)
        for end_P in ends_P
    ]


@dataclass(frozen=True)
class Renormalise:
    """Map images to another normalisation, and to a side of `size` pixels."""

    source: Normalisation
    target: Normalisation
    size: int | None = None

    def __call__(self, images_BCHW: Tensor) -> Tensor:
        """Return images [B, C, H, W] with the target's normalisation and size."""
        mean, std, own_mean, own_std = (
            torch.tensor(values).to(images_BCHW)[:, None, None] for values in (*self.source, *self.target)
        )
        images_BCHW = (images_BCHW * std + mean - own_mean) / own_std
        if self.size is None or images_BCHW.shape[-1] == self.size:
            return images_BCHW
        size = (self.size, self.size)
        return torch.nn.functional.interpolate(images_BCHW, size, mode="bilinear", antialias=True)
