"""The training loop equals torch.optim, and resumes bit for bit."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from raydistill.errors import DivergenceError
from raydistill.learning.augment import Augmentation
from raydistill.learning.networks import Network, build_network, initial_parameters
from raydistill.learning.normalise import one_hot
from raydistill.learning.options import Training
from raydistill.learning.sgd import FitState, init_state
from raydistill.learning.sharpness import SharpnessAware
from raydistill.learning.training import class_weights, evaluate, fit, predict, train
from tests import zoo


@pytest.fixture(scope="module")
def network() -> Network:
    return build_network(zoo.NETWORKS["instance"], zoo.CLASSES, zoo.SIZE)


def data(num: int = 24, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    images, labels = zoo.stripes(num)
    return images.to(dtype), one_hot(labels, zoo.CLASSES).to(dtype)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
@pytest.mark.parametrize("name", zoo.NETWORKS)
def test_fit_equals_sgd_of_torch(name: str, momentum: float, weight_decay: float) -> None:
    network = build_network(zoo.NETWORKS[name], zoo.CLASSES, zoo.SIZE)
    images, targets = data(dtype=torch.float64)
    theta = initial_parameters(network, 0).double()
    module = zoo.NETWORKS[name].module(zoo.CLASSES, zoo.SIZE).double()
    module.load_state_dict(network.layout.split(theta.clone()))
    sgd = torch.optim.SGD(module.parameters(), lr=0.05, momentum=momentum, weight_decay=weight_decay)
    # One batch an epoch: the order of the images does not matter but for rounding.
    training = Training(
        epochs=5, batch_size=99, lr=0.05, momentum=momentum, weight_decay=weight_decay, class_weights=False
    )
    for state in fit(network, init_state(theta), images, targets, training, seed=0):
        loss = nn.functional.cross_entropy(module(images), targets)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        expected = network.layout.flatten(dict(module.named_parameters())).detach()
        torch.testing.assert_close(state.theta_P, expected, rtol=1e-11, atol=1e-13)
        assert state.loss == pytest.approx(float(loss.detach()), rel=1e-12)


@pytest.mark.parametrize("sampling", ["shuffle", "balanced"])
@pytest.mark.parametrize("average", [0.0, 0.7])
@pytest.mark.parametrize("stop", [0, 1, 3])
def test_resuming_from_any_state_equals_the_uninterrupted_run_bit_for_bit(
    network: Network, sampling: Any, stop: int, average: float
) -> None:
    images, targets = data()
    training = Training(
        epochs=4, batch_size=7, momentum=0.9, weight_decay=0.01, sampling=sampling, average=average,
        augmentation=zoo.AUGMENTATIONS["DSA, all"],
    )  # fmt: skip
    start = init_state(initial_parameters(network, 0))
    whole = [start, *fit(network, start, images, targets, training, seed=3)]
    for resumed, expected in zip(
        fit(network, whole[stop], images, targets, training, seed=3), whole[stop + 1 :], strict=True
    ):
        assert resumed.done == expected.done
        assert resumed.loss == expected.loss
        assert torch.equal(resumed.theta_P, expected.theta_P)
        assert torch.equal(resumed.momentum_P, expected.momentum_P)
        assert torch.equal(resumed.average_P, expected.average_P)
        assert torch.equal(expected.average_P, expected.theta_P) == (average == 0)


def test_average_is_the_moving_average_of_the_parameters_over_the_steps(network: Network) -> None:
    """The newest parameters have weight 1/(1 + time constant) after the first steps.

    Each epoch has one step.
    """
    images, targets = data()
    start = init_state(initial_parameters(network, 0).double())
    training = Training(epochs=40, batch_size=len(images), class_weights=False, average=3.0)
    states = list(fit(network, start, images.double(), targets.double(), training, seed=0))
    expected = start.theta_P
    for state in states:
        share = max(1 / 4, 9 / (10 + state.done))  # 9/11 of the first step's; from the 26th on a quarter of the newest
        expected = (1 - share) * expected + share * state.theta_P
        torch.testing.assert_close(state.average_P, expected, rtol=1e-12, atol=1e-14)
    plain = list(fit(network, start, images.double(), targets.double(), replace(training, average=0), seed=0))
    assert torch.equal(plain[-1].theta_P, states[-1].theta_P)  # the average does not change SGD
    trained = train(network, start.theta_P, images.double(), targets.double(), training, seed=0)
    assert torch.equal(trained, states[-1].average_P)


def test_yielded_states_do_not_change(network: Network) -> None:
    images, targets = data()
    start = init_state(initial_parameters(network, 0))
    copies, states = [torch.stack(start[1:4])], [start]
    for state in fit(network, start, images, targets, Training(epochs=3, momentum=0.5, average=1.0), seed=0):
        states.append(state)
        copies.append(torch.stack(state[1:4]))
    assert all(torch.equal(torch.stack(state[1:4]), copy) for state, copy in zip(states, copies, strict=True))


def test_seed_changes_the_order(network: Network) -> None:
    images, targets = data()
    start = init_state(initial_parameters(network, 0))
    first, other = (
        next(fit(network, start, images, targets, Training(batch_size=5), seed=seed)).theta_P for seed in (0, 1)
    )
    assert not torch.equal(first, other)


def visits(labels: Tensor, training: Training, seed: int = 0) -> Tensor:
    """Return how often one epoch of a single batch uses each image.

    Image i is the i-th unit vector and the network is linear and starts at zero, so that one step
    moves column i of the weights by -lr count_i / batch (1/K - y_i): the counts can be read off.
    """
    n, k = len(labels), int(labels.max()) + 1
    linear = Network.of(lambda: nn.Sequential(nn.Flatten(), nn.Linear(n, k, bias=False)))
    images, targets = torch.eye(n, dtype=torch.float64).view(n, 1, 1, n), one_hot(labels, k).double()
    state = next(fit(linear, init_state(torch.zeros(n * k, dtype=torch.float64)), images, targets, training, seed))
    weight_KN = state.theta_P.view(k, n)
    counts = weight_KN[labels, torch.arange(n)] * n / (training.lr * (1 - 1 / k))
    assert (counts - counts.round()).abs().max() < 1e-9
    return counts.round().long()


LOPSIDED = torch.tensor([0] * 810 + [1] * 60 + [2] * 30)


def test_shuffle_shows_every_image_once() -> None:
    counts = visits(LOPSIDED, Training(batch_size=900, class_weights=False))
    assert (counts == 1).all()


def test_balanced_sampling_balances_the_classes() -> None:
    counts = visits(LOPSIDED, Training(batch_size=900, class_weights=False, sampling="balanced"))
    per_class = torch.zeros(3).index_add_(0, LOPSIDED, counts.float())
    assert per_class.sum() == 900
    sigma = math.sqrt(900 * (1 / 3) * (2 / 3))
    assert (per_class - 300).abs().max() < 4 * sigma


def test_epoch_has_batches_of_one_size() -> None:
    sizes = []

    class Counting(Network):
        def __call__(self, theta_P: Tensor, images_BCHW: Tensor) -> Tensor:
            sizes.append(len(images_BCHW))
            return super().__call__(theta_P, images_BCHW)

    images, targets = data(24)
    counting = Counting.of(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 3)))
    theta = torch.zeros(counting.layout.num_parameters)
    list(fit(counting, init_state(theta), images, targets, Training(epochs=2, batch_size=10), seed=0))
    assert sizes == [10, 10] * 2


@pytest.mark.parametrize(
    ("images", "batches"), [(5, [5]), (256, [256]), (500, [250, 250]), (1001, [250] * 4), (9, [9])]
)
def test_small_set_is_one_batch(images: int, batches: list[int]) -> None:
    training = Training(batch_size=256).with_even_batches(images)
    assert [training.batch_size] * training.steps_per_epoch(images) == batches


def test_class_weights_have_no_effect_with_balanced_sampling() -> None:
    network = build_network(zoo.NETWORKS["mlp"], zoo.CLASSES, zoo.SIZE)
    images, labels = zoo.stripes(12)
    keep = torch.tensor([0, 3, 6, 9, 1, 4, 2])
    ends = [
        train(network, initial_parameters(network, 0), images[keep], one_hot(labels[keep], zoo.CLASSES), training, 0)
        for weighted in (True, False)
        for training in [Training(epochs=2, sampling="balanced", class_weights=weighted)]
    ]
    assert torch.equal(*ends)


def test_class_weights_are_inverse_frequencies_with_mean_one() -> None:
    targets = one_hot(LOPSIDED, 3)
    weights = class_weights(targets)
    torch.testing.assert_close(weights, 900 / 3 / torch.tensor([810.0, 60.0, 30.0]))
    assert float(weights[LOPSIDED].mean()) == pytest.approx(1, rel=1e-6)


def test_class_weights_of_an_absent_class_are_zero_and_the_mean_stays_one() -> None:
    labels = torch.tensor([0, 0, 0, 2])
    weights = class_weights(one_hot(labels, 4))
    torch.testing.assert_close(weights, torch.tensor([2 / 3, 0, 2.0, 0]))
    assert float(weights[labels].mean()) == pytest.approx(1)


def test_class_weights_scale_the_loss() -> None:
    """In one full batch, class weights equal repeating the images of rare classes."""
    network = build_network(zoo.NETWORKS["mlp"], zoo.CLASSES, zoo.SIZE)
    images, labels = zoo.stripes(12)
    keep = torch.tensor([0, 3, 6, 9, 1, 4, 2])  # 4 of class 0, 2 of class 1, 1 of class 2
    repeated = torch.tensor([0, 3, 6, 9] + [1, 4] * 2 + [2] * 4)
    theta = initial_parameters(network, 0).double()

    def step(index: Tensor, weighted: bool) -> Tensor:
        targets = one_hot(labels[index], zoo.CLASSES).double()
        training = Training(epochs=1, class_weights=weighted)
        return next(fit(network, init_state(theta), images[index].double(), targets, training, 0)).theta_P

    torch.testing.assert_close(step(keep, True), step(repeated, False), rtol=1e-6, atol=1e-9)


def test_learning_rate_decays_to_a_tenth() -> None:
    training = Training(epochs=10, lr=0.5, lr_decay_at=0.5)
    assert [training.lr_in(epoch) for epoch in range(10)] == [0.5] * 5 + [0.05] * 5
    assert [Training(epochs=4).lr_in(epoch) for epoch in range(4)] == [0.01] * 4


def test_learned_rates_replace_the_configured_one(network: Network) -> None:
    images, targets = data()
    start = init_state(initial_parameters(network, 0))
    still = list(fit(network, start, images, targets, Training(epochs=2), 0, lr_in=lambda epoch: 0.0))
    assert torch.equal(still[-1].theta_P, start.theta_P)
    first = next(fit(network, start, images, targets, Training(epochs=2, lr=0.3), 0))
    given = next(fit(network, start, images, targets, Training(epochs=2), 0, lr_in=lambda epoch: 0.3))
    assert torch.equal(first.theta_P, given.theta_P)


def test_trained_network_predicts_the_classes(network: Network) -> None:
    images, labels = zoo.stripes(90)
    training = Training(epochs=8, batch_size=15, lr=0.05, augmentation=Augmentation(("dihedral",)))
    *_, last = fit(
        network, init_state(initial_parameters(network, 0)), images, one_hot(labels, zoo.CLASSES), training, 0
    )
    unseen, truth = zoo.stripes(60, seed=1)
    predicted = predict(network, last.theta_P, unseen, batch_size=7)
    assert (predicted == truth).float().mean() > 0.9
    assert torch.equal(predicted, predict(network, last.theta_P, unseen))


def test_evaluate_scores_the_predictions(network: Network) -> None:
    images, labels = zoo.stripes(40)
    theta = initial_parameters(network, 0)
    right = predict(network, theta, images) == labels
    result = evaluate(network, theta, images, labels, zoo.CLASSES)
    assert result.confusion_KK.sum(axis=1).tolist() == labels.bincount().tolist()
    assert result.accuracy == pytest.approx(float(right.float().mean()))
    of_class = [float(right[labels == k].float().mean()) for k in range(zoo.CLASSES)]
    assert result.balanced_accuracy == pytest.approx(sum(of_class) / zoo.CLASSES)


def test_predict_of_no_images_is_empty(network: Network) -> None:
    assert predict(network, initial_parameters(network, 0), torch.empty(0, 3, 8, 8)).shape == (0,)


def test_divergence_is_reported(network: Network) -> None:
    images, targets = data()
    start = init_state(initial_parameters(network, 0))
    with pytest.raises(DivergenceError, match=r"not finite in epoch 1; lower the learning rate \(now 1e\+30\)"):
        list(fit(network, start, 1e20 * images, targets, Training(lr=1e30, batch_size=6), seed=0))


@pytest.mark.parametrize("name", ["epochs", "batch_size", "lr"])
def test_numbers_that_must_be_positive(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be positive, got 0"):
        Training(**{name: 0})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1.0"),
        ({"momentum": -0.1}, r"momentum must lie in \[0, 1\), got -0.1"),
        ({"weight_decay": -5e-4}, "weight_decay must not be negative, got -0.0005"),
        ({"weight_decay": math.nan}, "weight_decay must not be negative, got nan"),
        ({"lr_decay_at": -0.5}, "lr_decay_at must not be negative, got -0.5"),
        ({"average": -1.0}, "average must not be negative, got -1.0"),
        ({"lr": math.inf}, "lr must be positive, got inf"),
    ],
)
def test_invalid_trainings_are_rejected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(Training(), **change)


def test_finished_state_yields_nothing(network: Network) -> None:
    images, targets = data()
    theta = initial_parameters(network, 0)
    done = FitState(3, theta, torch.zeros_like(theta), theta, 0.1)
    assert list(itertools.islice(fit(network, done, images, targets, Training(epochs=3), 0), 1)) == []


class TestFlat:
    """The quadratic student gives every term of the step a closed form.

    Its gradient is g(theta) = A (theta - optimum).
    """

    problem = zoo.quadratic()
    theta, image, target = zoo.normal(1, 6), zoo.normal(2, 1, 1, 2, 3), zoo.normal(3, 1, 6)

    def gradient(self, theta: Tensor) -> Tensor:
        return self.problem.A @ (theta - self.problem.optimum(self.image, self.target))

    def direction(self, flat: SharpnessAware) -> Tensor:
        gradient = torch.func.grad_and_value(self.problem.loss)
        direction, loss = flat.direction(gradient)(self.theta, self.image, self.target, {})
        assert loss == self.problem.loss(self.theta, self.image, self.target, {})
        return direction

    @pytest.mark.parametrize("rho", [1e-3, 0.5])
    def test_without_alpha_it_is_the_gradient_at_the_perturbed_point(self, rho: float) -> None:
        g = self.gradient(self.theta)
        expected = self.gradient(self.theta + rho * g / g.norm())
        assert zoo.relative(self.direction(SharpnessAware(rho=rho, alpha=0, adaptive=False)), expected) < 1e-10

    def test_adaptive_perturbation_scales_with_each_weight(self) -> None:
        g = self.gradient(self.theta)
        climb = 0.3 * self.theta**2 * g / (self.theta * g).norm()
        assert zoo.relative(self.direction(SharpnessAware(rho=0.3, alpha=0)), self.gradient(self.theta + climb)) < 1e-10

    def test_alpha_changes_only_the_component_orthogonal_to_the_perturbed_gradient(self) -> None:
        g = self.gradient(self.theta)
        there = self.direction(SharpnessAware(rho=0.4, alpha=0))
        across = self.direction(SharpnessAware(rho=0.4, alpha=0.7)) - there
        assert abs(float(across @ there)) < 1e-10 * float(there @ there)
        assert zoo.relative(across, -0.7 * (g - (g @ there) / (there @ there) * there)) < 1e-10

    def test_zero_gradient_stays_zero(self) -> None:
        def zero_gradient(theta: Tensor) -> tuple[Tensor, Tensor]:
            return torch.zeros_like(theta), torch.zeros(())

        assert SharpnessAware().direction(zero_gradient)(self.theta)[0].count_nonzero() == 0


def test_sharpness_aware_training_resumes_and_differs_from_sgd(network: Network) -> None:
    images, targets = data()
    training = Training(epochs=3, batch_size=8, lr=0.05, flat=SharpnessAware(rho=0.1))
    start = init_state(initial_parameters(network, 0))
    states = list(fit(network, start, images, targets, training, seed=1))
    resumed = list(fit(network, states[0], images, targets, training, seed=1))
    assert torch.equal(resumed[-1].theta_P, states[-1].theta_P)
    plain = list(fit(network, start, images, targets, replace(training, flat=None), seed=1))
    assert not torch.equal(plain[-1].theta_P, states[-1].theta_P)
