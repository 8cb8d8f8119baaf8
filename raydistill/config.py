"""One typed tree of frozen dataclasses; a YAML file is a whole, named run.

The strategy classes of `core` and `galaxies` are themselves the leaves, so a hyper-parameter is documented and defaulted in one
place. OmegaConf reads the file and the `a.b=c` overrides, pydantic validates; every key that nobody knows is an error that
names the nearest one, in one sentence.
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Union

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, TypeAdapter, ValidationError

from raydistill.core.augment import Augmentation
from raydistill.core.distiller import Recipe
from raydistill.core.networks import Architecture, ConvNet
from raydistill.core.training import Training
from raydistill.errors import ConfigError, nearest, yaml_problem
from raydistill.galaxies.dialects import Fractions
from raydistill.galaxies.images import FitsImages, FolderImages, ParquetImages
from raydistill.galaxies.simulate import SimulatedSurvey

EXTENDS = "extends"  # a config may name another one, relative to itself, whose values it starts from
# The named runs: inside an installed package, or beside it in a checkout.
SHIPPED = (Path(__file__).parent / "configs", Path(__file__).parents[1] / "configs")
Baseline = Literal["random_real", "class_mean", "k_center", "herding"]
Images = FolderImages | ParquetImages | FitsImages


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
        How the table names its columns, see `galaxies.dialects`; columns of a plain table, e.g. {id: GalaxyID, label: class}.
    licence, citation
        Carried along into every artifact's manifest.
    """

    kind: Literal["catalog"] = "catalog"
    catalog: str
    images: Images
    dialect: str = "auto"
    fractions: Fractions = "weighted"
    columns: dict[str, str] = field(default_factory=dict)
    licence: str = ""
    citation: str = ""


@dataclass(frozen=True)
class Curate:
    """What becomes of the survey: classes, which galaxies, which pixels, which split.

    classes: "gz2-9", "gz2-5" or a YAML file with a class tree. crop_fraction: side of the central square that is kept, of the whole
    picture's. per_class: the most confident so many of each class (None: all). balance: cut every class to the smallest one's size.
    split: fractions of train, validation and test, by hash of the object id.
    """

    classes: str = "gz2-9"
    image_size: int = 32
    crop_fraction: float = 0.5
    thresholds: Literal["n10", "n20"] | None = None
    min_votes: float = 0
    min_confidence: float = 0.0
    per_class: PositiveInt | None = None
    balance: bool = False
    split: tuple[float, float, float] = (0.7, 0.15, 0.15)
    min_picture_size: int = 32

    def __post_init__(self) -> None:
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(f"crop_fraction must lie in (0, 1], got {self.crop_fraction}")
        if self.image_size < 8:
            raise ValueError(f"image_size must be at least 8, got {self.image_size}")
        if min(self.split) < 0 or not math.isclose(sum(self.split), 1, abs_tol=1e-6):
            raise ValueError(f"split must be three fractions that sum to 1, got {list(self.split)}")


@dataclass(frozen=True)
class Experts:
    """How many experts, and how each is trained."""

    num_experts: PositiveInt = 8
    training: Training = field(
        default_factory=lambda: Training(
            epochs=16, batch_size=64, lr=0.01, sampling="balanced", class_weights=False,
            augmentation=Augmentation(("dihedral",)),
        )
    )  # fmt: skip


@dataclass(frozen=True)
class Distill(Recipe):
    """The recipe, and how its progress is judged on validation images.

    seed: another run on the same experts. validate_every: iterations between validations, each of which trains `validation_networks`
    fresh networks for `validation_epochs`. picture_every: iterations between pictures of the prototypes.
    """

    seed: int = 0
    validate_every: PositiveInt = 100
    validation_networks: PositiveInt = 3
    validation_epochs: PositiveInt = 300
    picture_every: PositiveInt = 100


