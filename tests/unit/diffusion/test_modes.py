"""Pictures near modes: centres of clusters, and a pull that ends half-way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from raydistill.diffusion.modes import modes_of, near_modes
from raydistill.diffusion.options import Sampling
from raydistill.diffusion.sampling import sample
from raydistill.seeding import generator as seeded
from tests.unit.diffusion.test_model import MODELS, build, randomise
from tests.unit.diffusion.test_sampling import classes, noise


def pictures(count: int) -> Tensor:
    """Return pictures of two kinds, dark and bright, in turn."""
    level = torch.where(torch.arange(count) % 2 == 0, -0.5, 0.5)[:, None, None, None]
    return (level + 0.05 * torch.randn(count, 3, 8, 8, generator=seeded(0, "pictures"))).clamp(-1, 1)


@pytest.mark.parametrize("name", MODELS)
def test_without_a_pull_samples_are_those_of_the_generator(name: str) -> None:
    generator, sampling = randomise(build(name)), Sampling(steps=4)
    modes = modes_of(generator, pictures(8), 2, 0)
    drawn = near_modes(generator, classes(0, 1), noise(2), modes, sampling, weight=0.0)
    torch.testing.assert_close(drawn, sample(generator, classes(0, 1), noise(2), sampling))


@pytest.mark.parametrize("name", sorted(MODELS.keys() - {"image"}))  # untrained, it estimates the same from any state
def test_a_pull_brings_samples_nearer_to_their_modes(name: str) -> None:
    generator, sampling = randomise(build(name)), Sampling(steps=8)
    modes = modes_of(generator, pictures(8), 2, 0)
    wanted = generator.space.decode(modes)
    distances = [
        (near_modes(generator, classes(0, 0), noise(2), modes, sampling, weight) - wanted).square().mean()
        for weight in (0.0, 0.3, 0.9)
    ]
    assert distances[0] > distances[1] > distances[2]


def test_modes_are_the_centres_of_clusters() -> None:
    generator = build("flow")
    modes = modes_of(generator, pictures(20), 2, 0)
    dark, bright = generator.space.encode(pictures(20)).split([20, 0])[0].view(10, 2, 3, 8, 8).mean(dim=0)
    found = sorted(modes, key=lambda mode: float(mode.mean()))
    torch.testing.assert_close(torch.stack(found), torch.stack([dark, bright]), rtol=1e-4, atol=1e-4)
    assert torch.equal(modes, modes_of(generator, pictures(20), 2, 0))


def test_few_pictures_repeat_their_modes() -> None:
    generator = build("flow")
    assert len(modes_of(generator, pictures(2), 5, 0)) == 5
