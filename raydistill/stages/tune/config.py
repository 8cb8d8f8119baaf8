"""Define the search space and the search of `raydistill tune`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Discriminator, PositiveInt, Tag

from raydistill.config.kinds import BY_KIND, infer_kind
from raydistill.learning.checks import positive


@dataclass(frozen=True, kw_only=True)
class Range:
    """Define a range of numbers; whole numbers if both ends are.

    Parameters
    ----------
    low
        Lower end, included.
    high
        Upper end, included.
    log
        Sample uniformly in the logarithm.
    """

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
        """Return whether both ends are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)


@dataclass(frozen=True, kw_only=True)
class Halving:
    """Stop trials by asynchronous successive halving (ASHA).

    Li et al. 2020, arXiv:1810.05934. A trial continues if it is among the best 1 / `reduction` of
    those that reached the same iteration.

    Parameters
    ----------
    grace
        Iterations before the first decision.
    reduction
        Each decision comes after `reduction` times as many iterations as the last.
    """

    kind: Literal["asha"] = "asha"
    grace: PositiveInt = 100
    reduction: float = 3.0

    def __post_init__(self) -> None:
        if not self.reduction > 1:
            raise ValueError(f"reduction must be above 1, got {self.reduction:g}")


@dataclass(frozen=True, kw_only=True)
class Population:
    """Run population-based training (Jaderberg et al. 2017, arXiv:1711.09846).

    At a validation, one of the worst trials copies the images of one of the best, and changes some
    of its values. The result is a set whose values followed a schedule.

    Parameters
    ----------
    every
        Iterations between exchanges.
    share
        Fraction of the trials that counts as worst, and as best.
    """

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
    """Search over recipes by balanced accuracy on validation images.

    All trials match the same experts.

    Parameters
    ----------
    space
        By key of `distill`: a `Range`, or a list of values. {student_steps: {low: 10, high: 40},
        init: [real, noise], image_step.lr: {low: 0.01, high: 0.1, log: true}}.
    trials
        Number of recipes.
    sampler
        "tpe": Optuna's, from the results of earlier trials (Bergstra et al. 2011); "random".
        A population starts with random values.
    stopping
        Stop trials early, or exchange images (`Population`). None: run each trial to its end.
    seed
        Seed of the sampler.
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
                raise ValueError(f"{key} is a list, but population-based training changes numbers only; give a range")
