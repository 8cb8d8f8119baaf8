"""From a YAML file and `a.b=c` overrides to a `Config`: OmegaConf reads and merges, pydantic validates."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import IO, Any, get_args, get_type_hints

import yaml
from omegaconf import Container, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError

from raydistill.config.messages import CLASSES, format_validation_error
from raydistill.config.tree import Config, Evaluate, plain
from raydistill.core.augment import DSA
from raydistill.datasets.base import DataSet
from raydistill.errors import ArtifactMissing, ConfigError, RaydistillError, describe_yaml_error
from raydistill.storage import Folder

# A config may name others, beside it or shipped, whose values it starts from; so may the command line.
EXTENDS = "extends"
COMMAND_LINE = "command line"
AUGMENTATION = "augmentation"  # of a whole config: that of all its uses, which may say otherwise
LEVEL = {"operations": ["mirror"]}
DSA_SINGLE = {"operations": list(DSA), "mode": "single"}
# Of `curate`, where the survey is a data set.
PHOTOGRAPHS = {"classes": "all", "crop_fraction": 1.0, "min_picture_size": 8}
DATA_SETS = tuple(cls.kind for cls in get_args(get_type_hints(Config)["survey"]) if issubclass(cls, DataSet))
# The named runs: inside an installed package, or beside it in a checkout.
SHIPPED = (Path(__file__).parents[1] / "configs", Path(__file__).parents[2] / "configs")


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, apply `a.b=c` overrides, validate. ConfigError, one sentence, for anything that is wrong."""
    where = str(path) if _remote(path) else str(_find(path))
    try:
        own, given = _read(where), _based(_assignments(overrides), COMMAND_LINE, ())
        merged = _overlay(_overlay(OmegaConf.create(_kinds()), own), given)
        raw = OmegaConf.to_container(_with_defaults(merged), resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise _unresolved(error, where) from error
    return _validated(raw, where, [text.partition("=")[0] for text in overrides])


def vary(config: Config, values: Mapping[str, Any], where: str) -> Config:
    """The config with other values at dotted keys, e.g. {"distill.image_step.lr": 0.1}. ConfigError as of `load`."""
    changes = OmegaConf.create({})
    for key, value in values.items():
        OmegaConf.update(changes, key, value, force_add=True)
    merged = _overlay(OmegaConf.create(plain(config)), changes)
    return _validated(OmegaConf.to_container(merged), where)


def _validated(raw: Any, where: str, overridden: Sequence[str] = ()) -> Config:
    try:
        return _adapter().validate_python(raw)
    except (ConfigError, ValidationError) as error:  # the first is a leaf's own, which does not know the file
        what, place, fix = (
            (error.what, error.where, error.fix) if isinstance(error, ConfigError) else format_validation_error(error)
        )
        given = any(_is_about(place, what, key) for key in overridden)
        raise ConfigError(what, f"{COMMAND_LINE if given else where}, {place}", fix) from error


def _is_about(place: str, what: str, key: str) -> bool:
    """Whether what is wrong at a place of the config is an override's: at its key, below it, or above, where the sentence names it."""
    named = [path.rpartition(".")[2] in what for path in (key, place)]
    return place == key or place.startswith(f"{key}.") or (key.startswith(f"{place}.") and any(named))


def _unresolved(error: OmegaConfBaseException, where: str) -> ConfigError:
    unset = re.search("Environment variable '(.+)' not found", str(error))
    if unset:
        fix = f"set it, or give {error.full_key}=... on the command line"
        return ConfigError(f"the environment variable {unset[1]} is not set", f"{where}, {error.full_key}", fix)
    what = f"a value refers to something that is not there ({str(error).splitlines()[0]})"
    return ConfigError(what, where, "set it, or give the path itself")


def _find(path: str | Path) -> Path:
    """The file itself, or what comes with raydistill: `demo` is configs/demo.yaml, `methods/datm` is configs/methods/datm.yaml."""
    named = [folder / f"{str(path).removesuffix('.yaml')}.yaml" for folder in SHIPPED]
    return next((p for p in [Path(path), *named] if p.is_file()), Path(path))


def _remote(path: str | Path) -> bool:
    return "://" in str(path)


def _read(where: str, extending: tuple[str, ...] = ()) -> DictConfig:
    """A file with what it extends; a local one by its path, another by its URI, as of a search's best.yaml in a bucket."""
    place = where if _remote(where) else str(Path(where).resolve())
    if place in extending:
        raise ConfigError("the config extends itself", where, f"remove '{EXTENDS}' from one of the files")
    try:
        with _opened(where) as stream:
            own = OmegaConf.load(stream)
    except (FileNotFoundError, ArtifactMissing) as error:
        raise ConfigError("there is no such config file", where, _shipped(Path(where))) from error
    except RaydistillError:  # of the storage
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"the config file cannot be read ({reason})", where, "give a YAML file") from error
    except Exception as error:  # PyYAML's own hierarchy is not OmegaConf's
        raise ConfigError(f"not valid YAML ({describe_yaml_error(error)})", where, "mend the file") from error
    if not isinstance(own, DictConfig):
        raise ConfigError("the config file is not a mapping of keys to values", where, "see configs/demo.yaml")
    return _based(own, where, (*extending, place))