@dataclass(frozen=True)
class Protocol:
    """How a fresh network is trained on a small set.

    learned_lr: a distilled set brings its own learning rates (spread over the first half of the epochs, as the papers do); everything
    else, and the distilled set too where False, gets the rate of `lr_grid` that is best on validation images.
    """

    training: Training = field(
        default_factory=lambda: Training(
            epochs=1000, lr=0.01, momentum=0.9, weight_decay=5e-4, lr_decay_at=0.5, class_weights=False,
            augmentation=Augmentation(("dihedral",)),
        )
    )  # fmt: skip
    learned_lr: bool = True
    lr_grid: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03)


@dataclass(frozen=True)
class Evaluate:
    """Which training sets are compared, how, and on which networks.

    The first protocol and the experts' own architecture give the headline figures. other_networks: further architectures, which
    only the small sets meet. num_networks: fresh networks per subject, and draws of random real images.
    full_data: how the networks of the subject `full_data` are trained, `full_data_networks` of them (0: none).
    """

    protocols: dict[str, Protocol] = field(default_factory=lambda: {"paper": Protocol()})
    other_networks: tuple[Architecture, ...] = ()
    num_networks: PositiveInt = 5
    baselines: tuple[Baseline, ...] = ("random_real", "class_mean", "k_center")
    full_data: Training = field(
        default_factory=lambda: Training(
            epochs=24, batch_size=64, lr=0.01, momentum=0.9, weight_decay=5e-4, lr_decay_at=0.7, sampling="balanced",
            class_weights=False, augmentation=Augmentation(("dihedral",)),
        )
    )  # fmt: skip
    full_data_networks: NonNegativeInt = 3

    def __post_init__(self) -> None:
        if not self.protocols:
            raise ValueError("protocols must name at least one, the first gives the headline figures")


@dataclass(frozen=True)
class Resources:
    """What a run may use; nothing here changes a result, but for `*_threads`, which decides the order of floating-point sums.

    address: of a running Ray cluster ("auto" finds a local one); None: RAY_ADDRESS, or else a private one on this machine.
    workers: parallel workers; None: as many as the cluster's CPUs (or GPUs) carry. cpus, gpus: of one worker, fractions allowed.
    worker_threads: torch threads of an expert's or evaluation's worker. distill_cpus, distill_gpus: of the distilling process, which
    uses as many threads as CPUs; None: all CPUs of this machine. max_restarts: lost workers before a stage gives up.
    """

    address: str | None = None
    workers: PositiveInt | None = None
    cpus: PositiveFloat = 1
    gpus: NonNegativeFloat = 0
    worker_threads: PositiveInt = 1
    distill_cpus: PositiveInt | None = None
    distill_gpus: NonNegativeFloat = 0
    max_restarts: NonNegativeInt = 3
    object_store_mb: PositiveInt | None = 1024
    checkpoint_seconds: NonNegativeFloat = 20.0


@dataclass(frozen=True)
class Tracking:
    """MLflow. uri: of the tracking server; None: sqlite:// under the run folder."""

    enabled: bool = True
    uri: str | None = None
    experiment: str | None = None


