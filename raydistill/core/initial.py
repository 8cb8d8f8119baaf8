"""What a distilled set is before its first step: initial images and labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from raydistill.core import coreset
from raydistill.core.distiller import Recipe
from raydistill.core.networks import Network
from raydistill.core.normalise import one_hot


def initial_images(
    recipe: Recipe, images_NCHW: Tensor, labels_N: Tensor, num_classes: int, g: torch.Generator
) -> Tensor:
    """[classes * ipc, C, H, W], sorted by class, as `recipe.init` says."""
    ipc = recipe.images_per_class
    if recipe.init == "noise":
        return coreset.noise(images_NCHW, num_classes, ipc, g)
    choose = coreset.random_real if recipe.init == "real" else coreset.class_mean
    return choose(images_NCHW, labels_N, num_classes, ipc, g)


def initial_labels(
    recipe: Recipe, images_SCHW: Tensor, num_classes: int, network: Network, experts_P: Sequence[Tensor]
) -> Tensor:
    """[S, K]: one-hot rows for hard labels, the experts' logits for soft ones."""
    ipc = recipe.images_per_class
    if recipe.labels == "hard":
        return hard_labels(num_classes, ipc).to(images_SCHW)
    return expert_labels(images_SCHW, num_classes, ipc, network, experts_P)


def hard_labels(num_classes: int, ipc: int) -> Tensor:
    """[S, K] one-hot rows, sorted by class."""
    return one_hot(torch.arange(num_classes).repeat_interleave(ipc), num_classes)


@torch.no_grad()
def expert_labels(
    images_SCHW: Tensor, num_classes: int, ipc: int, network: Network, experts_P: Sequence[Tensor]
) -> Tensor:
    """[S, K] logits: the mean of the experts that classify the image correctly.

    DATM (Guo et al. 2024, arXiv:2310.05773) starts its learned labels so. Where no expert is right, all are averaged and the true
    class is lifted to the largest logit.
    """
    labels_S = torch.arange(num_classes, device=images_SCHW.device).repeat_interleave(ipc)
    hard_SK = hard_labels(num_classes, ipc).to(images_SCHW)
    logits_ESK = torch.stack([network(theta_P.to(images_SCHW), images_SCHW) for theta_P in experts_P])
    right_ES1 = (logits_ESK.argmax(dim=2) == labels_S).to(logits_ESK)[..., None]
    any_S1 = right_ES1.sum(dim=0) > 0
    chosen = (logits_ESK * right_ES1).sum(dim=0) / right_ES1.sum(dim=0).clamp_min(1)
    everyone = logits_ESK.mean(dim=0)
    lifted = torch.where(hard_SK > 0, everyone.amax(dim=1, keepdim=True), everyone)
    return torch.where(any_S1, chosen, lifted)
