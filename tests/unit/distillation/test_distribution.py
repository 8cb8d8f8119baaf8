"""Distribution matching, against the closed form of a linear embedding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from raydistill.distillation import coreset
from raydistill.distillation.distribution import distribution_matching
from raydistill.distillation.options import DistributionMatching
from raydistill.learning.augment import DSA, Augmentation
from raydistill.learning.networks import Network, build_network, embedding, initial_parameters
from raydistill.seeding import fold_in, generator
from tests import zoo


class Times(nn.Module):
    """Times 1: features are pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.factor * pixels


IMAGES, LABELS = zoo.stripes(30)
IMAGES = IMAGES.double()
PROJECTED = Network.of(lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 7, bias=False), nn.Linear(7, zoo.CLASSES)))
PIXELS = Network.of(lambda: nn.Sequential(nn.Flatten(), Times(), nn.Linear(192, zoo.CLASSES)))
PLAIN = Augmentation(shared=True)


def matched(recipe: DistributionMatching, network: Network, *given: Any) -> torch.Tensor:
    *_, (_, _, images) = distribution_matching(recipe, network, *given)
    return images


def mean(images: torch.Tensor, labels: torch.Tensor, k: int) -> torch.Tensor:
    return images[labels == k].mean(dim=0)


@pytest.mark.parametrize("ipc", [1, 3])
def test_one_step_follows_the_gradient_of_the_paper(ipc: int) -> None:
    """psi = W x: dL/dx_cj = -2/ipc W'W (mean of the class - mean of its images)."""
    recipe = DistributionMatching(iterations=1, batch_size=99, lr=0.3, augmentation=PLAIN)
    after = matched(recipe, PROJECTED, IMAGES, LABELS, [ipc] * zoo.CLASSES, 4)
    before = coreset.random_real(IMAGES, LABELS, [ipc] * zoo.CLASSES, generator(4, "initial")).images_SCHW
    W = initial_parameters(embedding(PROJECTED), fold_in(4, 0, "network")).double().view(7, 192)
    for k in range(zoo.CLASSES):
        mine = slice(k * ipc, (k + 1) * ipc)
        away = (mean(IMAGES, LABELS, k) - before[mine].mean(dim=0)).flatten()
        expected = before[mine].flatten(1) + 0.3 * 2 / ipc * (W.T @ W @ away)
        torch.testing.assert_close(after[mine].flatten(1), expected)


def test_embedding_of_given_networks_replaces_new_ones() -> None:
    """Use the drawn network without its last layer as psi of TGDD.

    Here psi is W of the drawn parameters.
    """
    recipe = DistributionMatching(iterations=1, batch_size=99, lr=0.3, augmentation=PLAIN)
    theta_P, seeds = initial_parameters(PROJECTED, 11), []

    def draw(seed: int) -> torch.Tensor:
        seeds.append(seed)
        return theta_P

    after = matched(recipe, PROJECTED, IMAGES, LABELS, [1] * zoo.CLASSES, 4, draw)
    before = coreset.random_real(IMAGES, LABELS, [1] * zoo.CLASSES, generator(4, "initial")).images_SCHW
    W = PROJECTED.layout.split(theta_P)["1.weight"].double()
    for k in range(zoo.CLASSES):
        away = (mean(IMAGES, LABELS, k) - before[k]).flatten()
        torch.testing.assert_close(after[k].flatten(), before[k].flatten() + 0.3 * 2 * (W.T @ W @ away))
    assert seeds == [fold_in(4, 0, "network")]


def test_with_pixels_as_features_it_converges_to_the_class_means() -> None:
    recipe = DistributionMatching(iterations=60, batch_size=99, lr=0.3, momentum=0.0, augmentation=PLAIN)
    steps = list(distribution_matching(recipe, PIXELS, IMAGES, LABELS, [1] * zoo.CLASSES, 0))
    assert [iteration for iteration, _, _ in steps] == list(range(1, 61))
    assert steps[-1][1] < 1e-15 < steps[0][1]
    images = steps[-1][2]
    for k in range(zoo.CLASSES):
        torch.testing.assert_close(images[k], mean(IMAGES, LABELS, k), rtol=0, atol=1e-9)


def test_result_depends_on_the_seed_alone() -> None:
    recipe, network = (
        DistributionMatching(iterations=3, batch_size=4, lr=0.1),
        build_network(zoo.NETWORKS["instance"], 3, zoo.SIZE),
    )
    first, again, other = (
        matched(recipe, network, IMAGES.float(), LABELS, [2] * zoo.CLASSES, seed) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.isfinite().all()


def test_real_and_synthetic_images_get_the_same_augmentation() -> None:
    with pytest.raises(ValueError, match=r"augmentation\.shared must be true"):
        DistributionMatching(augmentation=Augmentation(DSA))
