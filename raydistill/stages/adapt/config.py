"""Define the part of a config about the adaptation to another survey."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Gt, Lt
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from raydistill.config.kinds import AnyArchitecture
from raydistill.learning.architectures import MLP, ConvNet
from raydistill.learning.augment import Augmentation
from raydistill.learning.checks import at_least, at_least_0_below_1, not_negative, positive
from raydistill.learning.options import WeightedTraining
from raydistill.stages.experts.config import GALAXIES

# Define the hyper-parameters of aligning two surveys (`stages.adapt.alignment`).


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """How the features of two surveys are aligned.

    Parameters
    ----------
    strength
        Size of the alignment loss relative to the task's loss. 0: no alignment.
    blur
        Blur of the Sinkhorn divergence, as a fraction of the largest distance between features.
    reach
        Largest distance, as the same kind of fraction, over which features are matched; farther
        ones, such as those of a class that the source lacks, stay unmatched. None: all are matched,
        which also equates the proportions of classes.
    entropy
        Weight of the entropy separation. 0: none.
    margin
        Distance of the entropy from log(K) / 2 [nat], below which an image is left alone.
    warmup
        Fraction of the steps before the alignment and the entropy separation start.
    """

    strength: float = 1.0
    blur: float = 0.05
    reach: float | None = None
    entropy: float = 0.0
    margin: float = 0.5
    warmup: float = 0.5

    def __post_init__(self) -> None:
        not_negative(self, "strength", "entropy", "margin")
        positive(self, "blur")
        at_least(0.01, reach=self.reach)
        at_least_0_below_1(warmup=self.warmup)


MIN_SEEDS = 2  # an interval needs two

Matching = Literal["quantiles", "channels", "none"]
Share = Annotated[float, Gt(0), Lt(1)]


@dataclass(frozen=True, kw_only=True)
class AdaptTraining(WeightedTraining):
    """Train every network for the same number of steps."""

    lr_decay_at: float = 0.7
    average: float = 10.0
    augmentation: Augmentation = GALAXIES


@dataclass(frozen=True)
class Adapt:
    """Set the classes, training sets and networks of `raydistill adapt`.

    Parameters
    ----------
    target
        The survey to adapt to: its config or the name of a shipped one, or the folder of its
        curated set. Its labels train the upper bound and score the result; nothing else uses them.
    classes
        Class of the source for a class of the target of another name. null: the source lacks the
        class, so its galaxies are to be rejected. A class that is left out has its name in both.
    synthetics
        Paths of synthetic sets of the source. They are added to its galaxies in a further training
        set.
    synthetic_share
        Share of the synthetic images among the drawn ones.
    distilled
        Path of a distilled set of the source, which is a further training set.
    features
        Networks take the features of the encoder that `features` of the config names, in place of
        pictures. `network` must be an mlp, and features are not augmented.
    network
        Architecture of all networks.
    training
        Training of all networks. `lr_grid` replaces the rate.
    lr_grid
        Candidates for the learning rate, chosen on validation galaxies of the source. That of the
        upper bound is chosen on those of the target.
    alignment
        Alignment of the features. `strengths` replaces its strength.
    strengths
        Candidates for the strength of the alignment. The largest one is taken whose accuracy on
        validation galaxies of the source falls by at most `max_source_loss`; otherwise the
        smallest.
    max_source_loss
        Largest loss of balanced accuracy on the source.
    matching
        How the target's pictures are matched with the source's, without labels: "quantiles" gives
        the pixels of each channel the source's distribution, "channels" its mean and deviation.
        "none": they stay as they are.
    seeds
        Networks of each kind.
    """

    target: str | None = None
    classes: dict[str, str | None] = field(default_factory=dict)
    synthetics: tuple[str, ...] = ()
    synthetic_share: Share = 0.5
    distilled: str | None = None
    features: bool = False
    network: AnyArchitecture = ConvNet(depth=3, width=32)
    training: AdaptTraining = field(default_factory=AdaptTraining)
    lr_grid: tuple[PositiveFloat, ...] = (0.01, 0.03)
    alignment: Alignment = field(default_factory=Alignment)
    strengths: tuple[PositiveFloat, ...] = (0.03, 0.1, 0.3)
    max_source_loss: NonNegativeFloat = 0.01
    matching: Matching = "quantiles"
    seeds: PositiveInt = 3

    def __post_init__(self) -> None:
        if self.seeds < MIN_SEEDS:
            raise ValueError(f"seeds must be at least {MIN_SEEDS}, because an interval needs two, got {self.seeds}")
        if self.features and not isinstance(self.network, MLP):
            raise ValueError(f"features need network: {{kind: mlp}}, and got {self.network.name}")
        for name in ("lr_grid", "strengths"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} must hold at least one number, each once, got {list(values)}")
        if self.training.lr != AdaptTraining().lr:
            raise ValueError(f"training.lr is not used here; give lr_grid: [{self.training.lr:g}]")
        if self.alignment.strength != Alignment().strength:
            raise ValueError(f"alignment.strength is not used here; give strengths: [{self.alignment.strength:g}]")
