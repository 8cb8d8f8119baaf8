"""Stable Diffusion behind the generator interface, with tiny random weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from raydistill.diffusion.conditions import ConditionGroup, ConditionLayout, Conditions
from raydistill.diffusion.losses import loss_per_image
from raydistill.diffusion.model import Generator, build_generator, to_tensors
from raydistill.diffusion.network_options import StableDiffusion, UNet
from raydistill.diffusion.options import GeneratorTraining, LatentSpace, Model, Sampling
from raydistill.diffusion.processes import StableDiffusionProcess
from raydistill.diffusion.sampling import sample
from raydistill.diffusion.training import TrainingImages, init_training, shard_gradient, train
from raydistill.errors import ConfigError
from raydistill.seeding import generator as seeded
from tests.unit.diffusion.tiny_stable_diffusion import LAYOUT, SIZE, classes, pixels, tiny_generator, tiny_model

TRAINING = GeneratorTraining(
    steps=8, batch_size=4, shards=2, lr=0.02, warmup=0, decay=0.0, weight_decay=0.0, ema_power=0.5, symmetries="none"
)


def noise(count: int) -> Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=seeded(0, "noise"))


def copies(count: int = 4) -> TrainingImages:
    """Return one picture several times."""
    return TrainingImages(pixels(1).expand(count, -1, -1, -1), classes(*[1] * count))


def test_images_become_latents_and_come_back(checkpoint: Path) -> None:
    space = tiny_generator(checkpoint).space
    images = to_tensors(pixels(10))  # more than the autoencoder takes at once
    latents = space.encode(images)
    assert latents.shape == (10, 4, 8, 8)
    assert space.decode(latents).shape == images.shape
    torch.testing.assert_close(space.encode(images[8:]), latents[8:], rtol=1e-4, atol=1e-6)
    assert torch.equal(space.encode(images), latents)


def test_latents_are_those_of_diffusers(checkpoint: Path) -> None:
    network = StableDiffusion(path=str(checkpoint))
    vae, images = network.pretrained.vae(), to_tensors(pixels(2))
    space = network.latents((3, SIZE, SIZE))
    with torch.no_grad():
        mean = vae.encode(images).latent_dist.mean
        torch.testing.assert_close(space.encode(images), 0.18215 * mean)
        torch.testing.assert_close(space.decode(0.18215 * mean), vae.decode(mean).sample)


def test_noise_of_latents_is_part_of_the_noise_of_the_pixels(checkpoint: Path) -> None:
    space = tiny_generator(checkpoint).space
    numbers = torch.arange(2 * 3 * SIZE * SIZE, dtype=torch.float32).view(2, 3, SIZE, SIZE)
    latents = space.encode_noise(numbers)
    assert latents.shape == (2, 4, 8, 8)
    assert len(latents.unique()) == latents.numel()  # no number of the noise is used twice


def test_estimate_uses_the_noise_that_the_unet_predicts_at_the_step(checkpoint: Path) -> None:
    generator = tiny_generator(checkpoint, lora_rank=None).eval()
    process, steps = StableDiffusionProcess(), torch.tensor([0.0, 100.0, 999.0])
    x = torch.randn(3, 4, 8, 8, generator=seeded(0, "x"))
    with torch.no_grad():
        tokens = generator.embedding(classes(0, 1, 1))
        eps = generator.model.network.pretrained.unet()(x, steps, encoder_hidden_states=tokens).sample
        alpha, sigma = (f(steps / 999)[:, None, None, None] for f in (process.alpha, process.sigma))
        torch.testing.assert_close(
            generator.denoise(x, steps / 999, classes(0, 1, 1)), (x - sigma * eps) / alpha, rtol=1e-4, atol=1e-4
        )


def test_fresh_adapters_change_nothing(checkpoint: Path) -> None:
    x, t = torch.randn(2, 4, 8, 8, generator=seeded(0, "x")), torch.full((2,), 0.4)
    with torch.no_grad():
        adapted, full = (tiny_generator(checkpoint, rank).eval().denoise(x, t, classes(0, 1)) for rank in (2, None))
    assert torch.equal(adapted, full)


def test_captions_change_the_estimate(checkpoint: Path) -> None:
    generator = tiny_generator(checkpoint)
    tokens = generator.embedding(Conditions.cat([classes(0, 1), Conditions.unknown(1, LAYOUT)]))
    tokenizer, encoder = generator.embedding.tokenizer, generator.embedding.text_encoder
    texts = ["galaxy, smooth", "galaxy, spiral", ""]
    ids = tokenizer(texts, padding="max_length", max_length=24, return_tensors="pt").input_ids
    torch.testing.assert_close(tokens, encoder(ids).last_hidden_state)
    assert not torch.allclose(tokens[0], tokens[1])
    assert tokens.shape == (3, 24, 8)


def test_gradient_reaches_the_adapters_alone(checkpoint: Path) -> None:
    generator = tiny_generator(checkpoint)
    names = [name for name, _ in generator.trained()]
    assert all(".lora_A." in name or ".lora_B." in name for name in names)
    assert {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in names} == {"to_q", "to_k", "to_v", "0"}
    loss_per_image(generator, to_tensors(pixels(2)), classes(0, 1), torch.tensor([0.2, 0.8]), noise(2)).sum().backward()
    reached = {name for name, parameter in generator.named_parameters() if parameter.grad is not None}
    assert reached == set(names)
    gradients = [
        float(p.grad.abs().sum()) for name, p in generator.trained() if ".lora_B." in name and p.grad is not None
    ]
    assert all(gradient > 0 for gradient in gradients)


def test_full_training_reaches_the_whole_unet_and_nothing_else(checkpoint: Path) -> None:
    generator = tiny_generator(checkpoint, lora_rank=None)
    unet = {f"network.{name}" for name, _ in generator.network.named_parameters()}
    assert {name for name, _ in generator.trained()} == unet == set(generator.state_dict())
    gradient = shard_gradient(generator, copies(), TRAINING, 0, 0, 0).gradient_P
    assert gradient.shape == (sum(parameter.numel() for _, parameter in generator.trained()),)


@pytest.mark.parametrize("lora_rank", [2, None])
def test_some_steps_lower_the_loss_on_one_image(checkpoint: Path, lora_rank: int | None) -> None:
    generator = tiny_generator(checkpoint, lora_rank)
    frozen = {name: p.clone() for name, p in generator.named_parameters() if not p.requires_grad}
    times, data = torch.linspace(0.1, 0.9, 8), copies(8)

    def loss(of: Generator) -> float:
        with torch.no_grad():
            return float(loss_per_image(of, to_tensors(data.images_NHWC), data.conditions, times, noise(8)).mean())

    before = loss(generator)
    state = init_training(generator, TRAINING)
    for _ in train(state, data, TRAINING, seed=0):
        pass
    assert loss(generator) < 0.97 * before
    assert loss(state.averaged()) < before
    assert all(torch.equal(frozen[name], dict(generator.named_parameters())[name]) for name in frozen)


def test_tensors_hold_what_is_trained_and_restore_the_training(checkpoint: Path) -> None:
    state = init_training(tiny_generator(checkpoint), TRAINING)
    steps = train(state, copies(), TRAINING, seed=0)
    for _ in range(3):
        next(steps)
    tensors = state.to_tensors()
    assert all(".lora_" in name for name in tensors if name != "step")
    again = init_training(tiny_generator(checkpoint, seed=5), TRAINING)
    again.load_tensors(tensors)
    for _ in range(2):
        next(steps)
    for _, _ in zip(range(2), train(again, copies(), TRAINING, seed=0), strict=False):
        pass
    first, other = state.to_tensors(), again.to_tensors()
    assert first["step"] == 5
    assert all(torch.equal(first[name], other[name]) for name in first)


def test_average_is_stored_and_restored_without_the_frozen_weights(checkpoint: Path) -> None:
    state = init_training(tiny_generator(checkpoint), TRAINING)
    next(train(state, copies(), TRAINING, seed=0))
    averaged = state.averaged()
    tensors = averaged.state_dict()
    assert tensors.keys() == {name for name, _ in state.model.trained()}
    restored = tiny_generator(checkpoint, seed=3)
    restored.load_state_dict(tensors)
    sampling = Sampling(steps=3)
    assert torch.equal(
        sample(restored.eval(), classes(1), noise(1), sampling), sample(averaged, classes(1), noise(1), sampling)
    )
    with pytest.raises(RuntimeError, match="lora_A"):
        restored.load_state_dict(dict(list(tensors.items())[1:]))


def test_equal_seeds_give_equal_adapters_and_leave_torch_generator_alone(checkpoint: Path) -> None:
    before = torch.random.get_rng_state()
    first, same, other = (tiny_generator(checkpoint, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_samples_are_deterministic_and_do_not_depend_on_the_others(checkpoint: Path) -> None:
    generator = tiny_generator(checkpoint).eval()
    sampling = Sampling(steps=4, guidance=6.5)
    both = sample(generator, classes(0, 1), noise(2), sampling)
    assert both.shape == (2, 3, SIZE, SIZE)
    assert torch.equal(both, sample(generator, classes(0, 1), noise(2), sampling))
    torch.testing.assert_close(sample(generator, classes(1), noise(2)[1:], sampling), both[1:], rtol=1e-3, atol=1e-4)


def test_samples_depend_on_the_image_from_which_they_start(checkpoint: Path) -> None:
    generator, sampling = tiny_generator(checkpoint).eval(), Sampling(steps=2)
    started = sample(generator, classes(0), noise(1), sampling, to_tensors(pixels(1)))
    assert not torch.allclose(started, sample(generator, classes(0), noise(1), sampling))


def test_checkpointing_gives_the_same_gradient(checkpoint: Path) -> None:
    model = tiny_model(checkpoint)
    assert isinstance(model.network, StableDiffusion)
    saving = replace(model, network=replace(model.network, checkpointing=True))
    first, other = (
        shard_gradient(build_generator(m, LAYOUT, SIZE), copies(), TRAINING, 0, 0, 0) for m in (model, saving)
    )
    torch.testing.assert_close(first.gradient_P, other.gradient_P)


def test_zero_terminal_snr_samples_from_noise_alone(checkpoint: Path) -> None:
    model = tiny_model(checkpoint, process=StableDiffusionProcess(prediction="v", zero_terminal_snr=True))
    images = sample(build_generator(model, LAYOUT, SIZE).eval(), classes(0), noise(1), Sampling(steps=3))
    assert bool(torch.isfinite(images).all())


def test_odd_sides_of_latents_work_as_at_424_pixels(checkpoint: Path) -> None:
    generator = build_generator(tiny_model(checkpoint), LAYOUT, 14).eval()  # latents of 7, then 4, then 7
    images = sample(generator, classes(0), torch.randn(1, 3, 14, 14, generator=seeded(0, "noise")), Sampling(steps=2))
    assert images.shape == (1, 3, 14, 14)


def test_impossible_models_are_rejected(checkpoint: Path) -> None:
    network = StableDiffusion(path=str(checkpoint))
    with pytest.raises(ValueError, match="needs a space latents; got stable-diffusion and pixels"):
        Model(network, StableDiffusionProcess())
    with pytest.raises(ValueError, match="need each other, got stable-diffusion and rectified-flow"):
        Model(network, space=LatentSpace())
    with pytest.raises(ValueError, match="need each other, got unet and stable-diffusion"):
        Model(UNet(), StableDiffusionProcess())
    with pytest.raises(ValueError, match="multiple of 2, got 15"):
        build_generator(tiny_model(checkpoint), LAYOUT, 15)
    with pytest.raises(ConfigError, match="not size"):
        build_generator(tiny_model(checkpoint), ConditionLayout((ConditionGroup("size", 1),)), SIZE)
    with pytest.raises(ValueError, match="path must name the local folder"):
        StableDiffusion()
    with pytest.raises(ValueError, match="lora_rank must be at least 1"):
        StableDiffusion(path="x", lora_rank=0)
