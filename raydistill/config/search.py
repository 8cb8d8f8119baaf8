"""What `raydistill tune` searches, and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Discriminator, PositiveInt, Tag

from raydistill.config.kinds import BY_KIND, infer_kind
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
class Population:
    """Population-based training (Jaderberg et al. 2017, arXiv:1711.09846): every so many iterations, at a validation, a trial among the
    worst `share` takes over the images of one among the best, and its values with some of them changed. What comes out is a set whose
    values followed a schedule."""

    kind: Literal["pbt"] = "pbt"
    every: PositiveInt = 100
    share: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.share <= 0.5:
            raise ValueError(f"share must lie in (0, 0.5], got {self.share:g}")


def _form(values: Any) -> str:
    return "list" if isinstance(values, list) else "range"


Values = Annotated[Annotated[Range, Tag("range")] | Annotated[list[Any], Tag("list")], Discriminator(_form)]


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
        "tpe": from what earlier trials reached (Optuna's, Bergstra et al. 2011); "random". A population begins with random values.
    stopping
        Which trials end early, or (`Population`) go on with the images of others; None: each is left alone.
    seed
        Of the sampler.
    """

    space: dict[str, Values] = field(default_factory=dict)
    trials: PositiveInt = 24
    sampler: Literal["tpe", "random"] = "tpe"
    stopping: Annotated[Halving | Population, BY_KIND, infer_kind(Halving | Population)] | None = field(
        default_factory=Halving
    )
    seed: int = 0

    def __post_init__(self) -> None:
        for key, values in self.space.items():
            if isinstance(values, list) and len(values) < 2:
                raise ValueError(f"{key} must have two values or more to choose from, got {values}")
            if isinstance(values, list) and isinstance(self.stopping, Population):
                raise ValueError(f"{key} is a list, but a population changes numbers alone, on the way; give a range")
