"""`auto` step sizes follow from expert displacement and the image gradient scale."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean, geometric_mean
from typing import Any

import pytest
import torch

from raydistill.distillation.distiller import Distiller
from raydistill.distillation.divergence import NotFinite
from raydistill.distillation.options import SGD
from raydistill.distillation.recipe import Recipe
from raydistill.distillation.schedule import Fixed, StepwiseWindow
from raydistill.distillation.segments import FIRST_STEP, RATES_PER_OCTAVE, TARGET_DISPLACEMENT_RATIO, StationaryExperts
from raydistill.distillation.trajectories import InMemoryTrajectories
from raydistill.learning.augment import Augmentation
from raydistill.learning.networks import build_network
from raydistill.learning.normalise import one_hot
from tests import zoo

IMAGES = zoo.normal(0, zoo.CLASSES, 3, zoo.SIZE, zoo.SIZE, dtype=torch.float32)
LABELS = one_hot(torch.arange(zoo.CLASSES), zoo.CLASSES)
NETWORK = build_network(zoo.NETWORKS["mlp"], zoo.CLASSES, zoo.SIZE)
EXPERTS = zoo.experts(NETWORK, num_experts=2, num_epochs=4)
AUTO = Recipe(
    student_steps=2, student_lr="auto", schedule=StepwiseWindow(every=3), augmentation=Augmentation(("dihedral",))
)


def distiller(recipe: Recipe) -> Distiller:
    return Distiller(recipe, NETWORK, EXPERTS, IMAGES, LABELS, seed=0)


def displacement_ratio(lr: float, expert: int, start: int, steps: int, images: torch.Tensor = IMAGES) -> float:
    """Return the displacement of plain gradient descent, divided by the expert's.

    It is computed without the engine.
    """
    theta = start_P = EXPERTS(expert, start)
    for _ in range(steps):
        theta = theta.detach().requires_grad_()
        loss = torch.nn.functional.cross_entropy(NETWORK(theta, images), LABELS)
        theta = theta - lr * torch.autograd.grad(loss, theta)[0]
    return float((theta.detach() - start_P).norm() / (EXPERTS(expert, start + 1) - start_P).norm())


@pytest.mark.parametrize(
    ("schedule", "starts"), [(StepwiseWindow(every=3), [0]), (Fixed(min_start_epoch=1, max_start_epoch=3), [1, 3])]
)
def test_automatic_student_lr_reaches_the_target_displacement_ratio(schedule: Any, starts: list[int]) -> None:
    run = distiller(replace(AUTO, student_steps=5, schedule=schedule, augmentation=Augmentation()))
    with pytest.raises(ValueError, match=r"call Distiller\.begin first"):
        run.shared()
    run.begin(IMAGES[None])
    (rate,) = run.student_lrs.unique().tolist()
    finer = rate * 2 ** (1 / RATES_PER_OCTAVE)
    ratios = [[displacement_ratio(lr, e, start, 5) for e in range(2) for start in starts] for lr in (rate, finer)]
    assert geometric_mean(ratios[0]) <= TARGET_DISPLACEMENT_RATIO < geometric_mean(ratios[1])


def test_typical_sets_take_turns() -> None:
    """Use the first set for the first expert's segments, the second for the second's."""
    other = 3 * IMAGES.flip(0)
    run = distiller(replace(AUTO, student_steps=5, augmentation=Augmentation()))
    run.begin(torch.stack([IMAGES, other]))
    (rate,) = run.student_lrs.unique().tolist()
    finer = rate * 2 ** (1 / RATES_PER_OCTAVE)
    ratios = [[displacement_ratio(lr, 0, 0, 5, IMAGES), displacement_ratio(lr, 1, 0, 5, other)] for lr in (rate, finer)]
    assert geometric_mean(ratios[0]) <= TARGET_DISPLACEMENT_RATIO < geometric_mean(ratios[1])


def test_automatic_student_lr_is_reproducible_and_a_given_one_is_kept() -> None:
    rates = []
    for _ in range(2):
        run = distiller(replace(AUTO, student_steps=20))
        run.begin(IMAGES[None])
        rates.append(float(run.student_lrs[0]))
        run.step()
    assert rates[0] == rates[1]
    run = distiller(replace(AUTO, student_lr=0.05))
    run.begin(IMAGES[None])
    assert run.student_lrs.tolist() == pytest.approx([0.05])


def test_given_rates_need_no_expert_that_moves() -> None:
    still = InMemoryTrajectories([EXPERTS(0, 0).repeat(3, 1)])
    recipe = replace(AUTO, student_lr=0.05)
    run = Distiller(recipe, NETWORK, still, IMAGES, LABELS, seed=0)
    run.begin(IMAGES[None])
    assert [record.skipped for record in run.step()] == [True]
    with pytest.raises(StationaryExperts):
        Distiller(AUTO, NETWORK, still, IMAGES, LABELS, seed=0).begin(IMAGES[None])


def test_overflowing_student_has_an_infinite_displacement_ratio() -> None:
    run = distiller(AUTO)
    run.begin(1e30 * IMAGES[None])
    assert 1e-8 < float(run.student_lrs[0]) < 1e-6


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_automatic_image_lr_moves_pixels_by_the_first_step(momentum: float) -> None:
    """Expect the rate from the RMS of autograd's gradient over the initial segments."""
    recipe = replace(AUTO, student_lr=0.1, augmentation=Augmentation(), image_step=SGD(lr="auto", momentum=momentum))
    run = distiller(recipe)
    run.begin(IMAGES[None])
    squares = []
    for expert in range(2):
        images = IMAGES.clone().requires_grad_()
        theta = start_P = EXPERTS(expert, 0).clone().requires_grad_()
        for _ in range(recipe.student_steps):
            loss = torch.nn.functional.cross_entropy(NETWORK(theta, images), LABELS)
            theta = theta - 0.1 * torch.autograd.grad(loss, theta, create_graph=True)[0]
        matching = (theta - EXPERTS(expert, 1)).square().sum() / (start_P - EXPERTS(expert, 1)).detach().square().sum()
        squares.append(float(torch.autograd.grad(matching, images)[0].square().mean()))
    assert run.image_lr == pytest.approx(FIRST_STEP * (1 - momentum) / fmean(squares) ** 0.5, rel=1e-4)
    run.step()
    moved = (run.images - IMAGES).square().mean().sqrt()
    assert 0.3 * FIRST_STEP * (1 - momentum) < float(moved) < 3 * FIRST_STEP * (1 - momentum)


def test_resumed_run_keeps_the_chosen_image_lr() -> None:
    recipe = replace(AUTO, image_step=SGD(lr="auto"))
    whole, resumed = distiller(recipe), distiller(recipe)
    whole.begin(IMAGES[None])
    whole.step()
    resumed.load_state_dict(*whole.state_dict())
    assert resumed.image_lr == whole.image_lr > 0
    whole.step()
    resumed.step()
    assert torch.equal(resumed.images, whole.images)


def test_image_lr_cannot_be_chosen_if_the_student_overflows() -> None:
    run = distiller(replace(AUTO, student_lr=1e30, image_step=SGD(lr="auto")))
    with pytest.raises(NotFinite) as caught:
        run.begin(IMAGES[None])
    assert caught.value.student_lr == pytest.approx(1e30)
    assert caught.value.image_lr is None


def test_the_first_step_begins_with_the_initial_images() -> None:
    begun, by_itself = (distiller(replace(AUTO, student_steps=5)) for _ in range(2))
    begun.begin(IMAGES[None])
    assert begun.step()[0].loss == by_itself.step()[0].loss
    assert torch.equal(begun.images, by_itself.images)
