"""Check what ends a distillation: non-finite figures, student rate out of range."""

from __future__ import annotations

import math

from raydistill.errors import DivergenceError

# Experts are trained at 1e-3 to 1e-1; a student outside of this range cannot follow its expert.
STUDENT_LR_RANGE = (1e-7, 1.0)


class NotFinite(DivergenceError):
    """The matching loss or its gradient is not finite.

    Parameters
    ----------
    figures
        The loss and gradient norm, by name.
    student_lr, image_lr
        Learning rates of the student and the images. image_lr is None while it is not chosen.
    iteration
        Number of the iteration.
    """

    def __init__(self, figures: dict[str, float], student_lr: float, image_lr: float | None, iteration: int) -> None:
        self.figures, self.student_lr, self.image_lr, self.iteration = figures, student_lr, image_lr, iteration
        values = ", ".join(f"{name} {value:.3g}" for name, value in figures.items())
        super().__init__(
            f"the matching loss or its gradient is not finite ({values})",
            f"iteration {iteration}",
            "lower the learning rate of the student or of the images",
        )
        self.args = (figures, student_lr, image_lr, iteration)


class StudentLrOutOfRange(DivergenceError):
    """The student's learning rate has left `STUDENT_LR_RANGE`."""

    def __init__(self, student_lr: float, iteration: int) -> None:
        self.student_lr, self.iteration = student_lr, iteration
        low, high = STUDENT_LR_RANGE
        direction = "up" if student_lr > high else "down"
        super().__init__(
            f"the student's learning rate ran {direction} to {student_lr:.3g}, outside [{low:g}, {high:g}]",
            f"iteration {iteration}",
            "lower the step of the student's learning rate, or start from another rate",
        )
        self.args = (student_lr, iteration)


def check_finite(figures: dict[str, float], student_lr: float, image_lr: float | None, iteration: int) -> None:
    """Raise NotFinite unless all figures of an iteration are finite."""
    if not all(map(math.isfinite, figures.values())):
        raise NotFinite(figures, student_lr, image_lr, iteration)


def check_student_lr(student_lr: float, iteration: int) -> None:
    """Raise StudentLrOutOfRange if the student's rate has left `STUDENT_LR_RANGE`."""
    low, high = STUDENT_LR_RANGE
    if not low <= student_lr <= high:
        raise StudentLrOutOfRange(student_lr, iteration)
