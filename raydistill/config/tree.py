"""Define the config of a run as a tree of dataclasses.

Strategy classes of `core`, `datasets` and `galaxies` are its leaves, so each hyper-parameter has
its documentation and default in one place.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, make_dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import TypeAdapter

from raydistill import table
from raydistill.config.differences import ShownByDifferences
from raydistill.config.kinds import BY_KIND, AnyArchitecture, infer_kind, with_added
from raydistill.config.resources import Resources, Tracking
from raydistill.datasets.arrays import ArraySet
from raydistill.datasets.binary import Cifar10, Cifar100, Idx
from raydistill.datasets.folder import ImageFolder
from raydistill.datasets.table import ImageTable
from raydistill.datasets.torchvision import TorchvisionSet
from raydistill.errors import ConfigError
from raydistill.learning.architectures import Architecture, ClassifierArchitecture, ConvNet
from raydistill.simulation.config import SimulatedSurvey
from raydistill.stages.adapt.config import Adapt
from raydistill.stages.analyse.config import Analyse
from raydistill.stages.audit.config import Audit
from raydistill.stages.augment.config import Augment
from raydistill.stages.curate.config import CatalogSurvey, Curate
from raydistill.stages.detect.config import Detect
from raydistill.stages.distill.config import Distill
from raydistill.stages.evaluate.config import Evaluate
from raydistill.stages.experts.config import Experts
from raydistill.stages.generate.config import Generate
from raydistill.stages.hunt.config import Hunt
from raydistill.stages.predict.config import Predict
from raydistill.stages.pretrain.config import EXPERTS, Pretrain
from raydistill.stages.sample.config import Sample
from raydistill.stages.similar.config import Similar
from raydistill.stages.tune.config import Search

MAX_NAME = 100  # bytes
EXTENDED = "ExtendedConfig"
Surveys = (
    CatalogSurvey | SimulatedSurvey | ImageFolder | ImageTable | TorchvisionSet | Cifar10 | Cifar100 | Idx | ArraySet
)
if TYPE_CHECKING:
    Survey = Surveys
else:
    Survey = with_added(Surveys, "raydistill.surveys")


@dataclass(frozen=True, kw_only=True, repr=False)
class Config(ShownByDifferences):
    """Define a complete run.

    Parameters
    ----------
    name
        Name of the run and of its folder below `output`. It is not a path: at most 100 bytes, no
        slash, no control character, and no dot or tilde at its start.
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
    features
        What describes pictures to predict, hunt, similar, analyse, augment, audit and generate:
        `experts`, the last layer's input of the first expert; `pretrain`, the encoder of this run;
        or the folder of an encoder.
    predict
        Ensemble and blocks of `raydistill predict`.
    pretrain
        Encoder of `raydistill pretrain`.
    generate
        Generator of `raydistill generate`.
    sample
        Synthetic galaxies of `raydistill sample`.
    audit
        Samples and tests of `raydistill audit`.
    hunt
        Search for rare objects of `raydistill hunt`.
    similar
        Galaxies to compare with of `raydistill similar`.
    augment
        Sets, methods and training of `raydistill augment`.
    adapt
        Networks of `raydistill adapt`.
    detect
        Fields, detector and frames of `raydistill detect`.
    analyse
        Samples and tests of `raydistill analyse`.
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
    features: str = EXPERTS
    predict: Predict = field(default_factory=Predict)
    pretrain: Pretrain = field(default_factory=Pretrain)
    generate: Generate = field(default_factory=Generate)
    sample: Sample = field(default_factory=Sample)
    audit: Audit = field(default_factory=Audit)
    detect: Detect = field(default_factory=Detect)
    hunt: Hunt = field(default_factory=Hunt)
    augment: Augment = field(default_factory=Augment)
    similar: Similar = field(default_factory=Similar)
    adapt: Adapt = field(default_factory=Adapt)
    analyse: Analyse = field(default_factory=Analyse)

    def __post_init__(self) -> None:
        _check_name(self.name)

    @property
    def networks(self) -> tuple[ClassifierArchitecture, ...]:
        """Return the architectures of the evaluation, that of the experts first."""
        return (self.network, *self.evaluate.other_networks)

    @property
    def trained_networks(self) -> tuple[Architecture, ...]:
        """Return those of them that are trained; none if the evaluation has heads alone."""
        return self.networks if self.evaluate.from_scratch else ()

    @property
    def matched_experts(self) -> tuple[int, ...]:
        """Return the numbers of the experts that a distillation uses."""
        return self.distill.experts or tuple(range(self.experts.num_experts))

    def searched(self, survey: str | None) -> str | None:
        """Return the survey of a search: that of its own key, or else that of `predict`."""
        return survey or self.predict.survey

    @property
    def headline(self) -> tuple[str, str]:
        """Return the names of the protocol and the network of the headline figures."""
        return self.evaluate.first_protocol[0], self.network.name


@functools.cache
def config_class() -> type[Config]:
    """Return `Config` with a field for each stage that another package adds.

    It is made when the first config is read, because modules of such stages import configs.
    """
    parts = {stage.name: table.resolve(stage.config) for stage in table.stages().values() if stage.config is not None}
    if not parts:
        return Config
    added = [(name, part, field(default_factory=part)) for name, part in parts.items()]
    namespace = {"__module__": __name__}
    return make_dataclass(EXTENDED, added, bases=(Config,), frozen=True, kw_only=True, repr=False, namespace=namespace)


def __getattr__(name: str) -> type[Config]:
    if name == EXTENDED:  # a worker looks for the class of a config by its name
        return config_class()
    raise AttributeError(name)


def _check_name(name: str) -> None:
    """Raise ConfigError unless a name can be that of a folder on every file system."""
    is_path = any(sign in name for sign in "/\\") or name.startswith((".", "~"))
    if not name.strip() or is_path or not name.isprintable() or len(name.encode()) > MAX_NAME:
        what = f"{name[:MAX_NAME]!r} is not a name"
        fix = f"give 1 to {MAX_NAME} letters, digits and blanks; the folder is that of output"
        raise ConfigError(what, "name", fix)


def plain(config: Any) -> Any:
    """Return a config or part as nested dicts, lists and scalars, with all defaults."""
    return _adapter(type(config)).dump_python(config, mode="json")  # type: ignore[arg-type]  # classes are hashable


@functools.cache  # building one takes a tenth of a second for the whole tree
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def sources(*networks: Architecture) -> list[str]:
    """Return the digests of files that are part of an artifact's identity.

    These are the code of custom networks and the weights of timm.
    """
    digests = [getattr(network, "source_sha256", "") for network in networks]
    return [digest for digest in digests if digest]
