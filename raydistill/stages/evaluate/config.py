"""Define the part of a config about the evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from raydistill.config.kinds import AnyArchitecture, added
from raydistill.distillation.options import CharacteristicMatching, DistributionMatching, GradientMatching
from raydistill.distillation.recipe import Drawn
from raydistill.learning.augment import Augmentation
from raydistill.learning.options import Training
from raydistill.stages.experts.config import GALAXIES, ExpertTraining, Nuisance

MATCHED = ("dm", "dsa", "idc")  # baselines with an augmentation of their own
BASELINES = "raydistill.baselines"  # entry points of other packages
ShippedBaseline = Literal[
    "random_real", "random_soft", "class_mean", "cluster_mean", "k_center", "herding", "moderate", "el2n", "el2n_window",
    "forgetting", "rded", "dm", "ncfm", "dsa", "idc", "samples", "mgd3",
]  # fmt: skip
if TYPE_CHECKING:
    Baseline = str
else:
    Baseline = Literal[(*get_args(ShippedBaseline), *added(BASELINES))]


@dataclass(frozen=True)
class ProtocolTraining(Training):
    """Train on a small set by the papers' protocol."""

    epochs: int = 1000
    momentum: float = 0.9
    weight_decay: float = 5e-4
    lr_decay_at: float = 0.5
    class_weights: bool = False
    augmentation: Augmentation = GALAXIES


@dataclass(frozen=True)
class FullDataTraining(ExpertTraining):
    """Train on all data like an expert, but with momentum and learning-rate decay."""

    epochs: int = 24
    momentum: float = 0.9
    weight_decay: float = 5e-4
    lr_decay_at: float = 0.7


@dataclass(frozen=True)
class Protocol:
    """Set how fresh networks are trained on a small set.

    Parameters
    ----------
    training
        Training of each network. `lr_grid` replaces its learning rate.
    learned_lr
        Use of the learned learning rates of a distilled set, spread over the epochs before the
        decay. "candidate": next to those of `lr_grid`; "only": alone, as in the papers; "never":
        not used.
    lr_grid
        Learning rates. The best one on validation images is used. If it is at an end of the grid,
        up to three further rates beyond that end are tried. A grid of one rate is not extended.
    """

    training: ProtocolTraining = field(default_factory=ProtocolTraining)
    learned_lr: Literal["candidate", "only", "never"] = "candidate"
    lr_grid: tuple[PositiveFloat, ...] = (0.001, 0.003, 0.01, 0.03)

    def __post_init__(self) -> None:
        if not self.lr_grid:
            raise ValueError("lr_grid must hold at least one learning rate")
        if self.training.lr != ProtocolTraining().lr:
            raise ValueError(f"training.lr is not used here; give lr_grid: [{self.training.lr:g}]")


@dataclass(frozen=True)
class GroupOptions:
    """Report completeness of groups: the galaxies of a class in a bin of a nuisance.

    Parameters
    ----------
    columns
        Nuisances of the curated set. "petro_r90": apparent size. "redshift".
    bins
        Bins of each nuisance, at the quantiles of the test galaxies.
    min_galaxies
        Test galaxies of a group that can be the worst one.
    """

    columns: tuple[Nuisance, ...] = ("petro_r90", "redshift")
    bins: int = 4
    min_galaxies: PositiveInt = 10

    def __post_init__(self) -> None:
        if not self.columns or len(set(self.columns)) < len(self.columns):
            raise ValueError(f"columns must name each nuisance once, got [{', '.join(self.columns)}]")
        if self.bins < 2:
            raise ValueError(f"bins must be at least 2, got {self.bins}")


