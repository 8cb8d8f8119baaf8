"""Define the config of a run as a tree of dataclasses.

Strategy classes of `core`, `datasets` and `galaxies` are its leaves, so each hyper-parameter has
its documentation and default in one place.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, TypeAdapter

from raydistill.config.audit import Audit
from raydistill.config.generate import Generate
from raydistill.config.kinds import BY_KIND, AnyArchitecture, AnySchedule, AnyStep, infer_kind
from raydistill.config.predict import Predict
from raydistill.config.sample import Sample
from raydistill.config.search import Search
from raydistill.config.survey import CatalogSurvey, Curate
from raydistill.core.architectures import Architecture, ConvNet, Custom
from raydistill.core.augment import Augmentation
from raydistill.core.distribution import DistributionMatching
from raydistill.core.recipe import Recipe
from raydistill.core.schedule import SelfAdaptive
from raydistill.core.training import Training
from raydistill.datasets.arrays import ArraySet
from raydistill.datasets.binary import Cifar10, Cifar100, Idx
from raydistill.datasets.folder import ImageFolder
from raydistill.datasets.table import ImageTable
from raydistill.datasets.torchvision import TorchvisionSet
from raydistill.fields import drop_later_defaults
from raydistill.simulation.config import SimulatedSurvey

Baseline = Literal["random_real", "class_mean", "k_center", "herding", "dm"]


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
    """Train a network on all data, as an expert but with momentum and learning-rate decay."""

    epochs: int = 24
    momentum: float = 0.9
    weight_decay: float = 5e-4
    lr_decay_at: float = 0.7


@dataclass(frozen=True)
class Experts:
    """Set the number and training of the experts.

    Parameters
    ----------
    num_experts
        Number of experts.
    keep
        Stored epochs: "all", or the two "ends" for straight trajectories.
    targets
        Labels of the training galaxies: "hard" classes, or "votes", the volunteers' class
        probabilities.
    training
        Training of each expert.
    """

    num_experts: PositiveInt = 8
    keep: Literal["all", "ends"] = "all"
    targets: Literal["hard", "votes"] = "hard"
    training: ExpertTraining = field(default_factory=ExpertTraining)


@dataclass(frozen=True)
class Distill(Recipe):
    """Extend the recipe with validation during distillation.

    Parameters
    ----------
    schedule
        Window of start epochs.
    image_step
        Optimiser of the images.
    lr_step
        Optimiser of the student learning rates.
    label_step
        Optimiser of the soft labels.
    augmentation
        Augmentation of the synthetic images.
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

    # Declared again to be chosen by kind; the defaults are those of `Recipe`.
    schedule: AnySchedule = field(default_factory=SelfAdaptive)
    image_step: AnyStep = field(default_factory=lambda: Recipe().image_step)
    lr_step: AnyStep = field(default_factory=lambda: Recipe().lr_step)
    label_step: AnyStep = field(default_factory=lambda: Recipe().label_step)
    augmentation: Augmentation = GALAXIES
    seed: int = 0
    validate_every: PositiveInt = 100
    validation_networks: PositiveInt = 3
    validation_epochs: PositiveInt = 300
    picture_every: PositiveInt = 100


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
class Evaluate:
    """Set the training sets, protocols and networks of the evaluation.

    The first protocol and the experts' architecture give the headline figures.

    Parameters
    ----------
    protocols
        Training protocols by name.
    other_networks
        Further architectures, used with the small sets only.
    num_networks
        Fresh networks per training set, and draws of random real images.
    baselines
        Real or matched images to compare with.
    dm
        Distribution matching of the baseline "dm".
    full_data
        Training of the networks on all data.
    full_data_networks
        Number of those networks; 0: none.
    scores
        Also compute the label-robust and augmentation-robust scores of the distilled set
        (`core.scores`). They use the first protocol and the experts' architecture. They need
        further training: distilled images without augmentation and with hard labels, and random
        real images without augmentation.
    """

    protocols: dict[str, Protocol] = field(default_factory=lambda: {"paper": Protocol()})
    other_networks: tuple[AnyArchitecture, ...] = ()
    num_networks: PositiveInt = 5
    baselines: tuple[Baseline, ...] = ("random_real", "class_mean", "k_center")
    dm: DistributionMatching = field(default_factory=DistributionMatching)
    full_data: FullDataTraining = field(default_factory=FullDataTraining)
    full_data_networks: NonNegativeInt = 3
    scores: bool = False

    def __post_init__(self) -> None:
        if not self.protocols:
            raise ValueError("protocols must name at least one; the first gives the headline figures")
        if len(set(self.baselines)) < len(self.baselines):
            raise ValueError(f"baselines must not name one twice, got {', '.join(self.baselines)}")
        if self.scores and not self.full_data_networks:
            raise ValueError("scores compare with networks trained on all the data, but full_data_networks is 0")
        name, first = next(iter(self.protocols.items()))
        if self.scores and not first.training.augmentation.operations:
            raise ValueError(
                f"scores compare the first protocol with itself without augmentation, but '{name}' has none"
            )


