"""Training: shards, draws, checkpoints, averages, divergence; a generator learns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from raydistill.diffusion.conditions import Conditions
from raydistill.diffusion.losses import LossByTime, loss_per_image, measure, stratified_quantiles
from raydistill.diffusion.model import Generator, build_generator, to_tensors
from raydistill.diffusion.options import GeneratorTraining
from raydistill.diffusion.order import ImageOrder
from raydistill.diffusion.training import TrainingImages, init_training, shard_gradient, train
from raydistill.errors import DivergenceError
from raydistill.learning.sharded import TrainingState
from raydistill.seeding import generator as seeded
from tests.unit.diffusion.test_model import LAYOUT, MODELS, build, pixels

TRAINING = GeneratorTraining(steps=6, batch_size=8, shards=4, warmup=2, lr=1e-2)


def training_images() -> TrainingImages:
    labels = torch.eye(2)[torch.arange(16) % 2]
    return TrainingImages(pixels(), Conditions.of(LAYOUT, 16, **{"class": labels}))


def shard_images(shard: int, step: int = 0) -> TrainingImages:
    """Return the images of a shard with the seed 1, as `train` chooses them."""
    batch = ImageOrder((16,), 16, seed=1).batch(step, TRAINING.batch_size)
    return training_images().rows(batch.chunk(TRAINING.shards)[shard])


def start(training: GeneratorTraining = TRAINING, name: str = "components") -> TrainingState[Generator]:
    return init_training(build(name), training)


def run(
    state: TrainingState[Generator], steps: int, training: GeneratorTraining = TRAINING, seed: int = 1
) -> TrainingState[Generator]:
    for later, _ in train(state, training_images(), training, seed):
        if later.step == steps:
            break
    return state


def equal(first: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return first.keys() == other.keys() and all(torch.equal(first[key], other[key]) for key in first)


def gradient(state: TrainingState[Generator], shard: int, **options: Any) -> Tensor:
    return shard_gradient(state.model, shard_images(shard), replace(TRAINING, **options), 1, 0, shard).gradient_P


def test_order_in_which_shards_are_computed_does_not_change_a_bit() -> None:
    forward, backward = start(), start()
    run(forward, 1)
    late_first = {shard: gradient(backward, shard) for shard in reversed(range(4))}
    backward.apply([late_first[shard] for shard in range(4)], TRAINING.lr_at(0), TRAINING.max_norm)
    assert equal(forward.to_tensors(), backward.to_tensors())


def test_shards_depend_on_seed_and_step() -> None:
    state, data = start(), shard_images(0)
    draws = [(1, 0, 0), (1, 0, 1), (1, 1, 0), (2, 0, 0)]
    gradients = [shard_gradient(state.model, data, TRAINING, *draw).gradient_P for draw in draws]
    assert all(not torch.equal(a, b) for n, a in enumerate(gradients) for b in gradients[:n])


def test_dropout_follows_the_seed_and_not_the_global_generator() -> None:
    model = replace(MODELS["flow"], network=replace(MODELS["flow"].network, dropout=0.5))
    state = init_training(build_generator(model, LAYOUT, 8, 0, pixels()), TRAINING)
    torch.nn.init.normal_(state.model.network.unet.conv_out.weight, generator=seeded(0))
    torch.manual_seed(1)
    first = gradient(state, 0)
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    assert torch.equal(gradient(state, 0), first)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("name", ["components", "flow"])
def test_checkpoint_resumes_with_the_same_bits(name: str) -> None:
    straight = run(start(name=name), 4).to_tensors()
    stopped = run(start(name=name), 2).to_tensors()
    resumed = start(name=name)
    resumed.load_tensors(stopped)
    assert resumed.step == 2
    assert equal(resumed.to_tensors(), stopped)
    assert equal(run(resumed, 4).to_tensors(), straight)


def test_checkpoint_before_the_first_step_resumes_too() -> None:
    resumed = start()
    resumed.load_tensors(start().to_tensors())
    assert equal(run(resumed, 2).to_tensors(), run(start(), 2).to_tensors())


def test_step_is_that_of_adamw_on_the_clipped_mean_gradient() -> None:
    state, reference = start(), build("components")
    mean_P = torch.stack([gradient(state, shard) for shard in range(4)]).mean(dim=0)
    run(state, 1)
    parameters = list(reference.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=TRAINING.lr_at(0), betas=(0.9, 0.99), weight_decay=0.01)
    for parameter, part in zip(parameters, mean_P.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = part.view_as(parameter).clone()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    for ours, theirs in zip(state.model.parameters(), parameters, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_average_follows_the_published_warm_up() -> None:
    state = start()
    averaged = None
    for later, _ in train(state, training_images(), TRAINING, 1):
        newest = later.model.embedding.null.detach().clone()
        n = later.step - 1  # diffusers: decay 0 in the first step, then 1 - (1 + n)^-power
        decay = min(1 - (1 + n) ** -TRAINING.ema_power, TRAINING.ema_decay) if n else 0.0
        averaged = newest if averaged is None else decay * averaged + (1 - decay) * newest
    torch.testing.assert_close(state.averaged().embedding.null, averaged)
    assert not torch.equal(state.averaged().embedding.null, state.model.embedding.null)
    assert not state.averaged().training


def test_learning_rate_rises_stays_and_falls() -> None:
    training = GeneratorTraining(steps=100, warmup=9, decay=0.4, lr=1.0)
    assert [training.lr_at(step) for step in (0, 9, 50, 60, 80)] == pytest.approx([0.1, 1, 1, 1, 0.5])
    assert 0 < training.lr_at(99) <= 0.025
    assert GeneratorTraining(steps=5, warmup=0, decay=0.0, lr=1.0).lr_at(4) == 1


def test_shards_of_a_batch_cover_all_strata() -> None:
    quantiles = torch.cat([stratified_quantiles(seeded(0, shard), 3, shard, 4) for shard in range(4)])
    assert (quantiles * 12).long().sort().values.tolist() == list(range(12))


def test_divergence_is_reported_before_a_checkpoint_is_made() -> None:
    state = start()
    state.apply([torch.full_like(gradient(state, 0), float("nan"))], 1e-3, 1.0)
    with pytest.raises(DivergenceError, match="not finite after step 1"):
        state.to_tensors()


def test_training_needs_images_and_whole_shards() -> None:
    empty = TrainingImages(pixels()[:0], Conditions.unknown(0, LAYOUT))
    with pytest.raises(ValueError, match="at least one training image"):
        next(train(start(), empty, TRAINING, 0))
    with pytest.raises(ValueError, match="batch_size must be a multiple of shards, got 10 and 4"):
        GeneratorTraining(batch_size=10, shards=4)


def test_loss_by_time_adds_up() -> None:
    losses = LossByTime.of(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 0.05]))
    other = LossByTime.of(torch.tensor([8.0]), torch.tensor([1.0]))
    both = losses + other
    assert both.mean == 4
    assert both.means[[0, 9]].tolist() == [2, 8]
    assert both.means[1:9].isnan().all()


def test_measured_loss_is_repeatable_and_that_of_loss_per_image() -> None:
    generator = build("image")
    data = training_images()
    images = to_tensors(data.images_NHWC)
    whole = measure(generator, images, data.conditions, 5)
    assert torch.equal(whole.sums_T, measure(generator, images, data.conditions, 5).sums_T)
    assert float(whole.counts_T.sum()) == 16
    zero = torch.zeros(16, 3, 8, 8)
    clean = loss_per_image(generator, images, data.conditions, torch.full((16,), 0.5), zero)
    expected = 4 * generator.space.encode(images).square().mean(dim=(1, 2, 3))  # D = 0 and weight = 1 / t^2
    torch.testing.assert_close(clean, expected)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_lowers_the_loss(precision: Any) -> None:
    training = replace(TRAINING, steps=30, shards=1, precision=precision, decay=0.0)
    colours = torch.randint(0, 256, (16, 1, 1, 3), dtype=torch.uint8, generator=seeded(0, "colours"))
    data = TrainingImages(colours.expand(-1, 8, 8, -1), Conditions.unknown(16, LAYOUT))
    state, images = init_training(build("flow"), training), to_tensors(data.images_NHWC)
    before = measure(state.averaged(), images, data.conditions, 0).mean
    for _ in train(state, data, training, 1):
        pass
    assert measure(state.averaged(), images, data.conditions, 0).mean < 0.8 * before
    assert {parameter.dtype for parameter in state.model.parameters()} == {torch.float32}
