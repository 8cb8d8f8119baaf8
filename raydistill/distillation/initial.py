"""Choose the initial images and labels of a distilled set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from raydistill.distillation import coreset
from raydistill.distillation.coreset import Coreset, classes_of
from raydistill.distillation.distribution import distribution_matching
from raydistill.distillation.options import DistributionMatching
from raydistill.distillation.recipe import Recipe
from raydistill.distillation.trajectories import Trajectories
from raydistill.learning.networks import Network
from raydistill.learning.normalise import one_hot
from raydistill.seeding import generator

# Smallest initial probability of a learned label: the softmax's gradient is proportional to it, so
# 0 would stay 0. About 40 volunteers classify a galaxy, so smaller products of their fractions are
# not measured.
LEAST_PROBABILITY = 1e-3
DM_ITERATIONS = 1000  # of `init: dm` and `init: tgdd`


def initial_images(
    recipe: Recipe,
    images_NCHW: Tensor,
    labels_N: Tensor,
    counts_K: Sequence[int],
    network: Network,
    experts_P: Sequence[Tensor],
    trajectories: Trajectories | None,
    g: torch.Generator,
    features_NF: Tensor | None = None,
    drawn_SCHW: Tensor | None = None,
) -> Coreset:
    """Return initial images, sorted by class; `recipe.init` chooses how.

    counts_K: the number of images of each class.
    experts_P: the final parameters of the experts, empty unless `recipe.needs_experts`.
    trajectories: their parameters by epoch, which `init: tgdd` needs.
    features_NF: the space of `init: herding`; None: pixels.
    drawn_SCHW: the images of a generator, if `recipe.draws`.
    """
    data = (images_NCHW, labels_N, counts_K, g)
    match recipe.init:
        case "noise":
            return coreset.noise(*data)
        case "real":
            return coreset.random_real(*data)
        case "mean":
            return coreset.class_mean(*data)
        case "clusters":
            return coreset.cluster_mean(*data)
        case "herding":
            return coreset.herding(*data[:-1], features_NF)
        case "dm" | "tgdd":
            draw = None
            if recipe.init == "tgdd":
                assert trajectories is not None
                draw = partial(random_snapshot, trajectories)
            matched = _matched(recipe, images_NCHW, labels_N, counts_K, network, draw, g)
            return coreset.with_class_origins(matched, labels_N.cpu(), counts_K)
        case "samples" | "mgd3":
            assert drawn_SCHW is not None
            return coreset.with_class_origins(drawn_SCHW, labels_N.cpu(), counts_K)
        case "correct":
            return coreset.correctly_classified(*data, lambda *images: margin(network, experts_P, *images))


def _matched(
    recipe: Recipe,
    images_NCHW: Tensor,
    labels_N: Tensor,
    counts_K: Sequence[int],
    network: Network,
    draw: Callable[[int], Tensor] | None,
    g: torch.Generator,
) -> Tensor:
    """Return the images of distribution matching."""
    options = DistributionMatching(iterations=DM_ITERATIONS, augmentation=replace(recipe.augmentation, shared=True))
    seed = int(torch.randint(2**31, (1,), generator=g))
    *_, (_, _, matched) = distribution_matching(options, network, images_NCHW, labels_N, counts_K, seed, draw)
    return matched


def random_snapshot(trajectories: Trajectories, seed: int) -> Tensor:
    """Return theta_P of a random expert after a random epoch or at its start."""
    g = generator(seed, "snapshot")
    expert, epoch = (
        int(torch.randint(count, (1,), generator=g))
        for count in (trajectories.num_experts, trajectories.num_epochs + 1)
    )
    return trajectories(expert, epoch)


@torch.no_grad()
def margin(network: Network, experts_P: Sequence[Tensor], images_NCHW: Tensor, labels_N: Tensor) -> Tensor:
    """Return the true class's logit minus the largest other [N], mean over experts.

    Positive means classified correctly; then at least one expert is right.
    """

    def own_less_others(logits_NK: Tensor) -> Tensor:
        own_N1 = labels_N[:, None].to(logits_NK.device)
        others_NK = logits_NK.scatter(1, own_N1, -torch.inf)
        return logits_NK.gather(1, own_N1).squeeze(1) - others_NK.amax(dim=1)

    return torch.stack([own_less_others(network(theta_P.to(images_NCHW), images_NCHW)) for theta_P in experts_P]).mean(
        dim=0
    )


def initial_labels(
    recipe: Recipe,
    chosen: Coreset,
    counts_K: Sequence[int],
    network: Network,
    experts_P: Sequence[Tensor],
    votes_NK: Tensor | None = None,
) -> Tensor:
    """Return the initial labels [S, K]: probabilities, or logits if labels are soft.

    votes_NK: class probabilities of the training images, needed if `recipe.needs_votes`. A
    synthetic image gets the mean over its origins.
    """
    source = recipe.label_init if recipe.labels == "soft" else recipe.labels
    if source == "experts":
        return expert_labels(chosen.images_SCHW, counts_K, network, experts_P)
    if source == "votes":
        assert votes_NK is not None
        p_SK = chosen.mean(votes_NK).to(chosen.images_SCHW)
    else:
        p_SK = hard_labels(counts_K).to(chosen.images_SCHW)
    return p_SK.clamp_min(LEAST_PROBABILITY).log() if recipe.labels == "soft" else p_SK


def hard_labels(counts_K: Sequence[int]) -> Tensor:
    """Return one-hot rows [S, K], sorted by class."""
    return one_hot(classes_of(counts_K), len(counts_K))


@torch.no_grad()
def expert_labels(
    images_SCHW: Tensor, counts_K: Sequence[int], network: Network, experts_P: Sequence[Tensor]
) -> Tensor:
    """Return the mean logits [S, K] of the experts that classify the image correctly.

    These are DATM's initial labels (Guo et al. 2024, arXiv:2310.05773). If no expert is right, all
    are averaged, and the logit of the true class is raised to the largest.
    """
    labels_S, hard_SK = classes_of(counts_K).to(images_SCHW.device), hard_labels(counts_K).to(images_SCHW)
    logits_ESK = torch.stack([network(theta_P.to(images_SCHW), images_SCHW) for theta_P in experts_P])
    right_ES1 = (logits_ESK.argmax(dim=2) == labels_S).to(logits_ESK)[..., None]
    any_S1 = right_ES1.sum(dim=0) > 0
    chosen = (logits_ESK * right_ES1).sum(dim=0) / right_ES1.sum(dim=0).clamp_min(1)
    mean_SK = logits_ESK.mean(dim=0)
    lifted = torch.where(hard_SK > 0, mean_SK.amax(dim=1, keepdim=True), mean_SK)
    return torch.where(any_S1, chosen, lifted)
