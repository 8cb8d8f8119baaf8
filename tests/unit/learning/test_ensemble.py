"""The mean and spread of an ensemble, against numpy in float64, and its features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from raydistill.learning.architectures import MLP, ConvNet, ViT
from raydistill.learning.ensemble import Ensemble, mean_and_spread
from raydistill.learning.networks import Network, build_network, embedding, initial_parameters

SIZE, CLASSES = 16, 5
ARCHITECTURES = [ConvNet(depth=2, width=4), MLP(width=8), ViT(width=8, depth=1, heads=2)]


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def members(network: Network, count: int = 3) -> list[torch.Tensor]:
    return [initial_parameters(network, seed) for seed in range(count)]


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_mean_and_spread_equal_numpy_in_float64(scale: float) -> None:
    logits = scale * np.random.default_rng(0).normal(size=(4, 50, 6)).astype(np.float32)
    mean, spread = mean_and_spread(torch.from_numpy(logits))
    expected = softmax(logits.astype(np.float64))
    np.testing.assert_allclose(mean.numpy(), expected.mean(axis=0), rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(spread.numpy(), expected.std(axis=0), rtol=1e-6, atol=1e-12)
    assert mean.dtype == spread.dtype == torch.float32


def test_one_network_has_no_spread() -> None:
    mean, spread = mean_and_spread(torch.randn(1, 7, 3, generator=torch.Generator().manual_seed(0)))
    assert not spread.any()
    torch.testing.assert_close(mean.sum(dim=1), torch.ones(7))


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda value: value.kind)
def test_ensemble_equals_its_members(architecture: ConvNet | MLP | ViT) -> None:
    network = build_network(architecture, CLASSES, SIZE)
    thetas, pictures = members(network), images(9)
    result = Ensemble(network, thetas, features=True).predict(pictures, batch_size=4)
    logits = torch.stack([network(theta, pictures) for theta in thetas]).detach().numpy()
    np.testing.assert_allclose(result.mean_NK, softmax(logits.astype(np.float64)).mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda value: value.kind)
def test_features_are_those_of_the_first_member_without_its_last_layer(architecture: ConvNet | MLP | ViT) -> None:
    network = build_network(architecture, CLASSES, SIZE)
    thetas, pictures = members(network), images(6)
    result = Ensemble(network, thetas, features=True).predict(pictures)
    psi = embedding(network)
    expected = psi(thetas[0][: psi.layout.num_parameters], pictures)  # the last layer comes last in theta
    torch.testing.assert_close(result.features_NF, expected)
    assert not network.module.get_submodule(_last(network))._forward_pre_hooks, "a hook was left behind"


def _last(network: Network) -> str:
    return [name for name, layer in network.module.named_modules() if isinstance(layer, nn.Linear)][-1]


def test_batches_do_not_change_a_prediction_beyond_rounding() -> None:
    network = build_network(ARCHITECTURES[0], CLASSES, SIZE)
    ensemble = Ensemble(network, members(network), features=False)
    whole, parts = (ensemble.predict(images(10), batch_size=size) for size in (10, 3))
    torch.testing.assert_close(whole.mean_NK, parts.mean_NK)
    assert whole.features_NF.shape == (10, 0)


def test_an_ensemble_needs_networks_and_images() -> None:
    network = build_network(ARCHITECTURES[0], CLASSES, SIZE)
    with pytest.raises(ValueError, match="at least one network"):
        Ensemble(network, [], features=False)
    with pytest.raises(ValueError, match="no images"):
        Ensemble(network, members(network), features=False).predict(images(0))
