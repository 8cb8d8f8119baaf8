"""Define the part of a config about experts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from raydistill.distillation.snapshots import Snapshots, plan_snapshots
from raydistill.learning.augment import Augmentation
from raydistill.learning.options import Training

Nuisance = Literal["petro_r90", "redshift"]  # numbers of the curated set that should not decide a class

# Images of the sky have no preferred orientation; DSA's operations are for photographs.
GALAXIES = Augmentation(("dihedral",))

# Each use of `Training` has its own defaults: a config that sets one key keeps the others.


@dataclass(frozen=True)
class ExpertTraining(Training):
    """Train an expert with plain SGD.

    It averages the parameters over about an epoch, for a smooth trajectory that can be matched.
    """

    epochs: int = 16
    batch_size: int = 64
    sampling: Literal["shuffle", "balanced"] = "balanced"
    class_weights: bool = False
    average: float = 1.0
    augmentation: Augmentation = GALAXIES


@dataclass(frozen=True)
class Decompose:
    """Train experts whose classes depend less on a nuisance.

    A second head recognises the nuisance during training and is not stored. A penalty makes the
    gradients of both heads orthogonal (`learning.decomposition`).

    Parameters
    ----------
    nuisance
        Column of the curated set. "petro_r90": apparent size. "redshift".
    bins
        Number of bins that the head tells apart. They are quantiles within each class.
    weight
        Weight of the nuisance's cross entropy.
    penalty
        Weight of the mean squared cosine of the gradients.
    """

    nuisance: Nuisance = "petro_r90"
    bins: int = 4
    weight: NonNegativeFloat = 1.0
    penalty: NonNegativeFloat = 1.0

    def __post_init__(self) -> None:
        if self.bins < 2:
            raise ValueError(f"bins must be at least 2, got {self.bins}")


@dataclass(frozen=True)
class Experts:
    """Set the number and training of the experts.

    Parameters
    ----------
    num_experts
        Number of experts.
    keep
        Stored epochs: "all", or the two "ends" for straight trajectories.
    snapshot_steps
        Largest number of SGD steps between two stored snapshots. "auto": an epoch, or an equal part
        of it with at most 75 steps, because a student cannot follow thousands. null: an epoch.
        `distill` counts snapshots as epochs.
    max_snapshots
        Snapshots of each expert where an epoch has several. If the training has more, the first
        half is stored densely and the rest at growing distances.
    targets
        Labels of the training galaxies. "hard": classes. "votes": the volunteers' class
        probabilities. "counts": the votes on each question of the classes' paths, learned by their
        Dirichlet-multinomial likelihood (`learning.dirichlet`).
    training
        Training of each expert.
    decompose
        Train a second head for a nuisance beside the classes. None: classes alone.
    seed
        Another number gives other initial parameters and batches; 0: those of the config's seed.
    """

    num_experts: PositiveInt = 8
    keep: Literal["all", "ends"] = "all"
    targets: Literal["hard", "votes", "counts"] = "hard"
    training: ExpertTraining = field(default_factory=ExpertTraining)
    decompose: Decompose | None = None
    snapshot_steps: PositiveInt | Literal["auto"] | None = "auto"
    max_snapshots: PositiveInt = 200
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        if self.targets == "counts" and self.decompose is not None:
            raise ValueError("decompose needs targets hard or votes, got counts")
        if self.max_snapshots < 2:
            raise ValueError(f"max_snapshots must be at least 2, got {self.max_snapshots}")

    @property
    def needs_votes(self) -> bool:
        """Return whether the targets are votes."""
        return self.targets != "hard"

    def snapshots(self, num_images: int) -> Snapshots:
        """Return when the parameters are stored, for a training on this number of images."""
        steps = self.training.steps_per_epoch(num_images)
        return plan_snapshots(self.training.epochs, steps, self.snapshot_steps, self.max_snapshots)
