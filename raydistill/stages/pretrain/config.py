"""Define the part of a config about self-supervised encoders."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import PositiveInt

from raydistill.config.kinds import BY_KIND, AnyArchitecture, infer_kind
from raydistill.learning.architectures import PooledConvNet
from raydistill.learning.options import ContrastiveTraining

EXPERTS, OWN = "experts", "pretrain"  # values of `features`: the experts, and the encoder, of the run
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and deviation that most published networks expect


@dataclass(frozen=True)
class Trained:
    """An encoder that is trained here, on the training split without its labels."""

    kind: Literal["trained"] = "trained"


@dataclass(frozen=True)
class GivenWeights:
    """A network that is already trained: `pretrain.network` with given parameters.

    Parameters
    ----------
    weights
        Local safetensors file of the parameters, by name. None: those that `network` has, such as the
        `weights` of a network of timm; other networks keep random ones.
    input_size
        Side in pixels to which pictures are resized for it. None: they keep their size.
    mean, std
        Of the values in [0, 1] on which it was trained, per channel.
    """

    kind: Literal["weights"] = "weights"
    weights: str | None = None
    input_size: PositiveInt | None = None
    mean: tuple[float, float, float] = IMAGENET[0]
    std: tuple[float, float, float] = IMAGENET[1]


@dataclass(frozen=True)
class OnnxFile:
    """A network in an ONNX file, run by onnxruntime (extra `onnx`).

    It takes pictures [N, 3, S, S] and returns features [N, …]. Pictures cannot be distilled for it,
    because it has no gradient.

    Parameters
    ----------
    file
        The local file.
    input_size, mean, std
        As in `GivenWeights`.
    """

    kind: Literal["onnx"] = "onnx"
    file: str = ""
    input_size: PositiveInt | None = None
    mean: tuple[float, float, float] = IMAGENET[0]
    std: tuple[float, float, float] = IMAGENET[1]

    def __post_init__(self) -> None:
        if not self.file:
            raise ValueError("file must name an ONNX file")


@dataclass(frozen=True)
class Embeddings:
    """A table of features that were computed elsewhere, of the objects of a survey.

    It describes these objects alone, so no synthetic picture.

    Parameters
    ----------
    table
        A table of any format, or a folder of tables.
    id
        Its column of object ids. None: the first one.
    vector
        Its column of vectors; or numeric columns by a pattern, such as feat_*, in their order.
    """

    kind: Literal["embeddings"] = "embeddings"
    table: str = ""
    id: str | None = None
    vector: str = "embedding"

    def __post_init__(self) -> None:
        if not self.table:
            raise ValueError("table must name a table of features")


Source = Trained | GivenWeights | OnnxFile | Embeddings


@dataclass(frozen=True)
class Pretrain:
    """Set the encoder of `raydistill pretrain`.

    Parameters
    ----------
    source
        Where it comes from: training, or somebody else.
    network
        Its architecture. The input of the last linear layer are the features.
    training
        Training.
    extra_sets
        Paths of further curated sets whose training pictures are used too. They need the image size
        of the survey's own set. Galaxies of the own validation and test splits are left out.
    probe_every
        Steps between two measurements on validation galaxies.
    record_every
        Steps between two records of the training loss.
    seed
        Root of the training's random numbers, so that another value gives another encoder of the
        same galaxies. None: `seed` of the config.
    members
        Architectures of further encoders, each trained with a seed of its own. An objective for
        `pretrain` has them all.
    """

    source: Annotated[Source, BY_KIND, infer_kind(Source)] = field(default_factory=Trained)
    network: AnyArchitecture = field(default_factory=PooledConvNet)
    training: ContrastiveTraining = field(default_factory=ContrastiveTraining)
    extra_sets: tuple[str, ...] = ()
    probe_every: PositiveInt = 250
    record_every: PositiveInt = 25
    seed: int | None = None
    members: tuple[AnyArchitecture, ...] = ()

    def __post_init__(self) -> None:
        if self.members and not isinstance(self.source, Trained):
            raise ValueError("members are trained; give encoders of others by their folders")
        if len(set(self.extra_sets)) < len(self.extra_sets):
            raise ValueError(f"extra_sets must not name one twice, got {', '.join(self.extra_sets)}")

    @property
    def networks(self) -> tuple[AnyArchitecture, ...]:
        """Return the architectures of all encoders."""
        return self.network, *self.members

    @property
    def file(self) -> tuple[str, str] | None:
        """Return path and key of the file that the source names, if it names one."""
        match self.source:
            case GivenWeights(weights=str(path)):
                return path, "pretrain.source.weights"
            case OnnxFile(file=path):
                return path, "pretrain.source.file"
            case Embeddings(table=path):
                return path, "pretrain.source.table"
        return None

    def identifying(self) -> dict[str, Any]:
        """Return what determines the encoder; the content of files is added to it."""
        match self.source:
            case GivenWeights():
                return {"source": replace(self.source, weights=None), "network": self.network}
            case OnnxFile():
                return {"source": asdict(self.source) | {"file": ""}}
            case Embeddings():
                return {"source": asdict(self.source) | {"table": ""}}
        return {
            "pretrain": {key: value for key, value in asdict(replace(self, extra_sets=())).items() if key != "members"}
        }
