"""What `raydistill tune` searches, and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import PositiveInt

from raydistill.core.checks import positive


@dataclass(frozen=True, kw_only=True)
class Range:
    """The numbers from low to high, both included; whole ones where both ends are. log: uniform in the logarithm."""

    low: int | float
    high: int | float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"low must be below high, got {self.low:g} and {self.high:g}")
        if self.log:
            positive(self, "low")

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


@dataclass(frozen=True, kw_only=True)
class Halving:
    """Asynchronous successive halving (ASHA, Li et al. 2020, arXiv:1810.05934): after `grace` iterations, and after each `reduction`
    times as many, a trial goes on only if it is among the best 1 / `reduction` of those that came so far."""

    kind: Literal["asha"] = "asha"
    grace: PositiveInt = 100
    reduction: float = 3.0

    def __post_init__(self) -> None:
        if not self.reduction > 1:
            raise ValueError(f"reduction must be above 1, got {self.reduction:g}")


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search over recipes, judged by balanced accuracy on validation images; all trials match the same experts.

    Parameters
    ----------
    space
        By key of `distill`: a `Range`, or a list of values. {student_steps: {low: 10, high: 40}, init: [real, noise],
        image_step.lr: {low: 0.01, high: 0.1, log: true}}.
    trials
        Recipes tried.
    sampler
        "tpe": from what earlier trials reached (Optuna's, Bergstra et al. 2011); "random".
    stopping
        Which trials end early; None: none.
    """

    space: dict[str, Range | list[Any]] = field(default_factory=dict)
    trials: PositiveInt = 24
    sampler: Literal["tpe", "random"] = "tpe"
    stopping: Halving | None = field(default_factory=Halving)
    seed: int = 0

    def __post_init__(self) -> None:
        for key, values in self.space.items():
            if isinstance(values, list) and len(values) < 2:
                raise ValueError(f"{key} must have two values or more to choose from, got {values}")
