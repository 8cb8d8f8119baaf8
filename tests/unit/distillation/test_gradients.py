"""Gradient matching agrees with autograd, and brings the gradients together."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy

from raydistill.distillation.gradients import cosine_distance, gradient_matching
from raydistill.distillation.options import GradientMatching
from raydistill.learning.architectures import ConvNet
from raydistill.learning.augment import Augmentation
from raydistill.learning.networks import Network, build_network, initial_parameters
from tests import zoo

K = zoo.CLASSES
IMAGES, LABELS = zoo.stripes(30)
PLAIN = GradientMatching(iterations=1, batch_size=30, augmentation=Augmentation(shared=True))


def network() -> Network:
    return build_network(ConvNet(depth=2, width=4), K, IMAGES.shape[-1])


def last(recipe: GradientMatching, ipc: int = 1, seed: int = 0) -> tuple[float, Tensor]:
    *_, (_, loss, images) = gradient_matching(recipe, network(), IMAGES, LABELS, [ipc] * K, seed)
    return loss, images.clone()


def test_distance_is_one_minus_cosine_of_each_output_node() -> None:
    net = network()
    one, other = (initial_parameters(net, seed).double() for seed in (0, 1))
    expected = sum(
        (1 - cosine_similarity(a.flatten(1), net.layout.split(other)[name].flatten(1))).sum()
        for name, a in net.layout.split(one).items()
        if a.dim() > 1
    )
    torch.testing.assert_close(cosine_distance(net, one, other), expected, rtol=1e-4, atol=1e-4)
    assert cosine_distance(net, one, 3 * one) < 1e-3


def test_step_follows_the_gradient_of_autograd() -> None:
    """The first step equals one of plain autograd."""
    from raydistill.distillation.coreset import random_real
    from raydistill.seeding import fold_in, generator

    net, seed = network(), 3
    _, images = last(replace(PLAIN, momentum=0.0, lr=0.5), seed=seed)
    start = random_real(IMAGES, LABELS, [1] * K, generator(seed, "initial")).images_SCHW.requires_grad_()
    theta = initial_parameters(net, fold_in(seed, 0, "network")).requires_grad_()
    total = torch.zeros(())
    for label in range(K):
        rows = LABELS.eq(label).nonzero().flatten()
        (real,) = torch.autograd.grad(cross_entropy(net(theta, IMAGES[rows]), LABELS[rows]), theta)
        mine = cross_entropy(net(theta, start[label : label + 1]), torch.tensor([label]))
        (made,) = torch.autograd.grad(mine, theta, create_graph=True)
        total = total + cosine_distance(net, real, made)
    (moved,) = torch.autograd.grad(total, start)
    torch.testing.assert_close(images, (start - 0.5 * moved).detach(), rtol=1e-4, atol=1e-5)


def test_matching_lowers_the_loss() -> None:
    recipe = replace(PLAIN, iterations=40, steps_per_network=40, network_epochs=1, network_lr=1e-6, lr=0.5)
    losses = [loss for _, loss, _ in gradient_matching(recipe, network(), IMAGES, LABELS, [2] * K, 0)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


@pytest.mark.parametrize("tiles", [1, 2])
def test_bits_depend_on_the_seed_alone(tiles: int) -> None:
    recipe = GradientMatching(iterations=3, steps_per_network=2, batch_size=4, tiles=tiles)
    loss, images = last(recipe, 2)
    assert images.shape == (K * 2 * tiles**2, *IMAGES.shape[1:])
    assert torch.equal(images, last(recipe, 2)[1])
    assert not torch.equal(images, last(recipe, 2, seed=1)[1])
    assert torch.isfinite(images).all()
    assert loss > 0


def test_tiles_do_not_fit() -> None:
    with pytest.raises(ValueError, match="multiple of"):
        last(replace(PLAIN, tiles=3))


def test_augmentation_is_shared() -> None:
    with pytest.raises(ValueError, match="shared must be true"):
        GradientMatching(augmentation=Augmentation())
