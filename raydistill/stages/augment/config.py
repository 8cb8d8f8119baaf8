"""Define the config part on training sets augmented with synthetic galaxies."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Gt, Le
from pydantic import PositiveFloat, PositiveInt

from raydistill.config.kinds import AnyArchitecture
from raydistill.learning.architectures import ConvNet
from raydistill.learning.arithmetic import Precision
from raydistill.learning.augment import Augmentation
from raydistill.learning.options import WeightedTraining
from raydistill.stages.experts.config import GALAXIES

Method = Literal[
    "real", "flips", "oversampling", "class_balanced", "focal", "mixup", "cutmix", "real_recombined",
    "synthetic_only", "real_synthetic", "distilled_only", "real_distilled", "generator_labels", "head",
]  # fmt: skip
BASELINES: tuple[Method, ...] = ("real", "flips", "oversampling", "class_balanced", "focal", "mixup", "cutmix")
METHODS: tuple[Method, ...] = (
    *BASELINES[:-1], "synthetic_only", "real_synthetic", "distilled_only", "real_distilled", "generator_labels",
)  # fmt: skip
FEATURE_HEAD: Method = "head"  # on frozen features; not among the default methods, because it needs what gives them
RECOMBINED: Method = "real_recombined"  # parts of the labelled galaxies, put together anew
DISTILLED = "distilled"  # the name of the distilled set among the sources
MIN_SEEDS = 2  # an interval needs two

Probability = Annotated[float, Gt(0), Le(1)]


@dataclass(frozen=True, kw_only=True)
class AugmentTraining(WeightedTraining):
    """Train a classifier for a fixed number of steps, whatever its images.

    The rate is constant and the parameters are averaged, so a point of the curve over the steps is
    the result of a training of that length.
    """

    average: float = 100.0
    augmentation: Augmentation = GALAXIES
    precision: Precision | Literal["auto"] = "auto"


@dataclass(frozen=True)
class Augment:
    """Set the sets, methods and training of `raydistill augment`.

    Parameters
    ----------
    synthetics
        Paths of synthetic sets by the name of their source. The sets of a source are its
        replicates: samples of generators that differ in their seed. Empty: the run's own synthetic
        set, under the name `synthetic`.
    distilled
        Path of a distilled set; null leaves its methods out.
    labelled
        Path of a smaller curated set, whose training galaxies are the labelled ones; null: those of
        the run's own curated set.
    shots
        Numbers of labelled real galaxies of each class, to train with. As many validation galaxies
        choose the settings. A class with fewer keeps all. null: all. The galaxies of a smaller
        number are among those of a larger one.
    methods
        Training sets and losses to compare; docs/how-to/augment.md has the list.
    ratios
        Candidates for the number of synthetic images drawn for each real one of a class. While the
        best one is at an end, one beyond it is tried too.
    min_recognised
        Candidates for a filter: the least probability that the classifier of the method
        `oversampling`, trained on the same real galaxies, gives to the class of a synthetic image.
        null: no filter.
    network
        Architecture of all classifiers.
    training
        Training of all classifiers. `lr_grid` replaces the rate.
    lr_grid
        Candidates for the learning rate.
    head_regularisation
        Candidates for lambda of the method `head` (`raydistill.learning.heads`).
    record_at
        Steps at which the classifiers are evaluated, in addition to the last one.
    focal
        gamma of the method `focal`.
    class_balance
        beta of the method `class_balanced`.
    mixup
        alpha of the method `mixup`.
    cutmix
        alpha of the method `cutmix`.
    seeds
        Number of seeds. A seed decides the real galaxies, the initial parameters and the batches,
        and chooses its own settings.
    """

    synthetics: dict[str, tuple[str, ...]] = field(default_factory=dict)
    distilled: str | None = None
    labelled: str | None = None
    shots: tuple[PositiveInt | None, ...] = (10, 30, 100, None)
    methods: tuple[Method, ...] = METHODS
    ratios: tuple[PositiveFloat, ...] = (0.25, 1.0, 4.0)
    min_recognised: tuple[Probability | None, ...] = (None, 0.5)
    network: AnyArchitecture = field(default_factory=lambda: ConvNet(depth=3, width=32))
    training: AugmentTraining = field(default_factory=AugmentTraining)
    lr_grid: tuple[PositiveFloat, ...] = (0.01, 0.03)
    head_regularisation: tuple[PositiveFloat, ...] = (0.01, 0.1, 1.0, 10.0)
    record_at: tuple[PositiveInt, ...] = (100, 300)
    focal: PositiveFloat = 2.0
    class_balance: Annotated[float, Gt(0)] = 0.99
    mixup: PositiveFloat = 0.2
    cutmix: PositiveFloat = 1.0
    seeds: PositiveInt = 5

    def __post_init__(self) -> None:
        for name in ("shots", "methods", "ratios", "min_recognised", "lr_grid", "head_regularisation"):
            values = getattr(self, name)
            if not values:
                raise ValueError(f"{name} must hold at least one value")
            if len(set(values)) < len(values):
                raise ValueError(f"{name} must not name one twice, got {', '.join(map(_text, values))}")
        self._check_names()
        if not set(self.methods) & set(BASELINES):
            raise ValueError(f"methods must name at least one of {', '.join(BASELINES)}, to compare with")
        if self._filters and "real_synthetic" in self.methods and "oversampling" not in self.methods:
            raise ValueError("min_recognised needs the classifier of oversampling, and methods does not name it")
        if self.class_balance >= 1:
            raise ValueError(f"class_balance must lie in (0, 1), got {self.class_balance:g}")
        if self.seeds < MIN_SEEDS:
            raise ValueError(f"seeds must be at least {MIN_SEEDS}, or no interval can be given, got {self.seeds}")
        if late := [step for step in self.record_at if step >= self.training.steps]:
            raise ValueError(f"record_at must lie below training.steps, which is {self.training.steps}, got {late[0]}")
        if self.training.lr != AugmentTraining().lr:
            raise ValueError(f"training.lr is not used here; give lr_grid: [{self.training.lr:g}]")
        for name in ("focal", "class_balance", "mixup", "cutmix"):
            if getattr(self.training, name):
                raise ValueError(f"training.{name} is not used here; give {name} of the method")

    @property
    def _filters(self) -> bool:
        return any(least is not None for least in self.min_recognised)

    @property
    def recorded(self) -> tuple[int, ...]:
        """Return the steps at which classifiers are evaluated, in order."""
        return tuple(sorted({*self.record_at, self.training.steps}))

    def _check_names(self) -> None:
        for name, paths in self.synthetics.items():
            if not re.fullmatch("[a-z0-9][a-z0-9_-]*", name) or name == DISTILLED:
                raise ValueError(
                    f"synthetics must name sources by small letters, digits, - and _, and not '{DISTILLED}', got '{name}'"
                )
            if not paths:
                raise ValueError(f"synthetics.{name} must hold at least one path")
            if len(set(paths)) < len(paths):
                raise ValueError(f"synthetics.{name} must not name a path twice")


def _text(value: object) -> str:
    return "null" if value is None else str(value)
