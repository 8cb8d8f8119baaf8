"""Train a network for some steps on images drawn with given probabilities.

Sets of different sizes are compared fairly only after the same number of optimiser steps, so steps
count here, not epochs. A drawing probability per image mixes sources and balances classes.

The loss of a batch of B images with class probabilities p and targets y is

    L = -1/B sum_i sum_k w_k y_ik (1 - p_ik)^gamma log p_ik,    w_k ~ (1 - beta) / (1 - beta^n_k),

with n_k images of class k and a mean weight of 1. gamma = 0 and beta = 0 give cross entropy.
`fit_steps` yields the state at some steps, which are the points of a curve over the steps.

References
----------
gamma: focal loss, Lin et al. 2017, arXiv:1708.02002. beta: class-balanced loss, Cui et al. 2019,
arXiv:1901.05555. mixup: Zhang et al. 2018, arXiv:1710.09412. CutMix: Yun et al. 2019,
arXiv:1905.04899.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

import torch
from scipy import special
from torch import Tensor

from raydistill.learning.arithmetic import Precision, RequestsArithmetic, fill_auto
from raydistill.learning.augment import Augmentation
from raydistill.learning.augmenting import AugmentationParameters
from raydistill.learning.compiling import compiled
from raydistill.learning.networks import Network
from raydistill.learning.options import WeightedTraining
from raydistill.learning.sgd import FitState, descend, init_state
from raydistill.seeding import generator


class TrainingSet(NamedTuple):
    """Normalised images, their target probabilities, and their drawing probabilities."""

    images_NCHW: Tensor
    targets_NK: Tensor
    probabilities_N: Tensor

    def to(self, device: str) -> TrainingSet:
        """Return a copy with images and targets on a device."""
        return TrainingSet(self.images_NCHW.to(device), self.targets_NK.to(device), self.probabilities_N)


class Mixing(NamedTuple):
    """Partners of a batch, and how its images are mixed with them.

    Attributes
    ----------
    partner_B
        int64 [B].
    share_B
        Weight of an image against its partner's, float64 [B].
    box
        Of CutMix: top, bottom, left and right of the rectangle that comes from the partner, as
        shares of the side, float64 [4]. None: mixup.
    """

    partner_B: Tensor
    share_B: Tensor
    box: Tensor | None = None


def fit_steps(
    network: Network,
    theta_P: Tensor,
    images_NCHW: Tensor,
    targets_NK: Tensor,
    probabilities_N: Tensor,
    training: WeightedTraining,
    seed: int,
    record_at: Sequence[int] = (),
) -> Iterator[FitState]:
    """Yield the state at some steps, and after the last step.

    Parameters
    ----------
    network, theta_P
        The network to train, and its initial parameters, see `learning.networks.initial_parameters`.
    images_NCHW, targets_NK
        Normalised images, and their target probabilities (one-hot for hard labels).
    probabilities_N
        Drawing probability of each image, see `drawing_probabilities`. Their sum need not be 1.
    training
        Hyper-parameters; "auto" means float32, not compiled.
    seed
        Root of the batches, mixtures and augmentations.
    record_at
        Numbers of steps after which the state is yielded; larger ones than `training.steps` are
        left out.

    Yields
    ------
    FitState
        `average_P` holds the parameters to use.

    Raises
    ------
    ValueError
        If a probability is negative or NaN, or all are 0.
    DivergenceError
        If the loss or the parameters are not finite at a recorded step.
    """
    gradient = loss_gradient(network, training.augmentation, training.focal, training)
    batches, state = weighted_batches(images_NCHW, targets_NK, probabilities_N, training, seed), init_state(theta_P)
    for step in sorted({*record_at, training.steps} & {*range(1, training.steps + 1)}):
        few = islice(batches, step - state.done)
        yield (state := descend(state, gradient, few, training.lr_at, training, training.average))


def weighted_batches(
    images_NCHW: Tensor, targets_NK: Tensor, probabilities_N: Tensor, training: WeightedTraining, seed: int
) -> Iterator[tuple[Any, ...]]:
    """Yield batches without end: images, weighted targets, augmentation and mixing."""
    weighted_NK = targets_NK * class_weights(targets_NK, training.class_balance).to(targets_NK)
    draw, g = drawing(probabilities_N, training.batch_size), generator(seed, "steps")
    while True:
        index = draw(g).to(images_NCHW.device)
        parameters = training.augmentation.sample(g, len(index))
        mixing = sample_mixing(g, len(index), training.mixup) if training.mixup else None
        if training.cutmix:
            mixing = sample_cutting(g, len(index), training.cutmix, images_NCHW.shape[-1])
        yield images_NCHW[index], weighted_NK[index], parameters, mixing


def drawing_probabilities(labels_N: Tensor) -> Tensor:
    """Return image probabilities such that classes are drawn equally often.

    That is oversampling of rare classes.

    Returns
    -------
    torch.Tensor
        float64 [N], with the sum 1; images of a class have the same probability.
    """
    probabilities_N = (1 / labels_N.cpu().bincount().double().clamp_min(1))[labels_N.cpu()]
    return probabilities_N / probabilities_N.sum()


def class_weights(targets_NK: Tensor, beta: float) -> Tensor:
    """Return class weights in inverse proportion to effective numbers of images.

    Parameters
    ----------
    targets_NK
        Target probabilities. Their sums n_k count the images of each class.
    beta
        In [0, 1). 0: equal weights. Towards 1 the weights approach inverse frequencies.

    Returns
    -------
    torch.Tensor
        float64 [K], with a mean of 1 over the classes that occur; 0 for an empty class.
    """
    counts_K = targets_NK.double().sum(dim=0).cpu()
    effective_K = (1 - beta**counts_K) / (1 - beta)
    inverse_K = torch.where(counts_K > 0, 1 / effective_K, 0.0)
    return inverse_K / inverse_K[counts_K > 0].mean()


def step_loss(
    network: Callable[[Tensor, Tensor], Tensor],
    augmentation: Augmentation,
    focal: float = 0.0,
    precision: Precision = "float32",
) -> Callable[..., Tensor]:
    """Return `loss(theta_P, images_BCHW, weighted_BK, parameters, mixing)` of a batch.

    `weighted_BK` are targets times class weights. Images are augmented, then mixed.
    """

    def loss(
        theta_P: Tensor,
        images_BCHW: Tensor,
        weighted_BK: Tensor,
        parameters: AugmentationParameters,
        mixing: Mixing | None,
    ) -> Tensor:
        images = augmentation.apply(images_BCHW, parameters)
        if mixing is not None:
            images = _mix(images, mixing) if mixing.box is None else _cut(images, mixing)
            weighted_BK = _mix(weighted_BK, mixing)
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            logits = network(theta_P, images)
        log_p_BK = logits.to(theta_P.dtype).log_softmax(dim=1)
        if focal:
            # The smallest positive number keeps the derivative of a power below 1 finite at p = 1.
            tiny = torch.finfo(log_p_BK.dtype).tiny
            log_p_BK = (-log_p_BK.expm1()).clamp_min(tiny) ** focal * log_p_BK
        return -(weighted_BK * log_p_BK).sum(dim=1).mean()

    return loss


def _mix(values: Tensor, mixing: Mixing) -> Tensor:
    share = mixing.share_B.to(values).view(-1, *[1] * (values.dim() - 1))
    return share * values + (1 - share) * values[mixing.partner_B.to(values.device)]


def _cut(images_BCHW: Tensor, mixing: Mixing) -> Tensor:
    assert mixing.box is not None
    side = torch.arange(images_BCHW.shape[-1], device=images_BCHW.device) / images_BCHW.shape[-1]
    top, bottom, left, right = mixing.box.to(side)
    inside_HW = ((side >= top) & (side < bottom))[:, None] & ((side >= left) & (side < right))
    return torch.where(inside_HW, images_BCHW[mixing.partner_B.to(images_BCHW.device)], images_BCHW)


def sample_cutting(g: torch.Generator, batch: int, alpha: float, side: int) -> Mixing:
    """Draw a permutation and a rectangle of whole pixels for the batch."""
    half = side * (1 - _beta(g, alpha)) ** 0.5 / 2
    middle_2 = torch.rand(2, generator=g, dtype=torch.float64) * side
    low_2, high_2 = ((middle_2 + end).round().clamp(0, side) / side for end in (-half, half))
    kept = 1 - float((high_2 - low_2).prod())  # a rectangle at the edge is smaller than drawn
    partner_B, share_B = torch.randperm(batch, generator=g), torch.full((batch,), kept, dtype=torch.float64)
    return Mixing(partner_B, share_B, torch.stack([low_2, high_2], dim=1).flatten())


def sample_mixing(g: torch.Generator, batch: int, alpha: float) -> Mixing:
    """Draw a permutation and one weight for the batch, as in the authors' code."""
    share = _beta(g, alpha)
    return Mixing(torch.randperm(batch, generator=g), torch.full((batch,), share, dtype=torch.float64))