@dataclass(frozen=True, kw_only=True)
class Config:
    """A whole run. `distilled`: evaluate this distilled set instead of the run's own."""

    name: str
    survey: CatalogSurvey | SimulatedSurvey
    output: str = "runs"
    seed: int = 0
    curate: Curate = field(default_factory=Curate)
    network: Architecture = field(default_factory=ConvNet)
    experts: Experts = field(default_factory=Experts)
    distill: Distill = field(default_factory=Distill)
    evaluate: Evaluate = field(default_factory=Evaluate)
    resources: Resources = field(default_factory=Resources)
    tracking: Tracking = field(default_factory=Tracking)
    distilled: str | None = None


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, apply `a.b=c` overrides, validate. ConfigError, one sentence, for anything that is wrong."""
    path = _find(path)
    where = str(path)
    try:
        merged = OmegaConf.merge(_read(path), _assignments(overrides))
        raw = OmegaConf.to_container(merged, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise _unresolved(error, where) from error
    try:
        return _adapter().validate_python(raw)
    except ConfigError as error:  # a leaf's own, which does not know the file
        raise ConfigError(error.what, f"{where}, {error.where}", error.fix) from error
    except ValidationError as error:
        raise ConfigError(*_sentence(error, raw, where)) from error


def plain(config: Any) -> Any:
    """A config or any part of it as nested dicts, lists and scalars, with all defaults written out."""
    return TypeAdapter(type(config)).dump_python(config, mode="json")


def _unresolved(error: OmegaConfBaseException, where: str) -> ConfigError:
    unset = re.search("Environment variable '(.+)' not found", str(error))
    if unset:
        fix = f"set it, or give {error.full_key}=... on the command line"
        return ConfigError(f"the environment variable {unset[1]} is not set", f"{where}, {error.full_key}", fix)
    what = f"a value refers to something that is not there ({str(error).splitlines()[0]})"
    return ConfigError(what, where, "set it, or give the path itself")


def _find(path: str | Path) -> Path:
    """The file itself, or the named run that comes with raydistill (`demo` is configs/demo.yaml)."""
    named = [folder / f"{Path(path).name.removesuffix('.yaml')}.yaml" for folder in SHIPPED]
    bare = len(Path(path).parts) == 1
    return next((p for p in [Path(path), *(named if bare else [])] if p.is_file()), Path(path))


def _read(path: Path, extending: tuple[Path, ...] = ()) -> DictConfig:
    if path.resolve() in extending:
        raise ConfigError("the config extends itself", str(path), f"remove '{EXTENDS}' from one of the files")
    try:
        own = OmegaConf.load(path)
    except FileNotFoundError as error:
        names = sorted({p.stem for folder in SHIPPED for p in folder.glob("*.yaml")})
        raise ConfigError("there is no such config file", str(path), f"named runs are: {', '.join(names)}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"the config file cannot be read ({reason})", str(path), "give a YAML file") from error
    except Exception as error:  # PyYAML's own hierarchy is not OmegaConf's
        raise ConfigError(f"not valid YAML ({yaml_problem(error)})", str(path), "mend the file") from error
    if not isinstance(own, DictConfig):
        raise ConfigError("the config file is not a mapping of keys to values", str(path), "see configs/demo.yaml")
    if EXTENDS not in own:
        return own
    name = own.pop(EXTENDS)
    if not isinstance(name, str):
        raise ConfigError(f"'{EXTENDS}' must name one other config file, got {name}", str(path), "mend the value")
    base = _read(path.parent / name, (*extending, path.resolve()))
    merged = OmegaConf.merge(base, own)
    assert isinstance(merged, DictConfig)
    return merged


def _assignments(overrides: Sequence[str]) -> DictConfig:
    wrong = [text for text in overrides if "=" not in text]
    if wrong:
        raise ConfigError(
            f"'{wrong[0]}' is not of the form key=value", "command line", "for example distill.iterations=500"
        )
    try:
        return OmegaConf.from_dotlist(list(overrides))
    except yaml.YAMLError as error:
        problem = f"the value of an override is not valid YAML ({yaml_problem(error)})"
        raise ConfigError(problem, "command line", "mend it, or put it into quotes") from error


UNKNOWN_KEY = ("unexpected_keyword_argument", "extra_forbidden")  # pydantic's names for it
_ADAPTER: TypeAdapter[Config] | None = None


def _adapter() -> TypeAdapter[Config]:
    """The validator; unknown keys are refused in every dataclass of the tree, which pydantic wants to be told class by class."""
    global _ADAPTER
    if _ADAPTER is None:
        for cls in _CLASSES.values():
            cls.__pydantic_config__ = {"extra": "forbid"}  # type: ignore[attr-defined]
        _ADAPTER = TypeAdapter(Config)
    return _ADAPTER


def _dataclasses(annotation: Any) -> Iterator[type]:
    """Every dataclass in a type annotation, at any depth."""
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        yield annotation
        for hint in typing.get_type_hints(annotation).values():
            yield from _dataclasses(hint)
    for argument in typing.get_args(annotation):
        yield from _dataclasses(argument)


def _sentence(error: ValidationError, raw: Any, where: str) -> tuple[str, str, str]:
    """(what, where, fix) of the most telling error."""
    first = min(error.errors(), key=lambda e: (_distance(e, raw), _rank(e)))
    keys = [key for key, _, member in _steps(first["loc"], raw) if member is None]
    place = f"{where}, {'.'.join(str(key) for key in keys)}"
    if first["type"] in UNKNOWN_KEY:
        return f"there is no key '{keys[-1]}'", place, nearest(str(keys[-1]), _known_keys(keys[:-1], raw))
    if first["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return "this key is missing", place, "add it"
    if keys[-1:] == ["kind"]:
        kinds = [cls.kind for cls in _classes_at(keys[:-1], raw)]
        return f"there is no kind '{first['input']}'", place, nearest(str(first["input"]), kinds)
    message = first["msg"].removeprefix("Value error, ")
    given = "" if isinstance(first["input"], dict | list) or "got" in message else f", got {first['input']!r}"
    return message[0].lower() + message[1:] + given, place, "mend the value"


def _distance(error: Any, raw: Any) -> int:
    """How far an error is from what was meant: members of a union with another `kind`, or other keys, come last.

    pydantic tries every member of a union, and names the member's class among the keys of the location.
    """
    distance = 0
    for _, value, cls in _steps(error["loc"], raw):
        if cls is not None and isinstance(value, dict):
            distance += 100 * ("kind" in value and value["kind"] != getattr(cls, "kind", None))
            distance += len(set(value) - {f.name for f in dataclasses.fields(cls)})
    return distance


def _rank(error: Any) -> int:
    """Of errors equally far: the wrong kind first, then a key that nobody knows, for these are what makes others go missing."""
    return 0 if error["loc"][-1:] == ("kind",) else 1 if error["type"] in UNKNOWN_KEY else 2


def _steps(location: Sequence[Any], raw: Any) -> Iterator[tuple[Any, Any, Any]]:
    """(key, the value it is looked up in, the union member's class if it is not a key of the config but the name of one)."""
    value = raw
    for key in location:
        own = isinstance(value, dict) and key in value  # a protocol may be called Adam
        cls = None if own or not isinstance(key, str) else _CLASSES.get(key)
        yield key, value, cls
        if cls is None:
            value = _child(value, key)


def _child(value: Any, key: Any) -> Any:
    try:
        return value[key]
    except (KeyError, IndexError, TypeError):
        return None


def _known_keys(path: list[Any], raw: Any) -> list[str]:
    """The keys that the tree knows at `path`, given the kinds that the config chose on the way."""
    value = raw
    for key in path:
        value = _child(value, key)
    kind = value.get("kind")
    classes = _classes_at(path, raw)
    meant = [cls for cls in classes if kind is None or getattr(cls, "kind", kind) == kind] or classes
    return sorted({f.name for cls in meant for f in dataclasses.fields(cls)})


def _classes_at(path: list[Any], raw: Any) -> list[Any]:
    """The dataclasses that may stand at `path`."""
    candidates: list[Any] = [Config]
    for key in path:
        hints = [typing.get_type_hints(cls).get(key) for cls in candidates if dataclasses.is_dataclass(cls)]
        # An element of a dict or tuple: the container's last argument (but for the dots) is the type of its elements.
        containers = [typing.get_args(c) for c in candidates if typing.get_origin(c) in (dict, tuple)]
        inside = [[argument for argument in arguments if argument is not ...][-1] for arguments in containers]
        candidates = [member for hint in [*hints, *inside] if hint is not None for member in _alternatives(hint)]
    return [cls for cls in candidates if dataclasses.is_dataclass(cls)]


def _alternatives(annotation: Any) -> list[Any]:
    is_union = typing.get_origin(annotation) in (Union, types.UnionType)
    return list(typing.get_args(annotation)) if is_union else [annotation]


_CLASSES = {cls.__name__: cls for cls in _dataclasses(Config)}
