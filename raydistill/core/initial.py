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


@torch.no_grad()
def initial_labels(
    recipe: Recipe, images_SCHW: Tensor, num_classes: int, network: Network, experts_P: Sequence[Tensor]
) -> Tensor:
    """[S, K]: one-hot rows for hard labels; for soft ones the mean logits of the experts that classify the image correctly.

    DATM (Guo et al. 2024, arXiv:2310.05773) starts its learned labels so. Where no expert is right, all are averaged and the true
    class is lifted to the largest logit.
    """
    labels_S = torch.arange(num_classes, device=images_SCHW.device).repeat_interleave(recipe.images_per_class)
    hard_SK = one_hot(labels_S, num_classes).to(images_SCHW)
    if recipe.labels == "hard":
        return hard_SK
    logits_ESK = torch.stack([network(theta_P.to(images_SCHW), images_SCHW) for theta_P in experts_P])
    right_ES1 = (logits_ESK.argmax(dim=2) == labels_S).to(logits_ESK)[..., None]
    any_S1 = right_ES1.sum(dim=0) > 0
    chosen = (logits_ESK * right_ES1).sum(dim=0) / right_ES1.sum(dim=0).clamp_min(1)
    everyone = logits_ESK.mean(dim=0)
    lifted = torch.where(hard_SK > 0, everyone.amax(dim=1, keepdim=True), everyone)
    return torch.where(any_S1, chosen, lifted)
