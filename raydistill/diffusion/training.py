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

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor

from raydistill.diffusion.conditions import ConditionLayout, Conditions, drop_groups
from raydistill.diffusion.losses import LossByTime, loss_per_image, stratified_quantiles
from raydistill.diffusion.model import Generator, to_tensors
from raydistill.diffusion.options import GeneratorTraining
from raydistill.diffusion.order import ImageOrder
from raydistill.errors import DivergenceError
from raydistill.imports import import_beside_torchvision
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


def init_training(generator: Generator, training: GeneratorTraining) -> TrainingState:
    """Return the initial state, which holds `generator` and changes it in place."""
    return TrainingState(generator, training.weight_decay, training.ema_decay, training.ema_power)


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
    state: TrainingState, data: TrainingImages, training: GeneratorTraining, seed: int
) -> Iterator[tuple[TrainingState, LossByTime]]:
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
            shard_gradient(
                state.generator, data.rows(rows.to(state.generator.device)), training, seed, state.step, shard
            )
            for shard, rows in enumerate(batch)
        ]
        state.apply([shard.gradient_P for shard in shards], training.lr_at(state.step), training.max_norm)
        loss = shards[0].loss
        for shard in shards[1:]:
            loss += shard.loss
        yield state, loss


# Keep the training state: parameters, moving average, optimizer and step.
#
# `to_tensors` gives it as named tensors, which safetensors can store without pickle.

BETAS = (0.9, 0.99)  # the second moment averages 100 steps; torch's 0.999 suits longer trainings
_MOMENTS = ("exp_avg", "exp_avg_sq")


class TrainingState:
    """The state after `step` steps.

    Parameters
    ----------
    generator
        The generator to train, on its device. `apply` changes its parameters in place.
    weight_decay, ema_decay, ema_power
        See `GeneratorTraining`.
    """

    def __init__(self, generator: Generator, weight_decay: float, ema_decay: float, ema_power: float) -> None:
        self.generator, self.step = generator, 0
        parameters = [parameter for _, parameter in generator.trained()]
        self._optimizer = torch.optim.AdamW(parameters, betas=BETAS, weight_decay=weight_decay, fused=True)
        for parameter in parameters:  # as AdamW creates it in its first step
            self._optimizer.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                **{moment: torch.zeros_like(parameter) for moment in _MOMENTS},
            }
        self._ema = import_beside_torchvision("diffusers.training_utils").EMAModel(
            parameters, decay=ema_decay, use_ema_warmup=True, power=ema_power, foreach=True
        )

    def apply(self, gradients: Sequence[Tensor], lr: float, max_norm: float) -> None:
        """Take one step along the mean of the gradients.

        Parameters
        ----------
        gradients
            [P] of every shard, in the order of the shards.
        lr
            Learning rate of this step.
        max_norm
            A longer mean gradient is scaled down to this norm.
        """
        mean_P = gradients[0].clone()
        for gradient_P in gradients[1:]:
            mean_P += gradient_P
        mean_P /= len(gradients)
        mean_P *= (max_norm / (mean_P.norm() + 1e-6)).clamp(max=1)  # as torch.nn.utils.clip_grad_norm_
        parameters = [parameter for _, parameter in self.generator.trained()]
        for parameter, part in zip(parameters, mean_P.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()
        self._ema.step(parameters)
        self.step += 1

    def averaged(self) -> Generator:
        """Return a generator copy with moving-average parameters, for evaluation."""
        copy = deepcopy(self.generator)
        parameters = [parameter for _, parameter in copy.trained()]
        for parameter in parameters:
            parameter.grad = None
        self._ema.copy_to(parameters)
        return copy.eval().requires_grad_(False)

    def to_tensors(self) -> dict[str, Tensor]:
        """Return the state as tensors on the CPU; `load_tensors` reads them.

        Returns
        -------
        dict
            "generator.NAME", "ema.NAME", "exp_avg.NAME", "exp_avg_sq.NAME" and "step" (int64).

        Raises
        ------
        DivergenceError
            If a parameter is not finite.
        """
        self.check_finite()
        tensors = {f"generator.{name}": tensor for name, tensor in self.generator.state_dict().items()}
        for (name, parameter), averaged in zip(self.generator.trained(), self._ema.shadow_params, strict=True):
            tensors[f"ema.{name}"] = averaged
            tensors |= {f"{moment}.{name}": self._optimizer.state[parameter][moment] for moment in _MOMENTS}
        tensors["step"] = torch.tensor(self.step)
        return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from the state that `to_tensors` returned.

        Raises
        ------
        KeyError
            If a tensor is missing.
        RuntimeError
            If a tensor has another shape.
        """
        self.step = int(tensors["step"])
        prefix = "generator."
        self.generator.load_state_dict(
            {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        )
        for (name, parameter), averaged in zip(self.generator.trained(), self._ema.shadow_params, strict=True):
            averaged.copy_(tensors[f"ema.{name}"])
            self._optimizer.state[parameter]["step"].fill_(self.step)
            for moment in _MOMENTS:
                self._optimizer.state[parameter][moment].copy_(tensors[f"{moment}.{name}"])
        self._ema.optimization_step = self.step

    def check_finite(self) -> None:
        """Raise a DivergenceError if a parameter is not finite."""
        total = torch.stack([parameter.detach().sum() for _, parameter in self.generator.trained()]).sum()
        if not torch.isfinite(total):
            what = f"the parameters of the generator are not finite after step {self.step}"
            raise DivergenceError(what, "generate", "lower generate.training.lr, or raise generate.training.warmup")
