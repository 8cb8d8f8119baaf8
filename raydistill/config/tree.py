"""The tree of a whole run. The strategy classes of `core` and `galaxies` are its leaves, so a hyper-parameter is documented and
defaulted in one place."""

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
LARGEST_WHITENED = 64  # px: 12,288 pixels and colours, a matrix of 600 MB and its inverse; 32 px: 38 MB


@dataclass(frozen=True, kw_only=True)
class CatalogSurvey:
    """A survey as a user has it: a table of votes or labels, and pictures.

    Parameters
    ----------
    catalog
        CSV, Parquet or FITS table at any URI.
    images
        Where the pictures are.
    dialect, fractions, columns
        How the table names its columns, see `galaxies.catalog_schemas`; columns of a plain table, e.g. {id: GalaxyID, label: class}.
    frame_r90
        Side of a whole picture in units of the galaxy's petroR90_r, where all pictures are cut so (8.48 for the 424 px of Galaxy
        Zoo 2); the prototypes' FITS header then has a scale.
    licence, citation
        Carried along into the curated set's manifest, and the licence into the prototypes' FITS header.
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
    """What becomes of the survey: classes, which galaxies, which pixels, which split.

    classes: "gz2-9", "gz2-5", a YAML file with a class tree, or a list of the names of labels; for a data set "all" too, its default.
    crop_fraction: side of the central square that is kept, of the whole picture's; of a data set's by default all. align: turn every
    picture so that its galaxy's long axis lies level; augmentation left alone is then `mirror`, in the place of `dihedral`, whose quarter
    turns would undo it. per_class: the most confident so many of each class, any so many where all are equally so (None: all). balance:
    cut every class to the smallest one's size. min_picture_size: px; smaller ones are rejected; of a data set by default 8.
    split: fractions of train, validation and test, by hash of the object id. A data set keeps its official splits, whole; its training
    part is divided among the others in the proportion of their fractions, after `per_class` and `balance`.
    thresholds: "n10" or "n20", which demand of every question on a class's path that enough volunteers came to it (Willett et al. 2013).
    min_votes: answers of a galaxy, over all questions. min_confidence: of a galaxy in its class.
    whitening: "zca", as the trajectory-matching papers whiten CIFAR; None: mean and deviation of each colour channel. Everything made
    from this survey then sees whitened images, and augmentation acts on those. whitening_eps: added to the pixels' variances, in units
    where white is 1; the papers' value.
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


GALAXIES = Augmentation(("dihedral",))  # the sky has no upper side; DSA's operations are for photographs

# A default of its own for each use of `Training`: a config that names one key of it keeps the rest of that recipe.


@dataclass(frozen=True)
class ExpertTraining(Training):
    """Plain SGD and the average of its parameters over about an epoch: a smooth trajectory, which can be matched."""

    epochs: int = 16
    batch_size: int = 64
    sampling: Literal["shuffle", "balanced"] = "balanced"
    class_weights: bool = False
    average: float = 1.0
    augmentation: Augmentation = GALAXIES


@dataclass(frozen=True)
class ProtocolTraining(Training):
    """The papers' protocol for small sets."""

    epochs: int = 1000
    momentum: float = 0.9
    weight_decay: float = 5e-4
    lr_decay_at: float = 0.5
    class_weights: bool = False
    augmentation: Augmentation = GALAXIES


@dataclass(frozen=True)
class FullDataTraining(ExpertTraining):
    """A network trained well on everything: as an expert, but with momentum and a decay, which need not be matched."""

    epochs: int = 24
    momentum: float = 0.9
    weight_decay: float = 5e-4
    lr_decay_at: float = 0.7


@dataclass(frozen=True)
class Experts:
    """How many experts, how each is trained, and what is kept of it: "all" epochs, or the two "ends" (for straight trajectories).

    targets: what an expert is taught of a galaxy: "hard", its class, or "votes", the volunteers' probability of each class.
    """

    num_experts: PositiveInt = 8
    keep: Literal["all", "ends"] = "all"
    targets: Literal["hard", "votes"] = "hard"
    training: ExpertTraining = field(default_factory=ExpertTraining)


