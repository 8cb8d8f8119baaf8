"""Images formed from tiles: place, gradient, and the same bits after a resumption."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from raydistill.distillation.distiller import Distiller
from raydistill.distillation.formation import form, form_gradient, store
from raydistill.distillation.recipe import Recipe
from raydistill.learning.augment import Augmentation
from raydistill.learning.networks import build_network
from raydistill.learning.normalise import one_hot
from tests import zoo

IMAGES = zoo.normal(0, 8, 3, zoo.SIZE, zoo.SIZE)


def test_a_factor_of_one_changes_nothing() -> None:
    assert form(IMAGES, 1) is IMAGES
    assert store(IMAGES, 1) is IMAGES
    assert form_gradient(IMAGES, IMAGES, 1) is IMAGES


def test_images_of_one_value_are_stored_in_their_tile_and_formed_again() -> None:
    flat = torch.arange(8.0)[:, None, None, None].expand(8, 3, zoo.SIZE, zoo.SIZE)
    stored = store(flat, 2)
    assert stored.shape == (2, 3, zoo.SIZE, zoo.SIZE)
    half = zoo.SIZE // 2
    assert stored[1, 0, 0, 0] == 4
    assert stored[1, 0, 0, half] == 5
    assert stored[1, 0, half, 0] == 6
    torch.testing.assert_close(form(stored, 2), flat)


def test_gradient_is_that_of_autograd() -> None:
    stored = store(IMAGES, 2).requires_grad_()
    weights = zoo.normal(1, *IMAGES.shape)
    (expected,) = torch.autograd.grad((form(stored, 2) * weights).sum(), stored)
    torch.testing.assert_close(form_gradient(stored.detach(), weights, 2), expected)


@pytest.mark.parametrize(("images", "factor"), [(IMAGES[:6], 2), (IMAGES, 3)])
def test_images_that_do_not_fit_are_rejected(images: torch.Tensor, factor: int) -> None:
    with pytest.raises(ValueError, match=f"multi_formation = {factor} needs a multiple"):
        store(images, factor)
    with pytest.raises(ValueError, match="images_per_class must be a multiple of 4 for multi_formation = 2, got 3"):
        Recipe(images_per_class=3, multi_formation=2)


NETWORK = build_network(zoo.NETWORKS["mlp"], zoo.CLASSES, zoo.SIZE)
EXPERTS = zoo.experts(NETWORK, num_experts=2, num_epochs=4)
RECIPE = Recipe(
    images_per_class=4, multi_formation=2, student_steps=2, student_lr=0.05, ema=0.5, augmentation=Augmentation(), iterations=20
)  # fmt: skip


def distiller() -> Distiller:
    images = zoo.normal(9, 4 * zoo.CLASSES, 3, zoo.SIZE, zoo.SIZE, dtype=torch.float32)
    labels = one_hot(torch.arange(zoo.CLASSES).repeat_interleave(4), zoo.CLASSES)
    return Distiller(RECIPE, NETWORK, EXPERTS, images, labels, 0)


def test_stored_images_are_learned_and_formed_images_are_published() -> None:
    run = distiller()
    before = run.stored.clone()
    for _ in range(3):
        run.step()
    assert run.stored.shape == (zoo.CLASSES, 3, zoo.SIZE, zoo.SIZE)
    assert not torch.equal(run.stored, before)
    assert run.published_images.shape == (4 * zoo.CLASSES, 3, zoo.SIZE, zoo.SIZE)
    torch.testing.assert_close(run.published_images, form(run.average, 2))


def test_resumed_run_continues_bit_for_bit() -> None:
    whole, first, second = distiller(), distiller(), distiller()
    for _ in range(6):
        whole.step()
    for _ in range(2):
        first.step()
    second.load_state_dict(*first.state_dict())
    for _ in range(4):
        second.step()
    assert torch.equal(whole.published_images, second.published_images)
    assert whole.recipe == replace(RECIPE)
