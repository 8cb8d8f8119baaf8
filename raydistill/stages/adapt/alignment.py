"""Train a network on a labelled survey and adapt it to an unlabelled one.

Every step draws a labelled batch of the source and an unlabelled batch of the target. The loss is

    L = L_task(source) + w S(z_source, z_target) + e L_entropy(p_target)

- S is the Sinkhorn divergence of the features z, the input of the last linear layer, divided by the
  spread of the source's features. Its cost is |x - y|² / 2, and its blur is a fraction of the
  largest distance between the features of a step. S does not depend on the scale of the features:
  otherwise a network reduces it by features near 0, which say nothing about the classes.
- w = strength * mean(L_task) / mean(S), with running means. Both losses then have the same size,
  and the alignment fades as the task is learned. This is where the learned weights of SIDDA
  converge: those minimise L_task / (2 a²) + S / (2 b²) + log(a b), so a² = L_task and b² = S. Here
  the loss is divided by the weight of the task, so that the learning rate keeps its meaning.
- L_entropy = -mean |H(p) - log(K) / 2| over target images whose entropy H is farther than `margin`
  from log(K) / 2. It makes certain predictions more certain and uncertain ones more uncertain, so
  that the entropy rejects images of a class that the source lacks.

No label of the target is read.

References
----------
SIDDA: Pandya et al. 2025, arXiv:2501.14048. Entropy: DeepAstroUDA, Ćiprijanović et al. 2023,
arXiv:2302.02005, after Saito et al. 2020, arXiv:2002.07953. Sinkhorn divergence: Feydy et al. 2019,
arXiv:1810.08278.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from geomloss import SamplesLoss
from torch import Tensor

from raydistill.learning.arithmetic import fill_auto
from raydistill.learning.networks import Network, logits_and_features
from raydistill.learning.options import WeightedTraining
from raydistill.learning.sgd import FitState, descend, init_state, weight_of_newest
from raydistill.learning.weighted_training import drawing, step_loss, weighted_batches
from raydistill.seeding import generator
from raydistill.stages.adapt.config import Alignment

MEMORY = 50  # steps: time constant of the running means of the two losses
EPSILON_SCALING = 0.5  # ratio of successive blurs of the Sinkhorn iterations, geomloss's default


def sinkhorn_divergence(x_NF: Tensor, y_MF: Tensor, blur: float = 0.05, reach: float | None = None) -> Tensor:
    """Return the debiased Sinkhorn divergence of two clouds of points of equal weight.

    Parameters
    ----------
    x_NF, y_MF
        The points.
    blur, reach
        Fractions of the largest distance between a point of x and one of y, which is a constant in
        the derivative. A `reach` makes the transport unbalanced.

    Returns
    -------
    torch.Tensor
        A scalar >= 0, with the cost |x - y|² / 2; 0 for equal clouds.
    """
    with torch.no_grad():
        largest = float(torch.cdist(x_NF, y_MF).max())
    if not 0 < largest < math.inf:  # equal points, or a training that diverged: 0 or NaN
        return (x_NF.sum() + y_MF.sum()) * 0
    loss = SamplesLoss(
        "sinkhorn",
        p=2,
        blur=blur * largest,
        reach=None if reach is None else reach * largest,
        diameter=_diameter(x_NF, y_MF),
        scaling=EPSILON_SCALING,
        backend="tensorized",
    )
    return loss(x_NF, y_MF)


def relative_divergence(source_NF: Tensor, target_MF: Tensor, blur: float = 0.05, reach: float | None = None) -> Tensor:
    """Return S: Sinkhorn divergence of features divided by the source's RMS spread.

    It does not change if all features are shifted and scaled together, and neither does its blur.
    """
    spread = (source_NF - source_NF.mean(dim=0)).square().sum(dim=1).mean()
    scale = spread.clamp_min(torch.finfo(spread.dtype).tiny).sqrt()
    return sinkhorn_divergence(source_NF / scale, target_MF / scale, blur, reach)


@torch.no_grad()
def _diameter(x_NF: Tensor, y_MF: Tensor) -> float:
    """Return an upper bound of all distances, at which the Sinkhorn iterations start."""
    both = torch.cat([x_NF, y_MF])
    return float((both.amax(dim=0) - both.amin(dim=0)).norm())


def entropy_of(log_p_NK: Tensor) -> Tensor:
    """Return the entropy [nat] of each row of log probabilities, [N]."""
    return -(log_p_NK.exp() * log_p_NK).sum(dim=1)


def entropy_separation(logits_NK: Tensor, margin: float) -> Tensor:
    """Return L_entropy of a batch; 0 if every image's entropy is within the margin."""
    log_p_NK = logits_NK.log_softmax(dim=1)
    distance_N = (entropy_of(log_p_NK) - math.log(logits_NK.shape[1]) / 2).abs()
    return -torch.where(distance_N > margin, distance_N, 0.0).mean()