@dataclass(frozen=True)
class Distill(Recipe):
    """The recipe, and how its progress is judged on validation images.

    seed: another run on the same experts. validate_every: iterations between validations, each of which trains `validation_networks`
    fresh networks for `validation_epochs`. picture_every: iterations between pictures of the prototypes.
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
    """How a fresh network is trained on a small set.

    lr_grid: rates of which the one that is best on validation images is taken, or up to three beyond an end as long as the best lies
    there (not where it is the only one).
    learned_lr: what becomes of the learning rates that a distilled set brings, spread over the first half of the epochs as the papers do:
    a "candidate" beside those of `lr_grid`, the "only" one, as in the papers, or "never" used.
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
    """Which training sets are compared, how, and on which networks.

    The first protocol and the experts' own architecture give the headline figures. other_networks: further architectures, which
    only the small sets meet. num_networks: fresh networks per subject, and draws of random real images.
    dm: how the baseline "dm" matches distributions. full_data: how the networks of the subject `full_data` are trained,
    `full_data_networks` of them (0: none).
    scores: also the label-robust and the augmentation-robust score of the distilled set (`core.scores`), under the first protocol and on
    the experts' architecture. Trains what these need besides: the distilled images without augmentation and, where their labels are soft,
    with hard ones; random real images without augmentation.
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
            raise ValueError("protocols must name at least one, the first gives the headline figures")
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
    """What a run may use. Only threads (`worker_threads`, `distill_cpus`) and GPUs change a result: they decide the order of sums, and
    what `auto` settles.

    address: of a running Ray cluster ("auto" finds a local one); None: RAY_ADDRESS, or else a private one on this machine.
    workers: parallel workers, for which a cluster with autoscaling may grow; None: as many as its machines carry now. growth_seconds: how
    long to wait for a machine that carries one, where none is there yet; clouds bring one in one to four minutes.
    cpus, gpus: of one worker, fractions allowed. worker_threads: torch threads of an expert's or evaluation's worker.
    distill_cpus, distill_gpus: of a distilling process, which uses as many threads as CPUs; None: those of the largest machine that
    has the GPUs, divided by `distill.trajectories_per_step`, as far as a step's arithmetic keeps them busy. distill_memory_mb: what an
    iteration of the exact engine may keep beside the work of one student step: less than the parameters of all steps costs a quarter
    more time, more is spent on graphs that are then not recomputed (where `distill.compile` is off); None: the parameters of all steps.
    max_restarts: how often in a row workers may be lost, with nothing done in between, before a stage gives up.
    object_store_mb: memory of the object store of a private Ray, which spills to disk beyond; None: Ray's choice.
    checkpoint_seconds: at least so long between two states that a distilling process saves. A megabyte is 2^20 bytes.
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
    """MLflow. uri: of the tracking server, without a password; None: sqlite:// under the run folder."""

    enabled: bool = True
    uri: str | None = None
    experiment: str | None = None

    def __post_init__(self) -> None:
        if self.uri and re.search(r"//[^/]*:[^/]*@", self.uri):
            # It would stand in MLflow's parameters, in the best config of a search and in logs.
            raise ValueError("uri must hold no password; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD")


Survey = CatalogSurvey | SimulatedSurvey | ImageFolder | ImageTable | TorchvisionSet | Cifar10 | Cifar100 | Idx


@dataclass(frozen=True, kw_only=True)
class Config:
    """A whole run. `distilled`: evaluate this distilled set instead of the run's own. `search`: for `raydistill tune` alone."""

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
    """A config or any part of it as nested dicts, lists and scalars, with all defaults written out."""
    return TypeAdapter(type(config)).dump_python(config, mode="json")


def sources(*networks: Architecture) -> list[str]:
    """Digests of the files in which networks of one's own are written: part of the identity of what is trained."""
    return [network.source_sha256 for network in networks if isinstance(network, Custom)]
