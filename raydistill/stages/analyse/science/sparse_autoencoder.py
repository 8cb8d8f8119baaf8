"""Decompose network features into few active parts by a top-k sparse autoencoder.

    z = top_k(relu(W_e (x - b))),    x' = b + W_d z

At most k of the M sparse features are active for a picture (k-sparse autoencoders, Makhzani & Frey
2013, arXiv:1312.5663; with unit columns of W_d as in Gao et al. 2024, arXiv:2406.04093). On
features of galaxy networks they follow volunteers' answers more closely than principal components
do (arXiv:2510.23749).

The features x are centred and divided by their root mean square before. Training is plain Adam on
the squared error, deterministic for a seed on one kind of processor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from raydistill.learning.checks import positive
from raydistill.seeding import generator


@dataclass(frozen=True, kw_only=True)
class SparseTraining:
    """Set the size and the training of a sparse autoencoder.

    Parameters
    ----------
    num_features
        M, the number of sparse features.
    active
        k, how many of them are active for a picture at most.
    epochs
        Passes over the pictures.
    batch_size
        Pictures per step.
    lr
        Learning rate of Adam, which falls to 0 along a cosine.
    """

    num_features: int = 64
    active: int = 8
    epochs: int = 60
    batch_size: int = 64
    lr: float = 0.003

    def __post_init__(self) -> None:
        positive(self, "num_features", "active", "epochs", "batch_size", "lr")
        if self.active > self.num_features:
            raise ValueError(f"active must be at most num_features ({self.num_features}), got {self.active}")


@dataclass(frozen=True)
class SparseAutoencoder:
    """A trained sparse autoencoder.

    Attributes
    ----------
    mean_F
        Mean of the features of the training pictures.
    scale
        Root mean square of their differences from the mean.
    encoder_MF, bias_M, decoder_MF
        W_e, its offset, and the transpose of W_d, whose rows have length 1.
    active
        k.
    """

    mean_F: Tensor
    scale: float
    encoder_MF: Tensor
    bias_M: Tensor
    decoder_MF: Tensor
    active: int

    def activations(self, features_NF: Tensor) -> Tensor:
        """Return the sparse features of pictures, float32 [N, M]; at most k are positive."""
        return _top_k(self._centred(features_NF) @ self.encoder_MF.T + self.bias_M, self.active)

    def reconstruct(self, activations_NM: Tensor) -> Tensor:
        """Return the features float32 [N, F] that sparse features stand for."""
        return activations_NM @ self.decoder_MF * self.scale + self.mean_F

    def explained_variance(self, features_NF: Tensor) -> float:
        """Return the share of the features' variance that the reconstruction explains.

        It is at most 1.
        """
        residual = features_NF - self.reconstruct(self.activations(features_NF))
        total = (features_NF - features_NF.mean(dim=0)).square().sum()
        return 1 - float(residual.square().sum() / total)

    def _centred(self, features_NF: Tensor) -> Tensor:
        return (features_NF - self.mean_F) / self.scale


def fit_autoencoder(features_NF: Tensor, training: SparseTraining, seed: int) -> SparseAutoencoder:
    """Return an autoencoder of these features.

    Parameters
    ----------
    features_NF
        float32, features of the training pictures.
    training
        Its size and training.
    seed
        Decides the initial directions and the order of pictures.

    Raises
    ------
    ValueError
        If all pictures have the same features.
    """
    features_NF = features_NF.float()
    mean_F = features_NF.mean(dim=0)
    scale = float((features_NF - mean_F).square().mean().sqrt())
    if scale == 0:
        raise ValueError("all pictures have the same features, so there is nothing to decompose")
    inputs_NF = (features_NF - mean_F) / scale
    start = torch.randn(training.num_features, inputs_NF.shape[1], generator=generator(seed, "directions"))
    # The encoder starts as the transpose of the decoder, so that no feature is dead from the start.
    start = nn.functional.normalize(start, dim=1)
    decoder, encoder = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    bias = nn.Parameter(torch.zeros(training.num_features))
    optimiser = torch.optim.Adam([decoder, encoder, bias], lr=training.lr)
    batches = math.ceil(len(inputs_NF) / training.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, training.epochs * batches)
    order = generator(seed, "order")
    for _ in range(training.epochs):
        for rows in torch.randperm(len(inputs_NF), generator=order).split(training.batch_size):
            batch = inputs_NF[rows]
            reconstruction = _top_k(batch @ encoder.T + bias, training.active) @ decoder
            optimiser.zero_grad()
            (reconstruction - batch).square().mean().backward()
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                decoder.copy_(nn.functional.normalize(decoder, dim=1))
    return SparseAutoencoder(mean_F, scale, encoder.detach(), bias.detach(), decoder.detach(), training.active)


def dead_features(activations_NM: Tensor) -> Tensor:
    """Return which sparse features are active for no picture, bool [M]."""
    return (activations_NM <= 0).all(dim=0)


def _top_k(values_NM: Tensor, k: int) -> Tensor:
    """Return the k largest values of each row, without those below 0; 0 elsewhere."""
    largest, columns = values_NM.topk(k, dim=1)
    return torch.zeros_like(values_NM).scatter(1, columns, largest.relu())
