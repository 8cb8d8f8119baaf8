"""What ends a distilling run, and what to change before the next: NaN, or a student's learning rate beyond all bounds."""

from __future__ import annotations

import math

from raydistill.core.recipe import Recipe
from raydistill.errors import DivergenceError

# Experts are trained at 1e-3 to 1e-1; a student outside of this has lost its expert for good.
STUDENT_LR_RANGE = (1e-7, 1.0)


def check_finite(
    loss: float, gradient_norm: float, student_lr: float, recipe: Recipe, image_lr: float, iteration: int
) -> None:
    """DivergenceError unless an iteration's figures are such that one may go on. image_lr: NaN while it is not chosen."""
    where = f"distill, iteration {iteration}"
    if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
        chosen = not math.isnan(image_lr)
        fix = f"lower distill.student_lr (now {student_lr:.3g})"
        if chosen:
            fix += f" or distill.image_step.lr (now {image_lr:.3g})"
        if chosen and recipe.image_step.kind == "sgd":
            fix += ", or use distill.image_step={kind: adam, lr: 0.03}"
        what = f"the matching loss or its gradient is not finite (loss {loss:.3g}, gradient {gradient_norm:.3g})"
        raise DivergenceError(what, where, fix)
    low, high = STUDENT_LR_RANGE
    if not low <= student_lr <= high:
        direction = "up" if student_lr > high else "down"
        raise DivergenceError(
            f"the student's learning rate ran {direction} to {student_lr:.3g}, outside [{low:g}, {high:g}]",
            where,
            f"lower distill.lr_step.lr (now {recipe.lr_step.lr:.3g}), or start from another distill.student_lr",
        )
