"""Recipes: values that are rejected, and how "auto" is resolved."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydistill.distillation.options import SGD
from raydistill.distillation.recipe import Recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images_per_class": 0}, "images_per_class must be positive"),
        ({"student_lr": -0.1}, "student_lr must be positive, got -0.1"),
        ({"student_lr": math.nan}, "student_lr must be positive, got nan"),
        ({"student_steps": 0}, "student_steps must be positive, got 0"),
        ({"lr_step": SGD(lr="auto")}, "lr_step: lr must be a number; auto is for image_step"),
        ({"label_step": SGD(lr="auto")}, "label_step: lr must be a number; auto is for image_step"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0; null takes all images"),
        ({"label_init": "votes"}, "label_init: votes goes with labels: soft; labels: hard are not learned"),
        ({"label_init": "hard", "labels": "votes"}, "label_init: hard goes with labels: soft"),
        ({"ema": 1.0}, r"ema must lie in \[0, 1\)"),
        ({"engine": "unrolled", "compile": True}, "compile goes with engine: exact"),
    ],
)
def test_invalid_recipes_are_rejected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(Recipe(), **change)


def test_continuous_start_epochs_need_straight_trajectories() -> None:
    with pytest.raises(ValueError, match="start_epochs: continuous goes with trajectories: straight"):
        replace(Recipe(), start_epochs="continuous")


@pytest.mark.parametrize(
    ("epoch", "ahead", "single", "several", "longer"),
    [
        (35, 2, 18, 23, 35),
        (35, 1, 10, 12, 18),
        (8, 1, 10, 10, 10),
        (195, 2, 50, 50, 50),
        (60, 1, 15, 20, 30),
        (30, 1, 10, 10, 15),
    ],
)
def test_automatic_student_steps_are_a_share_of_the_experts_steps(
    epoch: int, ahead: int, single: int, several: int, longer: int
) -> None:
    recipe = Recipe(student_steps="auto", expert_epochs=ahead)
    for images_per_class, expected in ((1, single), (10, several)):
        resolved = replace(recipe, images_per_class=images_per_class).resolved(epoch)
        assert (resolved.student_steps, resolved.longer_student_steps) == (expected, longer)
    with pytest.raises(ValueError, match="student_steps is auto"):
        recipe.resolved()


@pytest.mark.parametrize(("epoch", "ahead"), [(48, 2), (24, 3), (75, 1), (3750, 1), (4, 12)])
def test_automatic_expert_epochs_have_about_75_steps(epoch: int, ahead: int) -> None:
    recipe = Recipe(student_steps="auto", expert_epochs="auto")
    assert recipe.resolved(epoch, epochs=24).expert_epochs == ahead
    with pytest.raises(ValueError, match="expert_epochs is auto"):
        recipe.resolved()
    assert recipe.resolved(epoch, epochs=1).expert_epochs == 1


def test_given_student_steps_are_kept() -> None:
    recipe = Recipe(student_steps=7)
    assert recipe.resolved(1000).options is recipe
    assert recipe.resolved(1000).student_steps == recipe.resolved().student_steps == 7
    assert recipe.resolved(1000).longer_student_steps == 7


def test_rates_that_the_distiller_chooses_are_none() -> None:
    resolved = Recipe(student_steps=7, student_lr="auto", image_step=SGD(lr="auto")).resolved()
    assert (resolved.student_lr, resolved.image_lr) == (None, None)
    resolved = Recipe(student_steps=7, student_lr=0.1, image_step=SGD(lr=100.0)).resolved()
    assert (resolved.student_lr, resolved.image_lr) == (0.1, 100.0)


@pytest.mark.parametrize(
    ("options", "num_images", "batch"),
    [
        ({"images_per_class": 1, "batch_size": "auto"}, 9, 9),
        ({"images_per_class": 10, "batch_size": "auto"}, 50, 25),
        ({"images_per_class": 3, "batch_size": "auto"}, 15, 7),
        ({"images_per_class": 10, "batch_size": None}, 50, 50),
        ({"images_per_class": 10, "batch_size": 20}, 50, 20),
        ({"images_per_class": 1, "batch_size": 20}, 5, 5),
    ],
)
def test_number_of_images_per_student_step(options: dict[str, Any], num_images: int, batch: int) -> None:
    assert Recipe(**options).batch_of(num_images) == batch


def test_counts_are_equal_by_default() -> None:
    assert Recipe(images_per_class=3).counts([100, 1, 7]) == (3, 3, 3)


@pytest.mark.parametrize(
    ("totals", "expected"),
    [
        ([100, 100, 100], (10, 10, 10)),
        ([1340, 974, 892, 479, 55], (18, 13, 12, 6, 1)),
        ([1000, 1, 1, 1], (37, 1, 1, 1)),
        ([0, 10, 10], (1, 15, 14)),
    ],
)
def test_counts_by_frequency_follow_the_training_images(totals: list[int], expected: tuple[int, ...]) -> None:
    counts = Recipe(images_per_class=10, allocation="frequency").counts(totals)
    assert counts == expected
    assert sum(counts) == 10 * len(totals)


@given(st.lists(st.integers(1, 10_000), min_size=2, max_size=12), st.integers(2, 20))
def test_larger_classes_have_no_fewer_images(totals: list[int], ipc: int) -> None:
    counts = Recipe(images_per_class=ipc, allocation="frequency").counts(totals)
    assert min(counts) >= 1
    assert sum(counts) == ipc * len(totals)
    for one, other in itertools.combinations(range(len(totals)), 2):
        if totals[one] > totals[other]:
            assert counts[one] >= counts[other]


@pytest.mark.parametrize("options", [{"images_per_class": 4, "multi_formation": 2}, {"images_per_class": 1}])
def test_frequency_needs_several_whole_images(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="allocation: frequency needs several images_per_class"):
        Recipe(**options, allocation="frequency")  # type: ignore[arg-type]
