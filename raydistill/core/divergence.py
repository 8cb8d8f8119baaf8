"""What ends a distilling run, and what to change before the next: NaN, or a student's learning rate beyond all bounds."""

from __future__ import annotations

import math

from raydistill.core.recipe import Recipe
from raydistill.errors import DivergenceError

# Experts are trained at 1e-3 to 1e-1; a student outside of this has lost its expert for good.
STUDENT_LR_RANGE = (1e-7, 1.0)


def check_finite(figures: dict[str, float], student_lr: float, recipe: Recipe, image_lr: float, iteration: int) -> None:
    """DivergenceError unless all figures of an iteration are finite; by name. image_lr: NaN while it is not chosen."""
    if all(map(math.isfinite, figures.values())):
        return
    fix = f"lower distill.student_lr (now {student_lr:.3g})"
    if not math.isnan(image_lr):
        fix += f" or distill.image_step.lr (now {image_lr:.3g})"
        if recipe.image_step.kind == "sgd":
            fix += ", or use distill.image_step={kind: adam, lr: 0.03}"
    found = ", ".join(f"{name} {value:.3g}" for name, value in figures.items())
    what = f"the matching loss or its gradient is not finite ({found})"
    raise DivergenceError(what, _where(iteration), fix)


def check_rate(student_lr: float, recipe: Recipe, iteration: int) -> None:
    """DivergenceError when the student's learning rate has left `STUDENT_LR_RANGE`."""
    low, high = STUDENT_LR_RANGE
    if not low <= student_lr <= high:
        direction = "up" if student_lr > high else "down"
        raise DivergenceError(
            f"the student's learning rate ran {direction} to {student_lr:.3g}, outside [{low:g}, {high:g}]",
            _where(iteration),
            f"lower distill.lr_step.lr (now {recipe.lr_step.lr:.3g}), or start from another distill.student_lr",
        )


def _where(iteration: int) -> str:
    return f"distill, iteration {iteration}"
