"""Training by steps equals torch.optim on the drawn images.

Its losses equal their published formulas.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

from raydistill.errors import DivergenceError
from raydistill.learning.augment import Augmentation
from raydistill.learning.networks import Network, build_network, initial_parameters
from raydistill.learning.normalise import one_hot
from raydistill.learning.options import WeightedTraining
from raydistill.learning.sgd import FitState
from raydistill.learning.training import predict
from raydistill.learning.weighted_training import (
    Mixing,
    _cut,
    class_weights,
    drawing_probabilities,
    fit_steps,
    sample_cutting,
    sample_mixing,
    step_loss,
)
from tests import zoo

PLAIN = WeightedTraining(steps=6, batch_size=5, lr=0.05, momentum=0.0, weight_decay=0.0)


@pytest.fixture(scope="module")
def network() -> Network:
    return build_network(zoo.NETWORKS["instance"], zoo.CLASSES, zoo.SIZE)


@pytest.fixture(scope="module")
def scores() -> Network:
    """Return a network whose logits are its parameters plus the image's first pixels."""

    class Shift(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shift = nn.Parameter(torch.zeros(zoo.CLASSES))

        def forward(self, images_BCHW: Tensor) -> Tensor:
            return images_BCHW.flatten(1)[:, : zoo.CLASSES] + self.shift

    return Network.of(Shift)


def data(num: int = 24) -> tuple[Tensor, Tensor]:
    images, labels = zoo.stripes(num)
    return images.double(), one_hot(labels, zoo.CLASSES).double()


def run(network: Network, training: WeightedTraining, seed: int = 0, **kwargs: Any) -> list[FitState]:
    images, targets = data()
    theta = initial_parameters(network, 0).double()
    return list(fit_steps(network, theta, images, targets, torch.ones(24), training, seed, **kwargs))


def loss_of(scores: Network, logits_BK: Tensor, targets_BK: Tensor, focal: float = 0.0, mixing: Any = None) -> Tensor:
    loss = step_loss(scores, Augmentation(), focal)
    theta = torch.zeros(zoo.CLASSES, dtype=torch.float64)
    return loss(theta, logits_BK[:, :, None, None], targets_BK, {}, mixing)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("name", zoo.NETWORKS)
def test_steps_equal_sgd_of_torch(name: str, momentum: float) -> None:
    """With one image to draw, every batch repeats it."""
    architecture = zoo.NETWORKS[name]
    network = build_network(architecture, zoo.CLASSES, zoo.SIZE)
    images, targets = data()
    theta = initial_parameters(network, 0).double()
    module = architecture.module(zoo.CLASSES, zoo.SIZE).double()
    module.load_state_dict(network.layout.split(theta.clone()))
    sgd = torch.optim.SGD(module.parameters(), lr=0.05, momentum=momentum, weight_decay=0.01)
    training = replace(PLAIN, momentum=momentum, weight_decay=0.01)
    only_7 = torch.zeros(24).index_fill(0, torch.tensor([7]), 3.0)
    for state in fit_steps(network, theta, images, targets, only_7, training, 0, range(1, 7)):
        loss = F.cross_entropy(module(images[[7] * 5]), targets[[7] * 5])
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        expected = network.layout.flatten(dict(module.named_parameters())).detach()
        torch.testing.assert_close(state.theta_P, expected, rtol=1e-11, atol=1e-13)
        assert state.loss == pytest.approx(float(loss.detach()), rel=1e-12)


def test_recorded_steps_do_not_change_the_result(network: Network) -> None:
    states = run(network, replace(PLAIN, mixup=0.3, momentum=0.9), record_at=[2, 4, 99])
    assert [state.done for state in states] == [2, 4, 6]
    (last,) = run(network, replace(PLAIN, mixup=0.3, momentum=0.9))
    assert torch.equal(states[-1].theta_P, last.theta_P)


def test_first_steps_do_not_depend_on_the_number_of_steps(network: Network) -> None:
    training = replace(PLAIN, mixup=0.3, average=3.0, augmentation=zoo.AUGMENTATIONS["DSA, all"])
    long, _ = run(network, replace(training, steps=40), record_at=[6])
    (short,) = run(network, training)
    assert torch.equal(long.average_P, short.average_P)


def test_seed_alone_decides_the_result(network: Network) -> None:
    torch.manual_seed(1)
    (result,) = run(network, PLAIN, seed=3)
    torch.manual_seed(2)
    assert torch.equal(run(network, PLAIN, seed=3)[0].theta_P, result.theta_P)
    assert not torch.equal(run(network, PLAIN, seed=4)[0].theta_P, result.theta_P)


def test_average_is_the_moving_average_over_the_steps(network: Network) -> None:
    training = replace(PLAIN, steps=40, average=4.0)
    states = run(network, training, record_at=range(41))
    expected = initial_parameters(network, 0).double()
    for state in states:
        share = max(1 / 5, 9 / (10 + state.done))
        expected = (1 - share) * expected + share * state.theta_P
        torch.testing.assert_close(state.average_P, expected, rtol=1e-12, atol=1e-14)
    assert torch.equal(run(network, replace(training, average=0.0))[0].average_P, states[-1].theta_P)


def draws(probabilities_N: Tensor, count: int) -> Tensor:
    """Return how often each image was drawn.

    Image i is the i-th unit vector, and one step moves column i of the weights by a multiple of its
    number of draws.
    """
    n = len(probabilities_N)
    linear = Network.of(lambda: nn.Sequential(nn.Flatten(), nn.Linear(n, 2, bias=False)))
    images, targets = torch.eye(n).double().view(n, 1, 1, n), one_hot(torch.zeros(n, dtype=torch.long), 2).double()
    theta = torch.zeros(2 * n, dtype=torch.float64)
    training = WeightedTraining(steps=1, batch_size=count, lr=1.0, momentum=0.0, weight_decay=0.0)
    (state,) = fit_steps(linear, theta, images, targets, probabilities_N, training, 0)
    counts = state.theta_P.view(2, n)[0] * count * 2
    assert (counts - counts.round()).abs().max() < 1e-6
    return counts.round()


def test_images_are_drawn_with_their_probabilities() -> None:
    probabilities = torch.tensor([0.0, 3.0, 0.0, 1.0, 6.0, 0.0])
    counts = draws(probabilities, 6000)
    assert counts.sum() == 6000
    assert counts[probabilities == 0].sum() == 0
    expected = 6000 * probabilities[probabilities > 0] / 10
    assert stats.chisquare(counts[probabilities > 0].numpy(), expected.numpy()).pvalue > 1e-3


def test_balanced_probabilities_draw_all_classes_equally() -> None:
    labels = torch.tensor([0] * 90 + [2] * 6 + [3] * 4)
    probabilities = drawing_probabilities(labels)
    assert float(probabilities.sum()) == pytest.approx(1, rel=1e-12)
    for label in (0, 2, 3):
        assert float(probabilities[labels == label].sum()) == pytest.approx(1 / 3, rel=1e-12)


@pytest.mark.parametrize("wrong", [[1.0, -1.0], [0.0, 0.0], [1.0, math.nan], [1.0, math.inf]])
def test_wrong_probabilities_are_rejected(network: Network, wrong: list[float]) -> None:
    images, targets = data(2)
    with pytest.raises(ValueError, match="drawing probabilities must not be negative"):
        next(fit_steps(network, torch.zeros(1), images, targets, torch.tensor(wrong), PLAIN, 0))


def test_divergence_names_the_step_and_the_learning_rate(network: Network) -> None:
    with pytest.raises(DivergenceError, match=r"not finite in step 6.*lower the learning rate \(now 1e\+150\)"):
        run(network, replace(PLAIN, lr=1e150))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_of_two_classes_equals_the_sigmoid_formula_of_its_paper(scores: Network, gamma: float) -> None:
    z = 3 * zoo.normal(1, 40)
    logits = torch.stack([z, torch.zeros(40).double(), torch.full((40,), -math.inf).double()], dim=1).clamp_min(-800)
    positive = (torch.arange(40) % 2).double()
    p = z.sigmoid()
    p_t = positive * p + (1 - positive) * (1 - p)
    per_image = F.binary_cross_entropy_with_logits(z, positive, reduction="none")
    expected = ((1 - p_t) ** gamma * per_image).mean()
    targets = torch.stack([positive, 1 - positive, torch.zeros(40).double()], dim=1)
    torch.testing.assert_close(loss_of(scores, logits, targets, gamma), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_gradient_of_the_focal_loss_is_finite_where_the_network_is_certain(scores: Network, gamma: float) -> None:
    loss = step_loss(scores, Augmentation(), gamma)
    theta = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    certain = torch.tensor([[900.0, 0.0, 0.0]]).double()[:, :, None, None]
    for target in ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]):
        (gradient,) = torch.autograd.grad(loss(theta, certain, torch.tensor([target]).double(), {}, None), theta)
        assert gradient.isfinite().all()


