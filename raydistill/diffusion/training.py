"""Train a generator, with the same bits on any number of workers.

A batch has a fixed number of shards. Images (`order`), symmetries, times, noise and hidden groups of
a shard are functions of (seed, step, shard) alone. Any process may compute a shard: gradients are
added in the order of the shards:

    state = init_training(generator, training)
    gradients = [shard_gradient(generator, images[s], training, seed, state.step, s) for s in range(shards)]
    state.apply([one.gradient_P for one in gradients], training.lr_at(state.step), training.max_norm)

A worker computes some of the shards, and gathers the others' gradients before `apply`. Equal bits
also need equal hardware and equally many threads per shard.

Shapes: N training images, b images of a shard, P parameters.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from raydistill.diffusion.conditions import ConditionLayout, Conditions, drop_groups
from raydistill.diffusion.losses import LossByTime, loss_per_image, stratified_quantiles
from raydistill.diffusion.model import Generator, to_tensors
from raydistill.diffusion.options import GeneratorTraining
from raydistill.diffusion.order import ImageOrder
from raydistill.learning.sharded import TrainingState
from raydistill.seeding import fold_in
from raydistill.seeding import generator as seeded


class TrainingImages(NamedTuple):
    """Training images and their conditions, on one device.

    images_NHWC is uint8 [N, H, W, 3].
    """

    images_NHWC: Tensor
    conditions: Conditions

    def to(self, device: torch.device | str) -> TrainingImages:
        """Return them on a device."""
        return TrainingImages(self.images_NHWC.to(device), self.conditions.to(device))

    @classmethod
    def empty(cls, image_size: int, layout: ConditionLayout) -> TrainingImages:
        """Return no images."""
        return cls(torch.empty(0, image_size, image_size, 3, dtype=torch.uint8), Conditions.unknown(0, layout))

    def followed_by(self, others: TrainingImages) -> TrainingImages:
        """Return these images, then the others."""
        images_NHWC = torch.cat([self.images_NHWC, others.images_NHWC])
        return TrainingImages(images_NHWC, Conditions.cat([self.conditions, others.conditions]))

    def rows(self, rows: Tensor | slice) -> TrainingImages:
        """Return some of them."""
        return TrainingImages(self.images_NHWC[rows], self.conditions[rows])


class ShardGradient(NamedTuple):
    """The gradient [P] of a shard's mean loss, and its images' losses by time."""

    gradient_P: Tensor
    loss: LossByTime


def init_training(generator: Generator, training: GeneratorTraining) -> TrainingState[Generator]:
    """Return the initial state, which holds `generator` and changes it in place."""
    return TrainingState(generator, training, "generate")


def shard_gradient(
    generator: Generator, images: TrainingImages, training: GeneratorTraining, seed: int, step: int, shard: int
) -> ShardGradient:
    """Return the gradient of the mean loss over the images of one shard.

    Parameters
    ----------
    generator
        The generator, as of the beginning of the step.
    images
        The images of the shard, on its device.
    training
        Hyper-parameters.
    seed
        Root of the draws.
    step, shard
        Number of the step, and of the shard in its batch; both from 0.
    """
    generator.train()
    parameters = [parameter for _, parameter in generator.trained()]
    with torch.random.fork_rng(devices=[generator.device] if generator.device.type == "cuda" else []):
        torch.manual_seed(fold_in(seed, "dropout", step, shard))
        with torch.autocast(generator.device.type, torch.bfloat16, enabled=training.precision == "bfloat16"):
            losses, times = _shard_losses(generator, images, training, seeded(seed, "shard", step, shard), shard)
        gradients = torch.autograd.grad(losses.mean(), parameters, materialize_grads=True)
    return ShardGradient(torch.cat([part.flatten() for part in gradients]), LossByTime.of(losses, times))


def _shard_losses(
    generator: Generator, images: TrainingImages, training: GeneratorTraining, g: torch.Generator, shard: int
) -> tuple[Tensor, Tensor]:
    count = len(images.images_NHWC)
    times = generator.process.training_times(stratified_quantiles(g, count, shard, training.shards))
    times = times.float().to(generator.device)
    pixels = to_tensors(images.images_NHWC)
    noise = torch.randn(pixels.shape, generator=g).to(generator.device)
    conditions = drop_groups(images.conditions, generator.layout, g, training.group_rate, training.all_rate)
    augmentation = training.augmentation
    pixels = augmentation.apply(pixels, augmentation.sample(g, count))
    return loss_per_image(generator, pixels, conditions, times, noise), times


def train(
    state: TrainingState[Generator], data: TrainingImages, training: GeneratorTraining, seed: int
) -> Iterator[tuple[TrainingState[Generator], LossByTime]]:
    """Yield the state and loss after each remaining step, computing all shards here.

    Parameters
    ----------
    state
        `init_training(generator, training)`, or a state with loaded tensors. It changes in place.
    data
        Training images, on the generator's device.
    training
        Hyper-parameters.
    seed
        Root of the draws.

    Raises
    ------
    ValueError
        If there are no images.
    """
    order = ImageOrder((len(data.images_NHWC),), len(data.images_NHWC), seed)
    while state.step < training.steps:
        batch = order.batch(state.step, training.batch_size).chunk(training.shards)
        shards = [
            shard_gradient(state.model, data.rows(rows.to(state.model.device)), training, seed, state.step, shard)
            for shard, rows in enumerate(batch)
        ]
        state.apply([shard.gradient_P for shard in shards], training.lr_at(state.step), training.max_norm)
        loss = shards[0].loss
        for shard in shards[1:]:
            loss += shard.loss
        yield state, loss
