"""Test the nuisance head: penalty, gradient, trajectories of the plain network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from raydistill.learning.architectures import ConvNet, ResNet18, ViT
from raydistill.learning.augment import Augmentation
from raydistill.learning.decomposition import Decomposition, bin_targets, logit_gradient, penalty
from raydistill.learning.networks import Network, build_network, initial_parameters
from raydistill.learning.normalise import one_hot
from raydistill.learning.options import Training
from raydistill.learning.sgd import init_state
from raydistill.learning.training import fit

K, M, SIDE = 3, 4, 8
NONE = Augmentation()


def decomposition(weight: float = 1.0, orthogonality: float = 1.0) -> Decomposition:
    return Decomposition(build_network(ConvNet(depth=2, width=4), K, SIDE), K, M, weight, orthogonality)


def batch(seed: int, count: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images float64, and targets of both heads."""
    g = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, SIDE, SIDE, generator=g, dtype=torch.float64)
    classes, bins = torch.randint(K, (count,), generator=g), torch.randint(M, (count,), generator=g)
    return images, torch.cat([one_hot(classes, K), one_hot(bins, M)], dim=1).double()


def parameters(model: Decomposition, seed: int = 0) -> torch.Tensor:
    """Return float64 parameters whose nuisance head is random too."""
    theta = model.extend(initial_parameters(model.network, seed)).double()
    g = torch.Generator().manual_seed(seed)
    head = len(theta) - model.network.layout.num_parameters
    theta[-head:] = torch.randn(head, generator=g, dtype=torch.float64) * 0.3
    return theta


def test_penalty_is_the_squared_cosine_of_gradients_in_the_features() -> None:
    """Autograd gives the gradients here; the module has a formula for them."""
    g = torch.Generator().manual_seed(1)
    z = torch.randn(5, 7, generator=g, dtype=torch.float64, requires_grad=True)
    heads = [torch.randn(n, 7, generator=g, dtype=torch.float64) for n in (K, M)]
    targets = [torch.rand(5, n, generator=g, dtype=torch.float64).softmax(dim=1) for n in (K, M)]
    gradients = []
    for weights, target in zip(heads, targets, strict=True):
        loss = nn.functional.cross_entropy(z @ weights.T, target, reduction="sum")
        (expected,) = torch.autograd.grad(loss, z)
        gradients.append(expected)
        torch.testing.assert_close(logit_gradient(z @ weights.T, target) @ weights, expected)
    cosines = nn.functional.cosine_similarity(*gradients, dim=1)
    torch.testing.assert_close(penalty(*gradients), cosines.square().mean())


def test_penalty_is_zero_for_orthogonal_heads_and_one_for_parallel_ones() -> None:
    g = torch.Generator().manual_seed(2)
    basis, _ = torch.linalg.qr(torch.randn(10, 10, generator=g, dtype=torch.float64))
    errors = [torch.randn(6, n, generator=g, dtype=torch.float64) for n in (K, M)]
    first, second = errors[0] @ basis[:K], errors[1] @ basis[K : K + M]
    assert float(penalty(first, second)) < 1e-30
    assert float(penalty(first, -2 * first)) == pytest.approx(1, abs=1e-9)
    assert float(penalty(first, torch.zeros_like(first))) == 0


def test_gradient_of_the_loss_agrees_with_finite_differences() -> None:
    model = decomposition(0.7, 1.3)
    images, targets = batch(3)
    targets[0, K:] = 0  # an unknown nuisance
    loss = model.loss(NONE)
    theta = parameters(model).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(theta, images, targets, {}), theta)
    g = torch.Generator().manual_seed(4)
    for _ in range(5):
        direction = torch.randn(len(theta), generator=g, dtype=torch.float64)
        step = 1e-6 * direction
        with torch.no_grad():
            difference = (loss(theta + step, images, targets, {}) - loss(theta - step, images, targets, {})) / 2e-6
        assert float(gradient @ direction) == pytest.approx(float(difference), rel=1e-6)


def test_loss_is_the_sum_of_its_three_terms() -> None:
    images, targets = batch(5)
    theta = parameters(decomposition())
    losses = {
        (w, o): float(decomposition(w, o).loss(NONE)(theta, images, targets, {}))
        for w, o in ((0, 0), (1, 0), (0, 1), (2, 3))
    }
    plain = nn.functional.cross_entropy(decomposition().network(decomposition().plain(theta), images), targets[:, :K])
    assert losses[0, 0] == pytest.approx(float(plain))
    nuisance, orthogonality = losses[1, 0] - losses[0, 0], losses[0, 1] - losses[0, 0]
    assert nuisance > 0.1
    assert 1e-4 < orthogonality < 1
    assert losses[2, 3] == pytest.approx(losses[0, 0] + 2 * nuisance + 3 * orthogonality)