def _opened(where: str) -> IO[str]:
    if not _remote(where):
        return open(where, encoding="utf-8")
    folder, _, name = where.rpartition("/")
    return io.StringIO(Folder(folder).read(name).decode())


def _based(own: DictConfig, where: str, extending: tuple[str, ...]) -> DictConfig:
    """`own` over what it extends, the later of those over the earlier."""
    if EXTENDS not in own:
        return own
    given = own.pop(EXTENDS)
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, ListConfig | list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"'{EXTENDS}' must name config files, got {given}", where, "mend the value")
    base = OmegaConf.create({})
    for name in names:
        beside = Path(where).parent / name
        base = _overlay(base, _read(str(beside if beside.is_file() else _find(name)), extending))
    return _overlay(base, own)


@functools.cache
def _kinds() -> dict[str, Any]:
    """The defaults of what comes in kinds, to be overlaid: with `image_step: {lr: 0.05}` a person changes the default step's rate, and
    does not ask for the first kind of step that has one."""
    defaults = {
        field.name: plain(field.default_factory()) for field in fields(Config) if callable(field.default_factory)
    }
    return _with_kinds(defaults)


def _with_kinds(tree: dict[str, Any]) -> dict[str, Any]:
    branches = {key: value for key, value in tree.items() if isinstance(value, dict)}
    kept = {key: value if "kind" in value else _with_kinds(value) for key, value in branches.items()}
    return {key: value for key, value in kept.items() if value}


def _with_defaults(config: DictConfig) -> DictConfig:
    """The config over what its kind of survey, `curate.align` and its own `augmentation` make the default."""
    protocols = OmegaConf.select(config, "evaluate.protocols")
    protocols = (
        protocols if OmegaConf.is_dict(protocols) else OmegaConf.create({name: {} for name in Evaluate().protocols})
    )
    for name in [str(key) for key in protocols if protocols[key] is None]:
        del protocols[name]  # so a config that extends another does without
    uses: list[tuple[Any, ...]] = [
        ("experts", "training"),
        ("distill",),
        ("evaluate", "full_data"),
        *(("evaluate", "protocols", name, "training") for name in protocols),  # a name may have dots
    ]
    own, below = config.pop(AUGMENTATION, None), OmegaConf.create({})
    if own is not None:
        _refuse_in_vain(config, uses)
        OmegaConf.update(below, "evaluate.dm", {AUGMENTATION: {**own, "shared": True}}, force_add=True)
    data_set = OmegaConf.select(config, "survey.kind") in DATA_SETS
    if data_set:
        below.curate = PHOTOGRAPHS
    level = _holds(OmegaConf.select(config, "curate.align"))
    usual = DSA_SINGLE if data_set else LEVEL if level else None
    if (augmentation := usual if own is None else own) is not None:
        for place in uses:
            below.merge_with(_at(place, {AUGMENTATION: augmentation}))
    return _overlay(below, config)


