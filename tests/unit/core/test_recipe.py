"""Recipes that cannot be, each refused in a sentence."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from raydistill.core.recipe import SGD, Recipe


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
def test_a_recipe_that_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(Recipe(), **change)


def test_whole_epochs_are_all_that_sgd_has() -> None:
    with pytest.raises(ValueError, match="start_epochs: continuous goes with trajectories: straight"):
        replace(Recipe(), start_epochs="continuous")


@pytest.mark.parametrize(
    ("epoch", "ahead", "steps"),
    [(35, 2, 23), (35, 1, 12), (8, 1, 10), (195, 2, 50), (pytest.param(30, 1, 10, id="exactly a third"))],
)
def test_steps_left_to_auto_are_a_third_of_the_experts(epoch: int, ahead: int, steps: int) -> None:
    recipe = Recipe(student_steps="auto", expert_epochs=ahead)
    assert recipe.stepping(epoch).num_steps == steps
    with pytest.raises(ValueError, match="student_steps is auto"):
        _ = recipe.num_steps


def test_steps_that_are_given_stay() -> None:
    recipe = Recipe(student_steps=7)
    assert recipe.stepping(1000) is recipe
    assert recipe.num_steps == 7


@pytest.mark.parametrize(
    ("given", "num_images", "seen"),
    [
        ({"images_per_class": 1, "batch_size": "auto"}, 9, 9),
        ({"images_per_class": 10, "batch_size": "auto"}, 50, 25),
        ({"images_per_class": 3, "batch_size": "auto"}, 15, 7),
        ({"images_per_class": 10, "batch_size": None}, 50, 50),
        ({"images_per_class": 10, "batch_size": 20}, 50, 20),
        ({"images_per_class": 1, "batch_size": 20}, 5, 5),
    ],
)
def test_a_student_step_sees_as_many_images(given: dict[str, Any], num_images: int, seen: int) -> None:
    assert Recipe(**given).batch_of(num_images) == seen