def test_cross_entropy_equals_that_of_torch(scores: Network) -> None:
    logits, targets = zoo.normal(2, 9, 3), zoo.normal(3, 9, 3).softmax(dim=1)
    torch.testing.assert_close(loss_of(scores, logits, targets), F.cross_entropy(logits, targets), rtol=1e-12, atol=0)


def test_class_weights_are_the_inverse_of_the_effective_number() -> None:
    """E_n = 1 + beta + ... + beta^(n-1), Proposition 1 of Cui et al. 2019."""
    counts, beta = [1, 3, 40], 0.9
    targets = one_hot(torch.tensor([0] * 1 + [1] * 3 + [2] * 40), 4)
    inverse = [1 / sum(beta**power for power in range(n)) for n in counts]
    expected = torch.tensor([*(value * 3 / sum(inverse) for value in inverse), 0.0], dtype=torch.float64)
    torch.testing.assert_close(class_weights(targets, beta), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("beta", "expected"), [(0.0, [1.0, 1.0, 1.0]), (1 - 1e-9, [1.5, 1.0, 0.5])])
def test_class_weights_lie_between_equal_ones_and_inverse_frequencies(beta: float, expected: list[float]) -> None:
    targets = one_hot(torch.tensor([0] * 2 + [1] * 3 + [2] * 6), 3)
    torch.testing.assert_close(class_weights(targets, beta), torch.tensor(expected).double(), rtol=1e-6, atol=0)


