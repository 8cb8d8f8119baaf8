"""The Sinkhorn divergence has its known values and gradient.

An aligned network classifies another survey.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from raydistill.errors import DivergenceError
from raydistill.learning.architectures import MLP
from raydistill.learning.augment import Augmentation
from raydistill.learning.networks import Network, build_network, initial_parameters, logits_and_features
from raydistill.learning.normalise import one_hot
from raydistill.learning.options import WeightedTraining
from raydistill.learning.sgd import FitState
from raydistill.learning.weighted_training import fit_steps
from raydistill.seeding import generator
from raydistill.stages.adapt import alignment as adaptation
from raydistill.stages.adapt.alignment import (
    entropy_of,
    entropy_separation,
    fit_aligned,
    relative_divergence,
    sinkhorn_divergence,
)
from raydistill.stages.adapt.config import Alignment
from tests import zoo

TRAINING = WeightedTraining(steps=8, batch_size=6, lr=0.05, average=2, mixup=0.5, augmentation=Augmentation(("flip",)))


def cloud(num: int, features: int = 3, seed: int = 0, shift: float = 0.0) -> Tensor:
    return torch.randn(num, features, generator=generator(seed, "cloud"), dtype=torch.float64) + shift


# ---- Sinkhorn divergence ----


def test_divergence_of_equal_clouds_is_zero() -> None:
    x = cloud(20)
    assert float(sinkhorn_divergence(x, x.clone())) == pytest.approx(0, abs=1e-12)
    assert float(sinkhorn_divergence(x, x[torch.randperm(20)])) == pytest.approx(0, abs=1e-12)


def test_divergence_of_one_repeated_point_is_zero_and_has_a_gradient() -> None:
    x = torch.ones(4, 2, dtype=torch.float64, requires_grad=True)
    value = sinkhorn_divergence(x, torch.ones(3, 2, dtype=torch.float64))
    value.backward()
    assert value.item() == 0
    assert (x.grad == 0).all()


@pytest.mark.parametrize("blur", [0.01, 0.3])
def test_divergence_of_two_points_is_half_the_squared_distance(blur: float) -> None:
    x, y = torch.tensor([[1.0, 2.0]], dtype=torch.float64), torch.tensor([[4.0, 6.0]], dtype=torch.float64)
    assert float(sinkhorn_divergence(x, y, blur)) == pytest.approx(12.5, rel=1e-9)


def test_unbalanced_divergence_of_two_points_has_its_closed_form() -> None:
    """The optimal mass m minimises m c + (2 rho + epsilon) (m log m - m + 1)."""
    x, y = torch.tensor([[1.0, 2.0]], dtype=torch.float64), torch.tensor([[4.0, 6.0]], dtype=torch.float64)
    blur, reach = 0.05, 0.4
    scale = 2 * (reach * 5) ** 2 + (blur * 5) ** 2
    expected = scale * (1 - math.exp(-12.5 / scale))
    assert float(sinkhorn_divergence(x, y, blur, reach)) == pytest.approx(expected, rel=1e-4)


def test_divergence_with_little_blur_is_the_transport_cost_of_sorted_points() -> None:
    x, y = cloud(40, 1), cloud(40, 1, seed=1, shift=2.0)
    expected = ((x.sort(dim=0).values - y.sort(dim=0).values) ** 2 / 2).mean()
    assert float(sinkhorn_divergence(x, y, 0.005)) == pytest.approx(float(expected), rel=0.02)


def test_divergence_is_symmetric_and_positive() -> None:
    x, y = cloud(12), cloud(15, seed=1)
    value = float(sinkhorn_divergence(x, y))
    assert value > 0
    assert float(sinkhorn_divergence(y, x)) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize(("reach", "accuracy"), [(None, 0.01), (0.5, 0.1)])  # of geomloss without and with a reach
def test_gradient_agrees_with_finite_differences(
    reach: float | None, accuracy: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adaptation, "EPSILON_SCALING", 0.95)  # many iterations: the gradient is that at convergence
    # The first points span all others, so that perturbing the last three leaves blur and diameter.
    corner = torch.full((1, 3), 5.0, dtype=torch.float64)
    x = torch.cat([corner, -corner, cloud(6)]).requires_grad_()
    y = torch.cat([-corner, corner, cloud(6, seed=1, shift=0.5)])
    (gradient,) = torch.autograd.grad(sinkhorn_divergence(x, y, 0.2, reach), x)
    step = 1e-5
    for row in (5, 6, 7):
        for column in range(3):
            up, down = x.detach().clone(), x.detach().clone()
            up[row, column] += step
            down[row, column] -= step
            slope = (sinkhorn_divergence(up, y, 0.2, reach) - sinkhorn_divergence(down, y, 0.2, reach)) / (2 * step)
            assert float(gradient[row, column]) == pytest.approx(float(slope), rel=accuracy, abs=3e-3)


def test_relative_divergence_ignores_shift_and_scale_of_the_features() -> None:
    x, y = cloud(20).requires_grad_(), cloud(25, seed=1, shift=0.8).requires_grad_()
    value = relative_divergence(x, y)
    assert relative_divergence(0.01 * x + 3, 0.01 * y + 3).item() == pytest.approx(value.item(), rel=1e-6)
    gradients = torch.autograd.grad(value, (x, y))
    along_scale = sum(float((gradient * v).sum().detach()) for gradient, v in zip(gradients, (x, y), strict=True))
    assert along_scale == pytest.approx(0, abs=1e-3 * float(gradients[0].norm() * x.detach().norm()))


def test_relative_divergence_of_features_without_spread_is_finite() -> None:
    same = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
    assert relative_divergence(same, torch.ones(5, 3, dtype=torch.float64)).item() == 0


# ---- entropy separation ----


def test_entropy_is_that_of_scipy_and_zero_for_a_certain_prediction() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [800.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    np.testing.assert_allclose(entropy_of(logits.log_softmax(dim=1)), [math.log(4), 0], atol=1e-12)


def test_separation_is_the_distance_from_the_middle_outside_the_margin() -> None:
    uniform, certain = torch.zeros(1, 4, dtype=torch.float64), torch.tensor([[800.0, 0, 0, 0]], dtype=torch.float64)
    middle = math.log(4) / 2
    assert float(entropy_separation(uniform, 0.1)) == pytest.approx(-middle)
    assert float(entropy_separation(torch.cat([uniform, certain]), 0.1)) == pytest.approx(-middle)
    two = torch.tensor([[50.0, 50.0, 0, 0]], dtype=torch.float64)  # entropy log 2 = log(4) / 2
    assert float(entropy_separation(two, 0.1)) == 0
    assert float(entropy_separation(torch.cat([uniform, two]), 0.1)) == pytest.approx(-middle / 2)


def test_separation_pushes_entropies_away_from_the_middle() -> None:
    logits = torch.tensor([[3.0, 0.0, 0.0], [0.3, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(entropy_separation(logits, 0.1), logits)
    moved = logits - 0.1 * gradient
    before, after = (entropy_of(values.log_softmax(dim=1)) for values in (logits, moved))
    assert after[0] < before[0] < math.log(3) / 2 < before[1] < after[1]


# ---- training ----


@pytest.fixture(scope="module")
def network() -> Network:
    return build_network(zoo.NETWORKS["instance"], zoo.CLASSES, zoo.SIZE)


def stripes(num: int = 24) -> tuple[Tensor, Tensor]:
    images, labels = zoo.stripes(num)
    return images, one_hot(labels, zoo.CLASSES)


def fit(network: Network, alignment: Alignment, training: WeightedTraining = TRAINING, **changes: Any) -> FitState:
    images, targets = stripes()
    arguments = {"unlabelled_MCHW": images + 0.5, "training": training, "alignment": alignment, "seed": 3} | changes
    theta = initial_parameters(network, 0)
    return fit_aligned(network, theta, images, targets, torch.ones(len(images)), **arguments)


def test_strength_zero_is_the_training_without_a_target(network: Network) -> None:
    images, targets = stripes()
    (plain,) = fit_steps(network, initial_parameters(network, 0), images, targets, torch.ones(24), TRAINING, 3)
    state = fit(network, Alignment(strength=0))
    assert torch.equal(state.theta_P, plain.theta_P)
    assert torch.equal(state.average_P, plain.average_P)
    assert state.loss == pytest.approx(plain.loss)


@pytest.mark.parametrize(
    "alignment", [Alignment(warmup=0.5), Alignment(strength=0, entropy=1.0, margin=0.0, warmup=0.5)]
)
def test_alignment_starts_after_the_warmup(network: Network, alignment: Alignment) -> None:
    short = replace(TRAINING, steps=4)
    warm, cold = fit(network, replace(alignment, warmup=0.99), short), fit(network, Alignment(strength=0), short)
    assert torch.equal(warm.theta_P, cold.theta_P)
    assert not torch.equal(fit(network, alignment, short).theta_P, cold.theta_P)


def test_result_depends_on_seed_and_target(network: Network) -> None:
    first = fit(network, Alignment()).theta_P
    assert torch.equal(fit(network, Alignment()).theta_P, first)
    assert not torch.equal(fit(network, Alignment(), seed=4).theta_P, first)
    assert not torch.equal(fit(network, Alignment(), unlabelled_MCHW=stripes()[0] - 0.5).theta_P, first)


def test_divergence_of_the_training_is_an_error(network: Network) -> None:
    with pytest.raises(DivergenceError, match="lower the learning rate"):
        fit(network, Alignment(), replace(TRAINING, lr=1e30))


def test_network_without_a_last_linear_layer_is_an_error() -> None:
    bare = Network.of(lambda: torch.nn.Sequential(torch.nn.Conv2d(3, zoo.CLASSES, zoo.SIZE), torch.nn.Flatten()))
    with pytest.raises(ValueError, match="no last linear layer"):
        fit(bare, Alignment())


def test_alignment_closes_the_gap_to_a_shifted_survey() -> None:
    """Use two classes on a line, and a target with another offset.

    The classes differ in the first pixel. The offset is the same in all four.
    """
    g = generator(0, "shifted")
    labels = torch.arange(200) % 2
    source = torch.randn(200, 1, 2, 2, generator=g) * 0.3
    target = torch.randn(200, 1, 2, 2, generator=g) * 0.3
    for images in (source, target):
        images[:, 0, 0, 0] += 2.0 * labels
    target += 1.5
    network = build_network(MLP(width=16), 2, 2, 1)
    training = WeightedTraining(steps=300, batch_size=50, lr=0.02)
    theta, targets, even = initial_parameters(network, 1), one_hot(labels, 2), torch.ones(200)

    def accuracy(state: FitState, images: Tensor) -> float:
        return float((network(state.average_P, images).argmax(dim=1) == labels).float().mean())

    (plain,) = fit_steps(network, theta, source, targets, even, training, 0)
    aligned = fit_aligned(network, theta, source, targets, even, target, training, Alignment(), 0)
    assert accuracy(plain, source) > 0.98
    assert accuracy(aligned, source) > 0.97
    assert accuracy(aligned, target) > accuracy(plain, target) + 0.2
    distances = [
        float(relative_divergence(*(logits_and_features(network, state.average_P, x)[1] for x in (source, target))))
        for state in (plain, aligned)
    ]
    assert distances[1] < distances[0] / 4


@pytest.mark.parametrize(
    ("wrong", "name"),
    [({"strength": -1.0}, "strength"), ({"blur": 0.0}, "blur"), ({"reach": 0.0}, "reach"), ({"warmup": 1.0}, "warmup")],
)
def test_wrong_alignment_is_an_error_with_the_name(wrong: dict[str, float], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Alignment(**wrong)  # type: ignore[arg-type]