def fit_aligned(
    network: Network,
    theta_P: Tensor,
    images_NCHW: Tensor,
    targets_NK: Tensor,
    probabilities_N: Tensor,
    unlabelled_MCHW: Tensor,
    training: WeightedTraining,
    alignment: Alignment,
    seed: int,
) -> FitState:
    """Return the state after the last step.

    Parameters
    ----------
    network, theta_P, images_NCHW, targets_NK, probabilities_N, training, seed
        As in `learning.weighted_training.fit_steps`, for the source. Source batches are those of
        `fit_steps`. The training is not compiled.
    unlabelled_MCHW
        Normalised images of the target, drawn with equal probabilities.
    alignment
        Hyper-parameters of the alignment.

    Returns
    -------
    FitState
        `average_P` holds the parameters to use, and `loss` the mean loss of the task.

    Raises
    ------
    ValueError
        If the network has no last linear layer, or a probability is negative.
    DivergenceError
        If the loss or the parameters are not finite after the last step.
    """
    tap = _Tap(network)
    task = step_loss(tap, training.augmentation, training.focal, fill_auto(training).precision)
    draw_target, target_g = drawing(torch.ones(len(unlabelled_MCHW)), training.batch_size), generator(seed, "target")
    weight = _Weight(alignment.strength)

    def gradient(theta_P: Tensor, step: int, batch: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        target_index = draw_target(target_g).to(unlabelled_MCHW.device)
        target_parameters = training.augmentation.sample(target_g, len(target_index))
        leaf_P = theta_P.detach().requires_grad_()
        loss = task_loss = task(leaf_P, *batch)
        if step >= alignment.warmup * training.steps and (alignment.strength or alignment.entropy):
            source_NF = tap.features_NF
            unlabelled = training.augmentation.apply(unlabelled_MCHW[target_index], target_parameters)
            logits_NK = tap(leaf_P, unlabelled)
            if alignment.strength:
                divergence = relative_divergence(source_NF, tap.features_NF, alignment.blur, alignment.reach)
                loss = loss + weight(task_loss, divergence) * divergence
            if alignment.entropy:
                loss = loss + alignment.entropy * entropy_separation(logits_NK, alignment.margin)
        return torch.autograd.grad(loss, leaf_P)[0], task_loss.detach()

    batches = weighted_batches(images_NCHW, targets_NK, probabilities_N, training, seed)
    steps = zip(range(training.steps), batches, strict=False)
    return descend(init_state(theta_P), gradient, steps, training.lr_at, training, training.average)


class _Weight:
    """Return the weight of the alignment from running means of the two losses."""

    def __init__(self, strength: float) -> None:
        self._strength, self._done = strength, 0
        self._task: Tensor | None = None
        self._alignment: Tensor | None = None

    def __call__(self, task: Tensor, alignment: Tensor) -> Tensor:
        task, alignment, self._done = task.detach(), alignment.detach(), self._done + 1
        newest = weight_of_newest(MEMORY, self._done)
        self._task = task if self._task is None else self._task.lerp(task, newest)
        self._alignment = alignment if self._alignment is None else self._alignment.lerp(alignment, newest)
        tiny = torch.finfo(alignment.dtype).tiny
        return self._strength * self._task / self._alignment.clamp_min(tiny)


class _Tap:
    """Apply a network, and keep the features of the last call."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.features_NF: Any = None

    def __call__(self, theta_P: Tensor, images_NCHW: Tensor) -> Tensor:
        logits_NK, self.features_NF = logits_and_features(self._network, theta_P, images_NCHW)
        return logits_NK
