"""Define the config of a run as a tree of dataclasses.

Strategy classes of `core`, `datasets` and `galaxies` are its leaves, so each hyper-parameter has its
documentation and default in one place.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, StrictInt, TypeAdapter

from raydistill.config.kinds import BY_KIND, AnyArchitecture, AnySchedule, AnyStep, infer_kind
from raydistill.config.search import Search
from raydistill.core.architectures import Architecture, ConvNet, Custom
from raydistill.core.augment import Augmentation
from raydistill.core.distribution import DistributionMatching
from raydistill.core.recipe import Recipe
from raydistill.core.schedule import SelfAdaptive
from raydistill.core.training import Training
from raydistill.datasets.binary import Cifar10, Cifar100, Idx
from raydistill.datasets.folder import ImageFolder
from raydistill.datasets.table import ImageTable
from raydistill.datasets.torchvision import TorchvisionSet
from raydistill.galaxies.catalog_schemas import Fractions
from raydistill.galaxies.selection import SPLIT_TOLERANCE
from raydistill.galaxies.sources import FitsImages, FolderImages, ParquetImages
from raydistill.simulation.config import SimulatedSurvey

Baseline = Literal["random_real", "class_mean", "k_center", "herding", "dm"]
Images = FolderImages | ParquetImages | FitsImages
LARGEST_WHITENED = 64  # px: 12,288 values, a matrix of 600 MB and its inverse; 32 px: 38 MB


@dataclass(frozen=True, kw_only=True)
class CatalogSurvey:
    """Describe a survey as a table of votes or labels, and images.

    Parameters
    ----------
    catalog
        CSV, Parquet or FITS table at any URI.
    images
        Location of the images.
    dialect
        Name of the table's column schema, or "auto"; see `galaxies.catalog_schemas`.
    fractions
        Use raw, weighted or debiased vote fractions.
    columns
        Columns of a plain table, e.g. {id: GalaxyID, label: class}.
    frame_r90
        Side of a whole image in units of the galaxy's petroR90_r, if all images are cut so.
        Galaxy Zoo 2: 8.48 for 424 px. The FITS header of the prototypes then has a scale.
    licence, citation
        Stored in the curated set's manifest. The licence also goes into the prototypes' FITS header.
    """

    kind: Literal["catalog"] = "catalog"
    catalog: str
    images: Annotated[Images, BY_KIND, infer_kind(Images)]
    dialect: str = "auto"
    fractions: Fractions = "weighted"
    columns: dict[str, str] = field(default_factory=dict)
    frame_r90: PositiveFloat | None = None
    licence: str = ""
    citation: str = ""


@dataclass(frozen=True)
class Curate:
    """Select classes, galaxies, pixels and splits of a survey.

    Parameters
    ----------
    classes
        "gz2-9", "gz2-5", a YAML file with a class tree, or a list of label names.
        A data set also takes "all", its default.
    image_size
        Side of a curated image in pixels.
    crop_fraction
        Side of the central square, as a fraction of the whole image. The default of a data set is 1.
    align
        Rotate every image so that the galaxy's major axis is horizontal. The default augmentation is then
        `mirror`, because the quarter turns of `dihedral` would undo the alignment.
    thresholds
        "n10" or "n20": every question on a class's path needs enough votes (Willett et al. 2013).
    min_votes
        Minimum number of answers of a galaxy, over all questions.
    min_confidence
        Minimum confidence of a galaxy in its class.
    per_class
        Number of galaxies per class, the most confident first. None: all.
    balance
        Reduce every class to the size of the smallest one.
    split
        Fractions of train, validation and test, by hash of the object id.
        A data set keeps its official splits. Its training part is divided in proportion to the remaining
        fractions, after `per_class` and `balance`.
    min_picture_size
        Minimum side of a source image in pixels. The default of a data set is 8.
    whitening
        "zca": whiten images, as the trajectory-matching papers do for CIFAR.
        None: use the mean and standard deviation of each colour channel. All later stages see whitened images;
        augmentation acts on them.
    whitening_eps
        Added to the pixels' variances, in units where white is 1. The papers' value.
    """

    classes: str | tuple[str | StrictInt, ...] = "gz2-9"
    image_size: int = 32
    crop_fraction: float = 0.5
    align: bool = False
    thresholds: Literal["n10", "n20"] | None = None
    min_votes: float = 0
    min_confidence: float = 0.0
    per_class: PositiveInt | None = None
    balance: bool = False
    split: tuple[float, float, float] = (0.7, 0.15, 0.15)
    min_picture_size: int = 32
    whitening: Literal["zca"] | None = None
    whitening_eps: PositiveFloat = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(f"crop_fraction must lie in (0, 1], got {self.crop_fraction}")
        if self.image_size < 8:
            raise ValueError(f"image_size must be at least 8, got {self.image_size}")
        if min(self.split) <= 0 or not math.isclose(sum(self.split), 1, abs_tol=SPLIT_TOLERANCE):
            raise ValueError(f"split must be three positive fractions that sum to 1, got {list(self.split)}")
        if self.whitening and self.image_size > LARGEST_WHITENED:
            raise ValueError(f"whitening needs an image_size of at most {LARGEST_WHITENED}, got {self.image_size}")


GALAXIES = Augmentation(
    ("dihedral",)
)  # images of the sky have no preferred orientation; DSA's operations are for photographs

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
        Labels of the training galaxies: "hard" classes, or "votes", the volunteers' class probabilities.
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
        Use of the learned learning rates of a distilled set, spread over the first half of the epochs.
        "candidate": next to those of `lr_grid`; "only": alone, as in the papers; "never": not used.
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
        Also compute the label-robust and augmentation-robust scores of the distilled set (`core.scores`).
        They use the first protocol and the experts' architecture. They need further training: distilled images
        without augmentation and with hard labels, and random real images without augmentation.
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
    """Limit the resources of a run. Only threads (`worker_threads`, `distill_cpus`) and GPUs change a result.

    They decide the order of sums and the values of `auto`.

    Parameters
    ----------
    address
        Address of a running Ray cluster; "auto" finds a local one. None: RAY_ADDRESS, or else a private Ray.
    workers
        Parallel workers; an autoscaling cluster may grow for them. None: the current capacity.
    growth_seconds
        Timeout for a new node if no node fits. Cloud providers take one to four minutes.
    cpus, gpus
        CPUs and GPUs of one worker; fractions are allowed.
    worker_threads
        Torch threads of a worker that trains experts or evaluates.
    distill_cpus, distill_gpus
        CPUs and GPUs of a distilling process, which uses one thread per CPU.
        None: the CPUs of the largest node with these GPUs, divided by `distill.trajectories_per_step`, up to
        the number that one step can use.
    distill_memory_mb
        Memory of an iteration of the exact engine, without one student step.
        Less than the parameters of all steps costs a quarter more time. More stores graphs instead of recomputing
        them (if `distill.compile` is off). None: the parameters of all steps.
    max_restarts
        Consecutive worker failures without progress before a stage gives up.
    object_store_mb
        Memory of the object store of a private Ray, which then spills to disk. None: Ray's default.
    checkpoint_seconds
        Minimum time between two checkpoints of a distilling process.

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


Survey = CatalogSurvey | SimulatedSurvey | ImageFolder | ImageTable | TorchvisionSet | Cifar10 | Cifar100 | Idx


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


def plain(config: Any) -> Any:
    """Return a config or a part of it as nested dicts, lists and scalars, with all defaults."""
    return TypeAdapter(type(config)).dump_python(config, mode="json")


def sources(*networks: Architecture) -> list[str]:
    """Return the digests of the source files of custom networks, which are part of an artifact's identity."""
    return [network.source_sha256 for network in networks if isinstance(network, Custom)]
