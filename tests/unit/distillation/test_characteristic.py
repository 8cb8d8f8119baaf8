"""Match characteristic functions, against known functions and a known optimum."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from raydistill.distillation.characteristic import characteristic_distance, characteristic_matching, sampler
from raydistill.distillation.options import CharacteristicMatching
from raydistill.learning.augment import Augmentation
from raydistill.learning.networks import build_network, initial_parameters
from tests import zoo

PLAIN = Augmentation(shared=True)
NETWORK = build_network(zoo.NETWORKS["instance"], zoo.CLASSES, zoo.SIZE)
IMAGES, LABELS = zoo.stripes(30)
RECIPE = CharacteristicMatching(
    iterations=3, batch_size=8, num_frequencies=32, training_epochs=1, num_networks=2, lr=0.05
)


def test_half_of_each_is_the_distance_of_the_complex_numbers() -> None:
    real, synthetic, t = zoo.normal(0, 9, 4), zoo.normal(1, 5, 4), zoo.normal(2, 50, 4)
    phi, phi_own = ((1j * (features @ t.T)).exp().mean(dim=0) for features in (real, synthetic))
    expected = (0.5 * (phi - phi_own).abs().square()).sqrt().mean()
    assert characteristic_distance(real, synthetic, t, 0.5) == pytest.approx(float(expected), rel=1e-6)


def test_amplitude_does_not_see_a_shift_and_phase_does() -> None:
    real, t = zoo.normal(0, 2000, 3), zoo.normal(2, 50, 3)
    shifted = real + 0.7
    assert characteristic_distance(real, shifted, t, 1.0) < 2e-6  # the root of the smallest C
    assert characteristic_distance(real, shifted, t, 0.0) > 0.1
    assert characteristic_distance(real, real, t, 0.3) < 2e-6


def test_normal_features_have_the_known_characteristic_function() -> None:
    """Expect |Phi(t)| = exp(-|t|^2 s^2 / 2) for a deviation of s.

    Amplitudes therefore tell two deviations apart.
    """
    t = torch.tensor([[0.5, 0.0], [1.0, 1.0]], dtype=torch.float64)
    wide, narrow = 2 * zoo.normal(3, 200_000, 2), zoo.normal(4, 200_000, 2)
    expected = [(torch.exp(-t.square().sum(1) * s * s / 2)) for s in (2, 1)]
    difference = float((expected[0] - expected[1]).abs().mean())
    assert characteristic_distance(wide, narrow, t, 1.0) == pytest.approx(difference, abs=0.005)


def test_gradient_is_finite_where_both_sets_are_equal() -> None:
    real, t = zoo.normal(0, 9, 4), zoo.normal(2, 50, 4)
    gradient = torch.func.grad(lambda value: characteristic_distance(real, value, t, 0.5))(real.clone())
    assert gradient.isfinite().all()


def matched(recipe: CharacteristicMatching, ipc: int = 2, seed: int = 0) -> list[tuple[int, float, torch.Tensor]]:
    run = characteristic_matching(recipe, PLAIN, NETWORK, IMAGES, LABELS, [ipc] * zoo.CLASSES, seed)
    return [(iteration, loss, images.clone()) for iteration, loss, images in run]


def test_loss_falls_and_the_result_depends_on_the_seed_alone() -> None:
    long = matched(replace(RECIPE, iterations=60, frequency_lr=0.0))
    assert [iteration for iteration, _, _ in long] == list(range(1, 61))
    losses = [loss for _, loss, _ in long]
    assert sum(losses[-15:]) < 0.9 * sum(losses[:15])
    first, again, other = matched(RECIPE)[-1][2], matched(RECIPE)[-1][2], matched(RECIPE, seed=1)[-1][2]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_frequencies_are_learned_unless_their_rate_is_zero() -> None:
    learned, normal = matched(RECIPE)[-1][1], matched(replace(RECIPE, frequency_lr=0.0))[-1][1]
    assert learned != normal
    s = sampler(6)
    t = s(initial_parameters(s, 0), torch.randn(7, 6))
    assert t.shape == (7, 6)
    assert t.abs().max() < 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"amplitude": 1.5}, "amplitude must lie in"),
        ({"frequency_lr": -1.0}, "frequency_lr must not be negative"),
        ({"num_frequencies": 0}, "num_frequencies must be positive"),
    ],
)
def test_bad_options_are_rejected(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CharacteristicMatching(**values)
