"""Samples: shape, range, guidance and equal noise; a generator learns its classes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from raydistill.diffusion.conditions import Conditions
from raydistill.diffusion.model import build_generator, to_tensors
from raydistill.diffusion.network_options import Mlp
from raydistill.diffusion.options import ComponentSpace, GeneratorTraining, Model, Sampling
from raydistill.diffusion.sampling import Guided, sample
from raydistill.diffusion.training import TrainingImages, init_training, train
from raydistill.seeding import generator as seeded
from tests.unit.diffusion.test_model import LAYOUT, MODELS, build, pixels, randomise, states


def noise(n: int) -> Tensor:
    return torch.randn(n, 3, 8, 8, generator=seeded(0, "noise"))


def classes(*numbers: int) -> Conditions:
    return Conditions.of(LAYOUT, len(numbers), **{"class": torch.eye(2)[list(numbers)]})


@pytest.mark.parametrize("name", MODELS)
def test_samples_are_images_and_a_function_of_the_noise(name: str) -> None:
    generator = randomise(build(name))
    images = sample(generator, classes(0, 1, 1), noise(3), Sampling(steps=3))
    assert (images.shape, images.dtype) == ((3, 3, 8, 8), torch.float32)
    assert float(images.abs().max()) <= 1
    assert torch.equal(images, sample(generator, classes(0, 1, 1), noise(3), Sampling(steps=3)))
    assert not torch.allclose(images, sample(generator, classes(0, 1, 1), -noise(3), Sampling(steps=3)))


def test_guidance_extrapolates_from_the_unconditional_estimate() -> None:
    generator = randomise(build("components"))
    x, t, conditions = states(generator, 2), torch.full((2,), 0.6), classes(0, 1)
    with torch.no_grad():
        conditional = generator.denoise(x, t, conditions)
        unconditional = generator.denoise(x, t, conditions.nothing_known())
        torch.testing.assert_close(Guided(generator, conditions, 1)(x, t), conditional)
        torch.testing.assert_close(Guided(generator, conditions, 0)(x, t), unconditional)
        expected = unconditional + 3 * (conditional - unconditional)
        torch.testing.assert_close(Guided(generator, conditions, 3)(x, t), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("guidance", "known", "rows"), [(1.0, True, 2), (2.0, True, 4), (2.0, False, 2)])
def test_network_sees_the_unconditional_images_only_where_guidance_needs_them(
    guidance: float, known: bool, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator, seen = build("components"), []
    forward = generator.denoise

    def counted(x: Tensor, *rest: Any) -> Tensor:
        seen.append(len(x))
        return forward(x, *rest)

    monkeypatch.setattr(generator, "denoise", counted)
    conditions = classes(0, 1) if known else Conditions.unknown(2, LAYOUT)
    sample(generator, conditions, noise(2), Sampling(steps=2, guidance=guidance))
    assert seen == [rows] * 2


def test_estimates_of_pixels_are_clipped_to_possible_images() -> None:
    generator = randomise(build("flow"))
    with torch.no_grad():
        estimate = Guided(generator, classes(0, 1), 50)(20 * states(generator, 2), torch.full((2,), 0.9))
    assert float(generator.space.decode(estimate).abs().max()) <= 1 + 1e-5


def test_wrong_noise_and_settings_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"shape \[2, 3, 8, 8\], got \[3, 3, 8, 8\]"):
        sample(build("components"), classes(0, 1), noise(3))
    with pytest.raises(ValueError, match="order must be 1 or 2, got 3"):
        Sampling(order=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="steps must be at least 1"):
        Sampling(steps=0)


def test_trained_generator_follows_its_condition() -> None:
    """Samples of a dark class 0 and a bright class 1 have the right mean and spread."""
    labels = torch.arange(256) % 2
    means = torch.tensor([60.0, 180.0])[labels]
    level = means + 15 * torch.randn(256, generator=seeded(0, "level"))
    grain = 2 * torch.randn(256, 8, 8, 3, generator=seeded(0, "grain"))
    pixels = (level.view(-1, 1, 1, 1) + grain).round().clamp(0, 255).to(torch.uint8)
    data = TrainingImages(pixels, Conditions.of(LAYOUT, 256, **{"class": torch.eye(2)[labels]}))
    model = Model(Mlp(width=64, blocks=2), space=ComponentSpace(components=4))
    training = GeneratorTraining(steps=300, batch_size=64, shards=1, lr=5e-3, warmup=20)
    state = init_training(build_generator(model, LAYOUT, 8, 0, pixels), training)
    *_, _ = train(state, data, training, 0)
    requested = torch.arange(400) % 2
    images = sample(state.averaged(), classes(*requested.tolist()), noise(400), Sampling(guidance=1))
    levels = ((images + 1) * 127.5).mean(dim=(1, 2, 3))
    for label, mean in enumerate((60, 180)):
        assert float(levels[requested == label].mean()) == pytest.approx(mean, abs=8)
        assert float(levels[requested == label].std()) == pytest.approx(15, rel=0.35)


@pytest.mark.parametrize("name", ["flow", "edm", "v"])
def test_little_strength_keeps_the_image_from_which_sampling_starts(name: str) -> None:
    generator, images = build(name), to_tensors(pixels(3))
    near = sample(generator, classes(0, 1, 1), noise(3), Sampling(steps=2), images, strength=1e-3)
    torch.testing.assert_close(near, images, rtol=0, atol=0.02)
    half, full = (sample(generator, classes(0, 1, 1), noise(3), Sampling(steps=2), images, s) for s in (0.5, 1.0))
    assert float((half - images).square().mean()) < float((full - images).square().mean())


def test_wrong_starts_are_rejected() -> None:
    generator, images = build("flow"), to_tensors(pixels(2))
    with pytest.raises(ValueError, match=r"start must have the shape \[1, 3, 8, 8\], got \[2, 3, 8, 8\]"):
        sample(generator, classes(0), noise(1), Sampling(steps=1), images)
    with pytest.raises(ValueError, match="needs images to start from"):
        sample(generator, classes(0), noise(1), Sampling(steps=1), strength=0.5)
