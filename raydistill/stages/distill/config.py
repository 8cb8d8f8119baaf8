"""Define the part of a config about distillation."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from pydantic import NonNegativeInt, PositiveInt

from raydistill.config.kinds import BY_KIND, AnyArchitecture, AnySchedule, AnySpace, AnyStep, infer_kind
from raydistill.distillation.options import ImagePixels, MatchTrajectories, OutcomeMatching, RidgeHead
from raydistill.distillation.recipe import Recipe
from raydistill.distillation.schedule import LossWeighted
from raydistill.learning.augment import Augmentation
from raydistill.stages.experts.config import GALAXIES


@dataclass(frozen=True, kw_only=True)
class OutcomeOptions(OutcomeMatching):
    """Set the iterations that match the outcome, not trajectories."""

    # Declared again to be chosen by kind.
    networks: tuple[AnyArchitecture, ...] = ()


@dataclass(frozen=True, kw_only=True)
class HeadOptions(RidgeHead):
    """Match the outcome of a ridge head on frozen features.

    The images train a linear classifier on these features, and no network from scratch. A run takes
    seconds to minutes.

    Parameters
    ----------
    encoders
        Folders of encoders that give the features; `pretrain` is that of the run. Images for several
        suit others better. Empty: the experts give the features.
    """

    encoders: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.encoders)) < len(self.encoders):
            raise ValueError(f"encoders must not name one twice, got {', '.join(self.encoders)}")


Objectives = MatchTrajectories | HeadOptions


@dataclass(frozen=True)
class Distill(Recipe):
    """Extend the recipe with validation during distillation.

    Parameters
    ----------
    outcome
        Match the outcome in the last iterations, see `distillation.outcome`: the loss on real images of a
        fresh network. None: trajectories alone.
    experts
        Numbers of the experts to match, or to take features of, from 0. None: all.
    seed
        Another value gives another run on the same experts.
    validate_every
        Iterations between validations.
    validation_networks
        Fresh networks trained per validation.
    validation_epochs
        Epochs of each validation network.
    picture_every
        Iterations between images of the prototypes.
    """

    expert_epochs: int | Literal["auto"] = "auto"  # `Recipe` alone does not know the steps of an epoch
    # Declared again to be chosen by kind; the defaults are those of `Recipe`.
    schedule: AnySchedule = field(default_factory=LossWeighted)
    image_step: AnyStep = field(default_factory=lambda: Recipe().image_step)
    lr_step: AnyStep = field(default_factory=lambda: Recipe().lr_step)
    label_step: AnyStep = field(default_factory=lambda: Recipe().label_step)
    augmentation: Augmentation = GALAXIES
    outcome: OutcomeOptions | None = None
    space: AnySpace = field(default_factory=ImagePixels)
    objective: Annotated[Objectives, BY_KIND, infer_kind(Objectives)] = field(default_factory=MatchTrajectories)
    experts: tuple[NonNegativeInt, ...] | None = None
    seed: int = 0
    validate_every: PositiveInt = 100
    validation_networks: PositiveInt = 3
    validation_epochs: PositiveInt = 300
    picture_every: PositiveInt = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.encoders and (self.needs_experts or self.init == "tgdd"):
            raise ValueError("objective.encoders replace the experts, which init and labels need here")
        if self.experts is not None and (not self.experts or len(set(self.experts)) < len(self.experts)):
            raise ValueError(f"experts must be different numbers, at least one, got {list(self.experts)}")

    @property
    def encoders(self) -> tuple[str, ...]:
        """Return the folders of the encoders in place of experts; empty with experts."""
        return self.objective.encoders if isinstance(self.objective, HeadOptions) else ()

    def without_paths(self) -> Distill:
        """Return the same without the paths of encoders, for an identity."""
        if not isinstance(self.objective, HeadOptions):
            return self
        return replace(self, objective=replace(self.objective, encoders=()))
