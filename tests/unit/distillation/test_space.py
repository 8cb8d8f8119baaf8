"""Spaces of images: round trips, exact gradients, equal bits after resumption."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from raydistill.distillation.distiller import Distiller
from raydistill.distillation.options import SGD, ImageComponents, ImagePixels, ImagePyramid, MatchTrajectories
from raydistill.distillation.recipe import Recipe
from raydistill.distillation.space import Components, Pyramid, Space, Tiles, gradient, image_space
from raydistill.learning.augment import Augmentation
from raydistill.learning.networks import build_network
from raydistill.learning.normalise import Normalisation, Whitening, one_hot
from tests import zoo

IMAGES = zoo.normal(0, 8, 3, zoo.SIZE, zoo.SIZE)
DECAY = 0.85 ** torch.arange(40.0, dtype=torch.float64)  # as the components of galaxies do
REAL = (zoo.normal(2, 40, 40) * DECAY @ zoo.normal(4, 40, 3 * zoo.SIZE**2)).unflatten(1, (3, zoo.SIZE, zoo.SIZE))
WIDE = Normalisation((0.5, 0.5, 0.5), (0.05, 0.05, 0.05))  # black and white at -10 and 10


def components(count: int = 30, normalisation: Normalisation = WIDE) -> Components:
    return Components.fit(REAL, count, normalisation, seed=0)


def test_a_factor_of_one_changes_nothing() -> None:
    space = Tiles()
    assert space.decode(IMAGES) is IMAGES
    assert space.encode(IMAGES) is IMAGES
    assert torch.equal(gradient(space, IMAGES, IMAGES), IMAGES)


def test_images_of_one_value_are_stored_in_their_tile_and_formed_again() -> None:
    flat = torch.arange(8.0)[:, None, None, None].expand(8, 3, zoo.SIZE, zoo.SIZE)
    stored = Tiles(2).encode(flat)
    assert stored.shape == (2, 3, zoo.SIZE, zoo.SIZE)
    half = zoo.SIZE // 2
    assert stored[1, 0, 0, 0] == 4
    assert stored[1, 0, 0, half] == 5
    assert stored[1, 0, half, 0] == 6
    torch.testing.assert_close(Tiles(2).decode(stored), flat)


@pytest.mark.parametrize(
    "space",
    [
        Tiles(2),
        components(),
        components(normalisation=Normalisation((0.5,) * 3, (0.4,) * 3)),
        Pyramid.of(IMAGES, WIDE),
        Pyramid.of(IMAGES, WIDE, decorrelated=False),
        Pyramid.of(IMAGES, Normalisation((0.5,) * 3, (0.4,) * 3)),
    ],
)
def test_gradient_is_that_of_autograd(space: Space) -> None:
    stored = space.encode(IMAGES).requires_grad_()
    weights = zoo.normal(1, *IMAGES.shape)
    (expected,) = torch.autograd.grad((space.decode(stored) * weights).sum(), stored)
    torch.testing.assert_close(gradient(space, stored.detach(), weights), expected)


@pytest.mark.parametrize(("images", "factor"), [(IMAGES[:6], 2), (IMAGES, 3)])
def test_images_that_do_not_fit_are_rejected(images: torch.Tensor, factor: int) -> None:
    with pytest.raises(ValueError, match=f"multi_formation = {factor} needs a multiple"):
        Tiles(factor).encode(images)
    with pytest.raises(ValueError, match="images_per_class must be a multiple of 4 for multi_formation = 2, got 3"):
        Recipe(images_per_class=3, multi_formation=2)


def test_components_are_those_of_a_full_decomposition_with_unit_variance() -> None:
    space = components(count=10)
    flat = REAL.flatten(1)
    _, values, axes = torch.linalg.svd(flat - flat.mean(dim=0), full_matrices=False)
    torch.testing.assert_close(space.variances_K, values[:10] ** 2 / len(flat))
    ours = space.axes_KD / space.axes_KD.norm(dim=1, keepdim=True)
    torch.testing.assert_close((ours * axes[:10]).sum(dim=1).abs(), torch.ones(10, dtype=torch.float64))
    stored = space.encode(REAL)
    torch.testing.assert_close(stored.square().mean(dim=0), torch.ones(10, dtype=torch.float64))
    torch.testing.assert_close(space.encode(space.decode(stored)), stored)


def test_all_components_give_the_images_again_and_never_more_than_their_rank() -> None:
    space = components(count=1000)
    assert len(space.axes_KD) == len(REAL) - 1
    torch.testing.assert_close(space.decode(space.encode(REAL)), REAL)


def test_decoded_values_are_those_of_pictures() -> None:
    narrow = Normalisation((0.5, 0.4, 0.3), (0.4, 0.4, 0.4))
    pixels = narrow.invert(components(normalisation=narrow).decode(zoo.normal(3, 5, 30)))
    assert pixels.min() == pytest.approx(0, abs=1e-6)
    assert pixels.max() == pytest.approx(1, abs=1e-6)
    unit = torch.eye(3 * zoo.SIZE**2)
    whitening = Whitening(torch.zeros(len(unit)), unit, unit, eps=0.1)
    space = Components.fit(REAL, 30, whitening, seed=0)
    far = space.decode(space.encode(100 * IMAGES))
    assert far.abs().max() > 50


def test_the_seed_draws_the_images_of_a_large_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raydistill.distillation.space.MOST_IMAGES", 20)
    first, again, other = (Components.fit(REAL, 5, WIDE, seed) for seed in (0, 0, 1))
    assert torch.equal(first.axes_KD, again.axes_KD)
    assert not torch.equal(first.axes_KD, other.axes_KD)


NETWORK = build_network(zoo.NETWORKS["mlp"], zoo.CLASSES, zoo.SIZE)
EXPERTS = zoo.experts(NETWORK, num_experts=2, num_epochs=4)
RECIPE = Recipe(
    images_per_class=4, student_steps=2, student_lr=0.05, ema=0.5, augmentation=Augmentation(), iterations=20
)


def distiller(kind: str, **options: Any) -> Distiller:
    images = zoo.normal(9, 4 * zoo.CLASSES, 3, zoo.SIZE, zoo.SIZE, dtype=torch.float32)
    labels = one_hot(torch.arange(zoo.CLASSES).repeat_interleave(4), zoo.CLASSES)
    if kind == "tiles":
        recipe, space = replace(RECIPE, multi_formation=2), None
    else:
        recipe = replace(RECIPE, space=ImageComponents(components=12))
        space = Components.fit(REAL.float(), 12, WIDE, seed=0)
    return Distiller(replace(recipe, **options), NETWORK, EXPERTS, images, labels, 0, space=space)


@pytest.mark.parametrize(
    ("kind", "shape"), [("tiles", (zoo.CLASSES, 3, zoo.SIZE, zoo.SIZE)), ("components", (4 * zoo.CLASSES, 12))]
)
def test_stored_values_are_learned_and_their_images_are_published(kind: str, shape: tuple[int, ...]) -> None:
    run = distiller(kind)
    before = run.stored.clone()
    for _ in range(3):
        run.step()
    assert run.stored.shape == shape
    assert not torch.equal(run.stored, before)
    assert run.published_images.shape == (4 * zoo.CLASSES, 3, zoo.SIZE, zoo.SIZE)


def test_shrinkage_adds_the_gradient_of_the_mean_squared_norm() -> None:
    """A step of plain SGD moves by the learning rate times the gradient."""
    step = SGD(lr=0.1, momentum=0.0)
    plain = distiller("components", image_step=step)
    shrunk = distiller("components", image_step=step, objective=MatchTrajectories(shrinkage=0.5))
    before = plain.stored.detach().clone()
    plain.step()
    shrunk.step()
    (theirs,) = torch.autograd.grad(0.5 * (z := before.requires_grad_()).square().sum(dim=1).mean(), z)
    torch.testing.assert_close(plain.stored - shrunk.stored, 0.1 * theirs)
    assert theirs.abs().max() > 0.01


@pytest.mark.parametrize("kind", ["tiles", "components"])
def test_resumed_run_continues_bit_for_bit(kind: str) -> None:
    whole, first, second = distiller(kind), distiller(kind), distiller(kind)
    for _ in range(6):
        whole.step()
    for _ in range(2):
        first.step()
    second.load_state_dict(*first.state_dict())
    for _ in range(4):
        second.step()
    assert torch.equal(whole.published_images, second.published_images)


def test_a_recipe_with_components_needs_them() -> None:
    images = zoo.normal(9, zoo.CLASSES, 3, zoo.SIZE, zoo.SIZE, dtype=torch.float32)
    recipe = Recipe(student_steps=2, student_lr=0.05, space=ImageComponents())
    with pytest.raises(ValueError, match=r"give the space, `image_space`"):
        Distiller(recipe, NETWORK, EXPERTS, images, one_hot(torch.arange(zoo.CLASSES), zoo.CLASSES), 0)
    with pytest.raises(ValueError, match="multi_formation goes with space: pixels"):
        Recipe(images_per_class=4, multi_formation=2, space=ImageComponents())


@pytest.mark.parametrize("side", [1, 2, 5, 8, 12, 16])
def test_pyramid_forms_every_image_again(side: int) -> None:
    images = zoo.normal(3, 4, 3, side, side)
    space = Pyramid.of(images, WIDE)
    assert space.sides[-1] == side
    assert space.encode(images).shape[1] == sum(3 * level**2 for level in space.sides)
    torch.testing.assert_close(space.decode(space.encode(images)), images)


def test_coarsest_level_of_a_pyramid_moves_the_whole_image() -> None:
    space = Pyramid.of(IMAGES, WIDE, decorrelated=False)
    stored = space.encode(IMAGES)
    stored[:, :3] += 0.5
    torch.testing.assert_close(space.decode(stored), IMAGES + 0.5)


def test_values_of_a_pyramid_stay_in_the_range_of_pictures() -> None:
    narrow = Normalisation((0.5,) * 3, (0.4,) * 3)
    images = Pyramid.of(IMAGES, narrow).decode(5 * Pyramid.of(IMAGES, narrow).encode(IMAGES))
    assert images.min() == pytest.approx(-1.25)
    assert images.max() == pytest.approx(1.25)


def test_space_is_that_of_the_recipe() -> None:
    assert image_space(ImagePixels(), IMAGES, WIDE, 0) is None
    assert isinstance(image_space(ImagePyramid(), IMAGES, WIDE, 0), Pyramid)
    found = image_space(ImageComponents(components=7), REAL, WIDE, 0)
    assert isinstance(found, Components)
    assert len(found.axes_KD) == 7


def test_colours_of_a_pyramid_are_uncorrelated() -> None:
    images = IMAGES.clone()
    images[:, 1] = 0.9 * images[:, 0] + 0.1 * images[:, 1]
    stored = Pyramid.of(images, WIDE).encode(images)
    coarse = Pyramid.of(images, WIDE, decorrelated=False).encode(images)
    values = [part[:, -3 * images.shape[-1] ** 2 :].view(len(images), 3, -1) for part in (stored, coarse)]
    space = Pyramid.of(images, WIDE)
    flat = torch.einsum("dc,schw->sdhw", space.colours_CC.inverse(), images).transpose(0, 1).flatten(1)
    torch.testing.assert_close(flat.cov(), torch.eye(3).to(flat), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(*values)
