"""Noised states as the space of synthetic images: round trips and exact gradients."""

from __future__ import annotations

import pytest
import torch

from raydistill.diffusion.conditions import Conditions
from raydistill.diffusion.noised import Noised
from raydistill.diffusion.options import Sampling
from raydistill.diffusion.sampling import sample, sampling_grid
from raydistill.distillation.space import gradient
from raydistill.learning.normalise import Normalisation
from raydistill.seeding import generator as seeded
from tests.unit.diffusion.test_model import LAYOUT, MODELS, build, randomise

NORMALISATION = Normalisation((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
CLASSES = Conditions.of(LAYOUT, 2, **{"class": torch.eye(2)})


def space(name: str, strength: float, steps: int = 3) -> Noised:
    generator = randomise(build(name)).double().requires_grad_(False)
    values = CLASSES.values_BV.double()
    conditions = Conditions(values, CLASSES.known_BV)
    return Noised(generator, conditions, NORMALISATION, steps, strength, seed=0)


def images() -> torch.Tensor:
    pixels = torch.rand(2, 3, 8, 8, generator=seeded(0, "pixels")).double() * 0.8 + 0.1
    mean, std = (torch.tensor(values).double()[:, None, None] for values in NORMALISATION)
    return (pixels - mean) / std


@pytest.mark.parametrize("name", MODELS)
def test_gradient_of_decoding_is_that_of_finite_differences(name: str) -> None:
    noised = space(name, 0.6)
    stored = noised.encode(images())
    upstream, along = (torch.randn(shape, generator=seeded(1, n), dtype=torch.float64)
                       for n, shape in enumerate((images().shape, stored.shape)))  # fmt: skip
    exact = (gradient(noised, stored, upstream) * along).sum()
    ends = [(noised.decode(stored + step * along) * upstream).sum() for step in (1e-6, -1e-6)]
    torch.testing.assert_close(exact, (ends[0] - ends[1]) / 2e-6, rtol=1e-4, atol=1e-6)


def test_images_come_back_with_little_noise_and_are_drawn_anew_with_much() -> None:
    near, far = ((space("flow", strength).decode(space("flow", strength).encode(images())) - images()).abs().mean()
                 for strength in (0.002, 1.0))  # fmt: skip
    assert near < 0.05 < 0.3 < far


def test_strength_1_decodes_what_the_generator_samples() -> None:
    noised = space("components", 1.0)
    noise = torch.randn(2, 3, 8, 8, generator=seeded(3)).double()
    state = noised.generator.space.encode_noise(noise)
    expected = sample(noised.generator, noised.conditions, noise, Sampling(steps=3, order=1, guidance=1.0, shift=1.0))
    mean, std = (torch.tensor(values).double()[:, None, None] for values in NORMALISATION)
    u = sampling_grid(noised.generator.process, 3, 1.0)[0][0]
    torch.testing.assert_close(noised.decode(state * u) * std + mean, (expected.double() + 1) / 2)


def test_values_stay_in_the_range_of_pictures() -> None:
    noised = space("components", 0.9)
    mean, std = (torch.tensor(values).double()[:, None, None] for values in NORMALISATION)
    pixels = noised.decode(20 * noised.encode(images())) * std + mean
    assert -1e-6 <= float(pixels.min()) <= float(pixels.max()) <= 1 + 1e-6