def _holds(value: Any) -> bool:
    """Whether it is true as the validator will read it; what is neither true nor false is its to refuse."""
    try:
        return TypeAdapter(bool).validate_python(value)
    except ValidationError:
        return False


def _at(place: tuple[Any, ...], value: dict[str, Any]) -> dict[str, Any]:
    """A tree with nothing but this value there."""
    return functools.reduce(lambda inner, key: {key: inner}, reversed(place), value)


def _found(config: DictConfig, place: tuple[Any, ...]) -> Any:
    """What stands there; None where nothing does."""
    node: Any = config
    for key in place:
        node = node.get(key) if OmegaConf.is_dict(node) else None
    return node


def _refuse_in_vain(config: DictConfig, uses: list[tuple[Any, ...]]) -> None:
    """ConfigError for an augmentation of the whole config where every use names one of its own: a whole config, as stages write it."""
    if all(_found(config, (*place, AUGMENTATION, "operations")) is not None for place in uses):
        fix = f"give distill.{AUGMENTATION}=..., and so on"
        raise ConfigError("every use has one of its own here, which this would not change", AUGMENTATION, fix)


def _overlay(base: DictConfig, own: DictConfig) -> DictConfig:
    """`own` over `base`. Where they name different kinds of one thing (a schedule, a step, a network), nothing of the base's stays."""
    for key in own:
        mine, other = own._get_node(key), base._get_node(key)
        if (
            isinstance(mine, Container)
            and isinstance(other, Container)
            and OmegaConf.is_dict(mine) != OmegaConf.is_dict(other)
        ):
            del base[key]  # a list in the place of a mapping, or the other way round
            continue
        if not (OmegaConf.is_dict(mine) and OmegaConf.is_dict(other)):
            continue
        if "kind" in own[key] and own[key].kind != base[key].get("kind", own[key].kind):
            del base[key]
        else:
            base[key] = _overlay(base[key], own[key])
    merged = OmegaConf.merge(base, own)
    assert isinstance(merged, DictConfig)
    return merged


def _shipped(wanted: Path) -> str:
    """What is shipped in the folder where something was looked for."""
    folder = wanted.parent.name if wanted.parent.name in ("methods", "parts") else ""
    names = sorted({path.stem for shipped in SHIPPED for path in (shipped / folder).glob("*.yaml")})
    return f"{folder or 'named runs'} are: {', '.join(names)}"


def _assignments(overrides: Sequence[str]) -> DictConfig:
    given = OmegaConf.create({})
    for text in overrides:
        if not text.partition("=")[0] or "=" not in text:
            fix = "for example distill.iterations=500"
            raise ConfigError(f"'{text}' is not of the form key=value", COMMAND_LINE, fix)
        try:
            given.merge_with_dotlist([text])
        except yaml.YAMLError as error:
            fix = "mend it, or put the value into quotes, and those into the shell's: 'key=\"{value}\"'"
            raise ConfigError(
                f"the value of '{text}' is not valid YAML ({describe_yaml_error(error)})", COMMAND_LINE, fix
            ) from error
    return given


_ADAPTER: TypeAdapter[Config] | None = None


def _adapter() -> TypeAdapter[Config]:
    """The validator; unknown keys are refused in every dataclass of the tree, which pydantic wants to be told class by class."""
    global _ADAPTER
    if _ADAPTER is None:
        for cls in CLASSES.values():
            cls.__pydantic_config__ = {"extra": "forbid"}  # type: ignore[attr-defined]
        _ADAPTER = TypeAdapter(Config)
    return _ADAPTER