def test_class_balanced_step_equals_the_weighted_loss_of_torch(network: Network) -> None:
    images, targets = data(5)
    targets = one_hot(torch.tensor([0, 0, 0, 1, 2]), 3).double()
    theta = initial_parameters(network, 0).double().requires_grad_()
    weights = class_weights(targets, 0.9)
    only_3 = torch.tensor([0.0, 0, 0, 1, 0])
    loss = F.cross_entropy(network(theta, images[[3]]), torch.tensor([1]), weight=weights, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, theta)
    training = replace(PLAIN, steps=1, class_balance=0.9)
    (state,) = fit_steps(network, theta.detach(), images, targets, only_3, training, 0)
    torch.testing.assert_close(state.theta_P, theta.detach() - 0.05 * gradient, rtol=1e-11, atol=1e-13)


def test_mixup_mixes_images_and_targets_with_the_same_weight(scores: Network) -> None:
    logits, targets = zoo.normal(2, 6, 3), one_hot(torch.arange(6) % 3, 3).double()
    mixing = Mixing(torch.tensor([3, 2, 0, 5, 4, 1]), torch.tensor([0.7, 0.2, 1.0, 0.0, 0.5, 0.9]).double())
    share = mixing.share_B[:, None]
    mixed = share * logits + (1 - share) * logits[mixing.partner_B]
    per_image = [F.cross_entropy(mixed, targets[index], reduction="none") for index in (range(6), mixing.partner_B)]
    expected = (mixing.share_B * per_image[0] + (1 - mixing.share_B) * per_image[1]).mean()
    torch.testing.assert_close(loss_of(scores, logits, targets, mixing=mixing), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_weights_of_mixup_follow_the_beta_distribution(alpha: float) -> None:
    g = torch.Generator().manual_seed(0)
    drawn = [sample_mixing(g, 4, alpha) for _ in range(500)]
    assert all(sorted(mixing.partner_B.tolist()) == [0, 1, 2, 3] for mixing in drawn)
    assert all(len(set(mixing.share_B.tolist())) == 1 for mixing in drawn)
    shares = [float(mixing.share_B[0]) for mixing in drawn]
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_cutmix_takes_a_rectangle_and_as_much_of_the_label() -> None:
    g = torch.Generator().manual_seed(0)
    images = torch.arange(4.0)[:, None, None, None].expand(4, 3, 16, 16)
    shares = []
    for _ in range(400):
        mixing = sample_cutting(g, 4, 1.0, 16)
        cut = _cut(images, mixing)
        replaced = (cut != images).double().mean(dim=(1, 2, 3))
        for index, partner in enumerate(mixing.partner_B.tolist()):
            assert set(cut[index].unique().tolist()) <= {float(index), float(partner)}
            if partner != index:
                assert float(replaced[index]) == pytest.approx(1 - float(mixing.share_B[index]), abs=1e-6)
        rows = (cut != images).any(dim=1)[int(replaced.argmax())]
        assert int(rows.sum()) == int(rows.any(1).sum() * rows.any(0).sum())  # a rectangle
        shares.append(float(mixing.share_B[0]))
    assert np.mean(shares) > 0.5  # a rectangle at the edge is smaller than drawn
    with pytest.raises(ValueError, match="not both"):
        WeightedTraining(mixup=0.2, cutmix=1.0)


@pytest.mark.parametrize(
    "change",
    [{"steps": 0}, {"lr": math.nan}, {"focal": -1.0}, {"class_balance": 1.0}, {"mixup": -0.1}, {"average": math.inf}],
)
def test_wrong_hyperparameters_are_rejected(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(change))} must"):
        WeightedTraining(**change)