def test_image_of_unknown_nuisance_counts_for_its_class_alone() -> None:
    images, targets = batch(6)
    first, theta = decomposition(), parameters(decomposition())
    unknown = targets.clone()
    unknown[:, K:] = 0
    plain = nn.functional.cross_entropy(first.network(first.plain(theta), images), targets[:, :K])
    assert float(first.loss(NONE)(theta, images, unknown, {})) == pytest.approx(float(plain), abs=1e-12)


@pytest.mark.parametrize("architecture", [ConvNet(depth=2, width=4), ResNet18(width=2), ViT(width=8, heads=2, depth=1)])
def test_features_give_the_logits_of_the_network(architecture: ConvNet) -> None:
    side = 16
    network = build_network(architecture, K, side)
    model = Decomposition(network, K, M, 1.0, 1.0)
    model.check(side)
    theta_P = initial_parameters(network, 0)
    assert torch.equal(model.plain(model.extend(theta_P)), theta_P)
    assert len(model.extend(theta_P)) == len(theta_P) + M * (model.num_features + 1)


class _SecondBranch(nn.Module):
    """The last linear layer feeds another one."""

    def __init__(self) -> None:
        super().__init__()
        self.output, self.first = nn.Linear(4, K), nn.Linear(3 * SIDE**2, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.output(self.first(images.flatten(1)).relu())


def test_network_whose_last_layer_is_not_its_output_is_rejected() -> None:
    model = Decomposition(Network.of(_SecondBranch), K, M, 1.0, 1.0)
    with pytest.raises(ValueError, match="does not give the logits"):
        model.check(SIDE)


@pytest.mark.parametrize("compile", [False, pytest.param(True, marks=[pytest.mark.slow, pytest.mark.long])])
def test_training_without_the_extra_terms_is_plain_training(compile: bool) -> None:
    images, targets = batch(7, 24)
    model = decomposition(0.0, 0.0)
    training = Training(epochs=2, batch_size=8, lr=0.1, momentum=0.5, average=0.5, compile=compile)
    start = initial_parameters(model.network, 1).double()
    *_, plain = fit(model.network, init_state(start), images, targets[:, :K], training, 3)
    *_, both = fit(model.network, init_state(model.extend(start)), images, targets, training, 3, objective=model)
    torch.testing.assert_close(model.plain(both.average_P), plain.average_P, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(plain.average_P, start)


def test_training_resumes_with_the_same_bits() -> None:
    """A resumed training has a new objective and never extends the parameters."""
    images, targets = batch(9, 24)
    training = Training(epochs=3, batch_size=8, lr=0.1, momentum=0.5, average=0.5)
    start = decomposition().extend(initial_parameters(decomposition().network, 1).double())
    states = list(
        fit(decomposition().network, init_state(start), images, targets, training, 3, objective=decomposition())
    )
    model = decomposition()
    *_, resumed = fit(model.network, states[0], images, targets, training, 3, objective=model)
    assert torch.equal(resumed.theta_P, states[-1].theta_P)
    assert torch.equal(resumed.average_P, states[-1].average_P)


def test_penalty_lowers_the_cosine_of_the_gradients() -> None:
    """Class and nuisance are both seen in the same pixels."""
    g = torch.Generator().manual_seed(8)
    classes, bins = torch.randint(K, (240,), generator=g), torch.randint(M, (240,), generator=g)
    images = 0.3 * torch.randn(240, 3, SIDE, SIDE, generator=g)
    images += classes[:, None, None, None] * 0.3 + bins[:, None, None, None] * 0.3
    images[:, 0, :4] += bins[:, None, None] * 0.5
    targets = torch.cat([one_hot(classes, K), one_hot(bins, M)], dim=1)
    training = Training(epochs=15, batch_size=24, lr=0.05, momentum=0.9)
    cosines = []
    for orthogonality in (0.0, 5.0):
        model = decomposition(1.0, orthogonality)
        start = model.extend(initial_parameters(model.network, 0))
        *_, state = fit(model.network, init_state(start), images, targets, training, 0, objective=model)
        with_penalty, without = (
            float(decomposition(1.0, o).loss(NONE)(state.theta_P, images, targets, {})) for o in (1.0, 0.0)
        )
        cosines.append(with_penalty - without)
    assert cosines[1] < 0.7 * cosines[0]


def test_bins_are_quantiles_within_each_class() -> None:
    values = np.array([1, 2, 3, 4, 101, 102, 103, 104, np.nan, np.inf])
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1, 0, 1])
    targets = bin_targets(values, labels, 2)
    assert targets.argmax(dim=1)[:8].tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
    assert targets.sum(dim=1).tolist() == [1] * 8 + [0, 0]
    with pytest.raises(ValueError, match="no class has two different values"):
        bin_targets(np.array([3.0, 3.0, 9.0, np.nan]), np.array([0, 0, 1, 1]), 4)
