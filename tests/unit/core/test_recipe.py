"""Recipes that cannot be, each refused in a sentence."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from raydistill.core.recipe import Recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images_per_class": 0}, "images_per_class must be positive"),
        ({"student_lr": -0.1}, "student_lr must be positive, got -0.1"),
        ({"student_lr": math.nan}, "student_lr must be positive, got nan"),
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
