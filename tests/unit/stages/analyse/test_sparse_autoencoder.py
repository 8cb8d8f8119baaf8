"""Sparse autoencoders on data that were made from known sparse parts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from raydistill.stages.analyse.science.sparse_features import (
    SparseTraining,
    dead_features,
    fit_autoencoder,
)
from tests.zoo import normal

TRAINING = SparseTraining(num_features=12, active=2, epochs=60, batch_size=64, lr=0.01)


def planted(count: int = 1500, parts: int = 8, width: int = 24) -> tuple[Tensor, Tensor]:
    """Return features (sums of two of eight orthogonal directions) and the directions."""
    directions = torch.linalg.qr(normal(1, width, width))[0][:parts].float()
    g = torch.Generator().manual_seed(2)
    chosen = torch.stack([torch.randperm(parts, generator=g)[:2] for _ in range(count)])
    amounts = 1 + torch.rand(count, 2, generator=g)
    weights = torch.zeros(count, parts).scatter(1, chosen, amounts)
    return weights @ directions + 5.0, directions


def test_planted_directions_are_found() -> None:
    features, directions = planted()
    model = fit_autoencoder(features, TRAINING, seed=0)
    best = (model.decoder_MF @ directions.T).max(dim=0).values
    assert (best > 0.9).sum() >= 7  # of 8
    assert model.explained_variance(features) > 0.85
    assert model.explained_variance(features) <= 1


def test_few_features_are_active_and_none_is_negative() -> None:
    features, _ = planted(300)
    activations = fit_autoencoder(features, TRAINING, seed=0).activations(features)
    assert activations.shape == (300, 12)
    assert (activations >= 0).all()
    assert ((activations > 0).sum(dim=1) <= 2).all()
    assert ((activations > 0).sum(dim=1) >= 1).float().mean() > 0.95


def test_seed_decides_the_result() -> None:
    features, _ = planted(300)
    first, again, other = (fit_autoencoder(features, TRAINING, seed) for seed in (0, 0, 1))
    assert torch.equal(first.encoder_MF, again.encoder_MF)
    assert torch.equal(first.decoder_MF, again.decoder_MF)
    assert not torch.equal(first.decoder_MF, other.decoder_MF)
    assert first.decoder_MF.norm(dim=1) == pytest.approx(1, abs=1e-5)


def test_units_of_the_features_do_not_matter() -> None:
    features, _ = planted(300)
    small, large = (fit_autoencoder(features * unit, TRAINING, 0) for unit in (1.0, 1024.0))  # exact in float32
    torch.testing.assert_close(small.activations(features), large.activations(features * 1024), rtol=1e-3, atol=1e-3)


def test_features_that_are_never_active_are_dead() -> None:
    activations = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
    assert dead_features(activations).tolist() == [True, False, False]


def test_impossible_sizes_and_constant_features_are_rejected() -> None:
    with pytest.raises(ValueError, match="active must be at most num_features"):
        SparseTraining(num_features=4, active=5)
    with pytest.raises(ValueError, match="same features"):
        fit_autoencoder(torch.ones(10, 4), TRAINING, 0)
