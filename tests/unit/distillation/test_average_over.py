"""A step that averages over symmetries has the mean gradient of all versions.

It does not matter which version an image is.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from raydistill.distillation.distiller import Distiller
from raydistill.distillation.engines import Unrolled
from raydistill.distillation.matching import Matcher
from raydistill.distillation.recipe import Recipe
from raydistill.distillation.schedule import Fixed
from raydistill.learning.augment import GROUPS, Augmentation, Symmetries
from raydistill.learning.augmenting import orbit
from raydistill.learning.losses import student_loss
from raydistill.learning.networks import build_network
from raydistill.learning.normalise import one_hot
from tests import zoo

SYMMETRIES: list[Symmetries] = ["mirror", "dihedral"]
AUGMENTATIONS = pytest.mark.parametrize("augmentation", zoo.AUGMENTATIONS.values(), ids=zoo.AUGMENTATIONS)


def version(images_BCHW: Tensor, number: int) -> Tensor:
    """Return the images after `number % 4` quarter turns, mirrored from number 4 on."""
    turned = torch.rot90(images_BCHW, number % 4, (2, 3))
    return turned.flip(3) if number >= 4 else turned


def undo(images_BCHW: Tensor, number: int) -> Tensor:
    """Invert `version`."""
    return torch.rot90(images_BCHW.flip(3) if number >= 4 else images_BCHW, -(number % 4), (2, 3))


@pytest.mark.parametrize("symmetries", GROUPS)
def test_orbit_holds_every_version_of_an_image_once(symmetries: Symmetries) -> None:
    images, group = zoo.normal(0, 2, 3, 8, 8), GROUPS[symmetries]
    versions = orbit(images, symmetries).view(2, len(group), 3, 8, 8)
    for place, number in enumerate(group):
        assert torch.equal(versions[:, place], version(images, number))
    assert len({tuple(version.flatten().tolist()) for version in versions[0]}) == len(group)


def test_mirror_keeps_a_horizontal_axis_horizontal_and_dihedral_does_not() -> None:
    edge_on = torch.zeros(1, 1, 8, 8)
    edge_on[..., 3:5, :] = 1
    assert all(torch.equal(pose[None], edge_on) for pose in orbit(edge_on, "mirror"))
    assert sum(torch.equal(pose[None], edge_on) for pose in orbit(edge_on, "dihedral")) == 4


@AUGMENTATIONS
@pytest.mark.parametrize("symmetries", SYMMETRIES)
def test_gradient_of_a_step_is_the_mean_over_the_versions(symmetries: Symmetries, augmentation: Augmentation) -> None:
    problem, group = zoo.problem(zoo.NETWORKS["instance"]), GROUPS[symmetries]
    (batch,) = zoo.batches(augmentation, 1)
    targets, drawn = problem.targets_SK, batch.augmentation

    def gradient(images_BCHW: Tensor, average_over: Symmetries) -> Tensor:
        loss = student_loss(problem.network, augmentation, average_over=average_over)
        value: Tensor = torch.func.grad(loss)(problem.start_P, images_BCHW, targets, drawn)
        return value

    each = [gradient(version(problem.images_SCHW, number), "none") for number in group]
    averaged = gradient(problem.images_SCHW, symmetries)
    assert zoo.relative(averaged, torch.stack(each).mean(dim=0)) < 1e-13
    assert zoo.relative(averaged, each[1]) > 0.01, "one version must not have the mean gradient"


@AUGMENTATIONS
@pytest.mark.parametrize("symmetries", SYMMETRIES)
def test_matching_loss_does_not_depend_on_the_version(symmetries: Symmetries, augmentation: Augmentation) -> None:
    """Give each image another version.

    The loss stays, and the image gradient takes the same version.
    """
    problem, group = zoo.problem(zoo.NETWORKS["instance"]), GROUPS[symmetries]
    numbers = [group[1], group[-1], group[2]]
    start, target, images, *rest = problem.arguments
    others = torch.cat([version(images[n : n + 1], number) for n, number in enumerate(numbers)])
    steps = zoo.batches(augmentation, 3)
    averaging = Matcher(student_loss(problem.network, augmentation, average_over=symmetries))
    first, other = (averaging.match(start, target, given, *rest, steps) for given in (images, others))
    assert float(other.loss) == pytest.approx(float(first.loss), rel=1e-12)
    back = torch.cat([undo(other.d_images_SCHW[n : n + 1], number) for n, number in enumerate(numbers)])
    assert zoo.relative(back, first.d_images_SCHW) < 1e-10
    plain = Matcher(student_loss(problem.network, augmentation))
    losses = [float(plain.match(start, target, given, *rest, steps).loss) for given in (images, others)]
    assert abs(losses[0] - losses[1]) > 1e-6, "without the average the loss must depend on the version"


@pytest.mark.parametrize("symmetries", SYMMETRIES)
def test_exact_equals_unrolled(symmetries: Symmetries) -> None:
    problem, augmentation = zoo.problem(zoo.NETWORKS["two blocks, group"], images=5), zoo.AUGMENTATIONS["DSA, all"]
    loss = student_loss(problem.network, augmentation, average_over=symmetries)
    steps = zoo.batches(augmentation, 3, total=5, size=2)
    first, other = (Matcher(loss, engine).match(*problem.arguments, steps) for engine in (None, Unrolled()))
    for value, reference in zip(first.gradients, other.gradients, strict=True):
        assert zoo.relative(value, reference) < 1e-12


def first_loss(recipe: Recipe, images_SCHW: Tensor) -> float:
    """Return the matching loss of a run's first iteration, started at these images."""
    network = build_network(zoo.NETWORKS["instance"], zoo.CLASSES, zoo.SIZE)
    labels = one_hot(torch.arange(zoo.CLASSES), zoo.CLASSES)
    (record,) = Distiller(recipe, network, zoo.experts(network), images_SCHW, labels, seed=0).step()
    return record.loss


def test_run_uses_the_average_of_its_recipe() -> None:
    images = zoo.normal(0, zoo.CLASSES, 3, zoo.SIZE, zoo.SIZE, dtype=torch.float32)
    plain = Recipe(student_steps=2, student_lr=0.05, schedule=Fixed(max_start_epoch=1), augmentation=Augmentation())
    averaged = replace(plain, average_over="dihedral")
    assert first_loss(averaged, version(images, 5)) == pytest.approx(first_loss(averaged, images), rel=1e-5)
    assert abs(first_loss(plain, version(images, 5)) - first_loss(plain, images)) > 1e-3 * first_loss(plain, images)