@dataclass(frozen=True)
class Resources:
    """Limit the resources of a run.

    Only threads (`worker_threads`, `distill_cpus`) and GPUs change a result: they decide the order
    of sums and the values of `auto`.

    Parameters
    ----------
    address
        Address of a running Ray cluster; "auto" finds a local one. None: RAY_ADDRESS, or else a
        private Ray.
    workers
        Parallel workers; an autoscaling cluster may grow for them. None: the current capacity.
    growth_seconds
        Timeout for a new node if no node fits. Cloud providers take one to four minutes.
    cpus
        CPUs of one worker; fractions are allowed.
    gpus
        GPUs of one worker; fractions are allowed.
    worker_threads
        Torch threads of a worker that trains experts or evaluates.
    distill_cpus
        CPUs of a distilling process, which uses one thread per CPU. None: the CPUs of the largest
        node with these GPUs, divided by `distill.trajectories_per_step`, up to the number that one
        step can use; 1 for a trial of `tune`.
    distill_gpus
        GPUs of a distilling process.
    distill_memory_mb
        Memory in which the exact engine keeps parameters and graphs of student steps, beside the
        memory of one step. If the parameters of all steps do not fit, an iteration takes a quarter
        more time. If `distill.compile` is off, the remaining memory keeps graphs, which saves time.
        None: the parameters of all steps.
    max_restarts
        Worker failures in a row, without progress in between, that a stage restarts from. It fails
        at the next one.
    object_store_mb
        Memory of the object store of a private Ray, which then spills to disk. None: Ray's default.
    checkpoint_seconds
        Minimum time between two checkpoints of a distilling process, or of a generator.

    Notes
    -----
    A megabyte is 2^20 bytes.
    """

    address: str | None = None
    workers: PositiveInt | None = None
    growth_seconds: NonNegativeFloat = 300.0
    cpus: PositiveFloat = 1
    gpus: NonNegativeFloat = 0
    worker_threads: PositiveInt = 1
    distill_cpus: PositiveInt | None = None
    distill_gpus: NonNegativeFloat = 0
    distill_memory_mb: NonNegativeFloat | None = None
    max_restarts: NonNegativeInt = 3
    object_store_mb: PositiveInt | None = 1024
    checkpoint_seconds: NonNegativeFloat = 20.0

    def __post_init__(self) -> None:
        for name, gpus in (("gpus", self.gpus), ("distill_gpus", self.distill_gpus)):
            if gpus > 1 and gpus != int(gpus):
                raise ValueError(f"{name} must be at most 1, or a whole number, got {gpus:g}")


@dataclass(frozen=True)
class Tracking:
    """Configure MLflow.

    Parameters
    ----------
    enabled
        Log runs to MLflow.
    uri
        Tracking server, without a password. None: sqlite:// in the run folder.
    experiment
        Name of the experiment. None: the name of the config.
    """

    enabled: bool = True
    uri: str | None = None
    experiment: str | None = None

    def __post_init__(self) -> None:
        if self.uri and re.search(r"//[^/]*:[^/]*@", self.uri):
            # MLflow's parameters, the best config of a search and logs would contain it.
            raise ValueError("uri must hold no password; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD")


Survey = (
    CatalogSurvey | SimulatedSurvey | ImageFolder | ImageTable | TorchvisionSet | Cifar10 | Cifar100 | Idx | ArraySet
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Define a complete run.

    Parameters
    ----------
    name
        Name of the run and of its folder.
    survey
        Source of the images and labels.
    output
        Folder or URI of all artifacts.
    seed
        Root of all random numbers.
    curate
        Selection of galaxies and pixels.
    network
        Architecture of experts and students.
    experts
        Training of the experts.
    distill
        Distillation recipe.
    evaluate
        Evaluation of the distilled set.
    resources
        Resources of a run.
    tracking
        MLflow.
    distilled
        Evaluate this distilled set instead of the run's own.
    search
        Search of `raydistill tune`.
    predict
        Ensemble and blocks of `raydistill predict`.
    generate
        Generator of `raydistill generate`.
    sample
        Synthetic galaxies of `raydistill sample`.
    audit
        Samples and tests of `raydistill audit`.
    """

    name: str
    survey: Annotated[Survey, BY_KIND, infer_kind(Survey)]
    output: str = "runs"
    seed: int = 0
    curate: Curate = field(default_factory=Curate)
    network: AnyArchitecture = field(default_factory=ConvNet)
    experts: Experts = field(default_factory=Experts)
    distill: Distill = field(default_factory=Distill)
    evaluate: Evaluate = field(default_factory=Evaluate)
    resources: Resources = field(default_factory=Resources)
    tracking: Tracking = field(default_factory=Tracking)
    distilled: str | None = None
    search: Search = field(default_factory=Search)
    predict: Predict = field(default_factory=Predict)
    generate: Generate = field(default_factory=Generate)
    sample: Sample = field(default_factory=Sample)
    audit: Audit = field(default_factory=Audit)


def plain(config: Any) -> Any:
    """Return a config or a part of it as nested dicts, lists and scalars, with all defaults."""
    return _adapter(type(config)).dump_python(config, mode="json")  # type: ignore[arg-type]  # classes are hashable


@functools.cache  # building one takes a tenth of a second for the whole tree
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def identity_part(config: Any) -> Any:
    """Return `plain(config)` without later keys at their defaults: what an identity covers."""
    return drop_later_defaults(config, plain(config))


def sources(*networks: Architecture) -> list[str]:
    """Return the digests of the source files of custom networks, which are part of an artifact's identity."""
    return [network.source_sha256 for network in networks if isinstance(network, Custom)]