@dataclass(frozen=True)
class Evaluate:
    """Set the training sets, protocols and networks of the evaluation.

    The first protocol and the experts' architecture give the headline figures.

    Parameters
    ----------
    protocols
        Training protocols by name.
    from_scratch
        Train networks. False: evaluate only the heads of a set that was distilled for heads.
    other_networks
        Further architectures, used with the small sets only.
    encoders
        Folders of encoders that a set for heads was not made with; `pretrain` is that of the run. The
        table of heads on them shows how such a set transfers.
    num_networks
        Fresh networks per training set, and draws of random real images.
    baselines
        Real or matched images to compare with. "random_soft": random images with soft labels of the
        experts. "moderate", "el2n", "el2n_window", "forgetting" and "rded" ask the experts which images to
        take (`distillation.difficulty`). "samples" and "mgd3" are drawn by the run's generator, which knows
        classes.
    dm
        Distribution matching of the baseline "dm".
    ncfm
        Matching of characteristic functions, the baseline "ncfm". Its augmentation is that of `dm`.
    dsa, idc
        Matching of gradients, the baselines "dsa" and "idc"; the latter stores four images in the
        pixels of one.
    full_data
        Training of the networks on all data.
    full_data_networks
        Number of those networks; 0: none.
    scores
        Also compute the label-robust and augmentation-robust scores of the distilled set and of the
        baselines (`learning.metrics`). They use the first protocol and the experts' architecture. They
        need further training: all small sets without augmentation, and distilled images with hard
        labels.
    groups
        Also report the worst group, and the bias with size and redshift. None: no groups.
    """

    protocols: dict[str, Protocol] = field(default_factory=lambda: {"paper": Protocol()})
    from_scratch: bool = True
    other_networks: tuple[AnyArchitecture, ...] = ()
    encoders: tuple[str, ...] = ()
    num_networks: PositiveInt = 5
    baselines: tuple[Baseline, ...] = ("random_real", "class_mean", "k_center")
    dm: DistributionMatching = field(default_factory=DistributionMatching)
    full_data: FullDataTraining = field(default_factory=FullDataTraining)
    full_data_networks: NonNegativeInt = 3
    scores: bool = False
    groups: GroupOptions | None = None
    ncfm: CharacteristicMatching = CharacteristicMatching()
    dsa: GradientMatching = field(default_factory=GradientMatching)
    idc: GradientMatching = field(
        default_factory=lambda: GradientMatching(
            lr=0.005, steps_per_network=100, network_momentum=0.9, network_weight_decay=5e-4, tiles=2
        )
    )

    def __post_init__(self) -> None:
        if not self.protocols:
            raise ValueError("protocols must name at least one; the first gives the headline figures")
        for name in self.protocols:
            if name in ("", "head") or name.endswith(" without augmentation"):
                raise ValueError(f"protocols must not have the name '{name}', which the report uses itself")
        if len(set(self.baselines)) < len(self.baselines):
            raise ValueError(f"baselines must not name one twice, got {', '.join(self.baselines)}")
        if self.scores and not self.from_scratch:
            raise ValueError("scores compare networks trained from scratch, but from_scratch is false")
        if self.scores and not self.full_data_networks:
            raise ValueError("scores compare with networks trained on all the data, but full_data_networks is 0")
        name, first = self.first_protocol
        if self.scores and not first.training.augmentation.operations:
            raise ValueError(
                f"scores compare the first protocol with itself without augmentation, but '{name}' has none"
            )

    @property
    def draws(self) -> bool:
        """Return whether a generator draws a baseline."""
        return not set(get_args(Drawn)).isdisjoint(self.baselines)

    @property
    def first_protocol(self) -> tuple[str, Protocol]:
        """Return the name and the protocol of the headline figures."""
        return next(iter(self.protocols.items()))

    @property
    def augmentations(self) -> dict[str, Augmentation]:
        """Return the augmentation of each training, by its key below `evaluate`."""
        protocols = {f"protocols.{name}.training": each.training.augmentation for name, each in self.protocols.items()}
        matched = {name: getattr(self, name).augmentation for name in MATCHED}
        return protocols | matched | {"full_data": self.full_data.augmentation}