def _beta(g: torch.Generator, alpha: float) -> float:
    return float(special.betaincinv(alpha, alpha, float(torch.rand((), generator=g, dtype=torch.float64))))


def drawing(probabilities_N: Tensor, batch_size: int) -> Callable[[torch.Generator], Tensor]:
    """Return a function that draws `batch_size` indices with replacement."""
    cumulative_N = probabilities_N.double().cpu().cumsum(dim=0)
    if not ((probabilities_N >= 0).all() and 0 < cumulative_N[-1] < float("inf")):
        raise ValueError("drawing probabilities must not be negative, and at least one must be positive")
    cumulative_N = cumulative_N / cumulative_N[-1]

    def draw(g: torch.Generator) -> Tensor:
        # right: an image of probability 0 is never drawn.
        return torch.searchsorted(cumulative_N, torch.rand(batch_size, generator=g, dtype=torch.float64), right=True)

    return draw


def loss_gradient(
    network: Network, augmentation: Augmentation, focal: float, requested: RequestsArithmetic
) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return a function that computes the gradient in theta_P, and the loss.

    It takes the arguments of the function that `step_loss` returns.
    """
    arithmetic = fill_auto(requested)
    if arithmetic.compile:
        return _compiled(network, augmentation, focal, arithmetic.precision)
    return _eager(step_loss(network, augmentation, focal, arithmetic.precision))


def _eager(loss: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return a function that computes the gradient and the loss.

    Plain autograd has a kernel for the backward pass of a norm; `torch.func` takes twice as long.
    """

    def gradient(theta_P: Tensor, *batch: Any) -> tuple[Tensor, Tensor]:
        leaf_P = theta_P.detach().requires_grad_()
        value = loss(leaf_P, *batch)
        (d_theta_P,) = torch.autograd.grad(value, leaf_P)
        return d_theta_P, value.detach()

    return gradient


@lru_cache(maxsize=1)
def _compiled(network: Network, augmentation: Augmentation, focal: float, precision: Precision) -> Any:
    """Return the compiled gradient, which successive trainings in a process share."""
    loss = step_loss(network, augmentation, focal, precision)
    return compiled(torch.func.grad_and_value(loss), otherwise=_eager(loss))
