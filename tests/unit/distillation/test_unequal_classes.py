"""Classes may have different numbers of images: each stays with its own class."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from raydistill.distillation import difficulty
from raydistill.distillation.characteristic import characteristic_matching
from raydistill.distillation.distribution import distribution_matching
from raydistill.distillation.gradients import gradient_matching
from raydistill.distillation.initial import expert_labels, hard_labels
from raydistill.distillation.options import CharacteristicMatching, DistributionMatching, GradientMatching
from raydistill.learning.architectures import MLP
from raydistill.learning.augment import Augmentation
from raydistill.learning.networks import build_network, initial_parameters
from raydistill.seeding import generator

COUNTS, SIDE = [1, 3, 2], 8
LEVELS = torch.tensor([-2.0, 0.0, 2.0])  # brightness of a class
LABELS = torch.arange(3).repeat(12)
IMAGES = LEVELS[LABELS][:, None, None, None] + 0.1 * torch.randn(
    36, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)
)
NETWORK = build_network(MLP(width=16), 3, SIDE)
PLAIN = Augmentation(shared=True)
OWN = LEVELS.repeat_interleave(torch.tensor(COUNTS))

MATCHING: dict[str, Callable[[], Iterator[tuple[int, float, Tensor]]]] = {
    "dm": lambda: distribution_matching(
        DistributionMatching(iterations=3, augmentation=PLAIN), NETWORK, IMAGES, LABELS, COUNTS, 0
    ),
    "ncfm": lambda: characteristic_matching(
        CharacteristicMatching(iterations=3, training_epochs=1, num_networks=1), PLAIN, NETWORK, IMAGES, LABELS, COUNTS, 0
    ),
    "dsa": lambda: gradient_matching(
        GradientMatching(iterations=3, augmentation=PLAIN), NETWORK, IMAGES, LABELS, COUNTS, 0
    ),
    "idc": lambda: gradient_matching(
        GradientMatching(iterations=3, augmentation=PLAIN, tiles=2), NETWORK, IMAGES, LABELS, COUNTS, 0
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MATCHING)
def test_matched_images_keep_the_brightness_of_their_class(name: str) -> None:
    *_, (_, _, images) = MATCHING[name]()
    brightness = images.mean(dim=(1, 2, 3))
    expected = OWN.repeat_interleave(4) if name == "idc" else OWN
    torch.testing.assert_close(brightness, expected, atol=0.5, rtol=0)


@pytest.mark.parametrize("name", MATCHING)
def test_every_image_is_matched(name: str) -> None:
    first, *_, last = (images.clone() for _, _, images in MATCHING[name]())
    assert (first != last).flatten(1).any(dim=1).all()


def test_crops_of_large_images_are_of_their_class() -> None:
    large = torch.nn.functional.interpolate(IMAGES, scale_factor=9)
    network = build_network(MLP(width=4), 3, large.shape[-1])
    chosen = difficulty.rded(large, LABELS, COUNTS, generator(0), network, [initial_parameters(network, 0)])
    assert chosen.images_SCHW.shape == (6, 3, 72, 72)
    torch.testing.assert_close(chosen.images_SCHW.mean(dim=(1, 2, 3)), OWN, atol=0.5, rtol=0)
    assert [set(LABELS[origins].tolist()) for origins in chosen.origins] == [{0}, {1}, {1}, {1}, {2}, {2}]


def test_labels_of_experts_are_lifted_for_the_own_class() -> None:
    images = torch.zeros(6, 3, SIDE, SIDE)  # no expert can tell them apart, so at most one class is right
    logits = expert_labels(images, COUNTS, NETWORK, [initial_parameters(NETWORK, 0)])
    own = logits.gather(1, hard_labels(COUNTS).argmax(dim=1, keepdim=True))
    torch.testing.assert_close(own[:, 0], logits.amax(dim=1))