def test_learning_rate_decays_to_a_tenth() -> None:
    training = WeightedTraining(steps=10, lr=0.5, lr_decay_at=0.5)
    assert [training.lr_at(step) for step in range(10)] == [0.5] * 5 + [0.05] * 5
    assert [WeightedTraining(steps=3).lr_at(step) for step in range(3)] == [0.01] * 3


@pytest.mark.parametrize(
    "change",
    [{}, {"focal": 2.0}, {"class_balance": 0.99}, {"mixup": 0.2}, {"cutmix": 1.0}],
    ids=["plain", "focal", "balance", "mixup", "cutmix"],
)
def test_trained_network_predicts_the_classes(network: Network, change: dict[str, float]) -> None:
    images, labels = zoo.stripes(90)
    training = WeightedTraining(steps=50, batch_size=15, lr=0.05, augmentation=Augmentation(("dihedral",)))
    training = replace(training, **change)  # type: ignore[arg-type]
    theta = initial_parameters(network, 0)
    targets, probabilities = one_hot(labels, zoo.CLASSES), drawing_probabilities(labels)
    *_, last = fit_steps(network, theta, images, targets, probabilities, training, 0)
    unseen, truth = zoo.stripes(60, seed=1)
    assert (predict(network, last.average_P, unseen) == truth).float().mean() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        pytest.param({}, id="plain", marks=pytest.mark.long),
        pytest.param({"focal": 2.0, "mixup": 0.5}, id="focal and mixup"),
        pytest.param({"cutmix": 1.0}, id="cutmix", marks=pytest.mark.long),
    ],
)
def test_compiled_steps_equal_the_eager_ones(network: Network, change: dict[str, float]) -> None:
    training = replace(PLAIN, augmentation=Augmentation(("dihedral", "color")), **change)  # type: ignore[arg-type]
    (eager,), (fast,) = (run(network, replace(training, compile=compile)) for compile in (False, True))
    torch.testing.assert_close(fast.theta_P, eager.theta_P, rtol=1e-11, atol=1e-13)
