"""From a YAML file and `a.b=c` overrides to a `Config`: OmegaConf reads and merges, pydantic validates."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from omegaconf import Container, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError

from raydistill.config.sentences import CLASSES, sentence
from raydistill.config.tree import Config, plain
from raydistill.errors import ConfigError, yaml_problem

EXTENDS = (
    "extends"  # a config may name others, beside it or shipped, whose values it starts from; so may the command line
)
# The named runs: inside an installed package, or beside it in a checkout.
SHIPPED = (Path(__file__).parents[1] / "configs", Path(__file__).parents[2] / "configs")


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, apply `a.b=c` overrides, validate. ConfigError, one sentence, for anything that is wrong."""
    path = _find(path)
    where = str(path)
    try:
        merged = _overlay(
            _overlay(OmegaConf.create(_kinds()), _read(path)), _based(_assignments(overrides), Path("command line"), ())
        )
        raw = OmegaConf.to_container(merged, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise _unresolved(error, where) from error
    return _validated(raw, where)


def vary(config: Config, values: Mapping[str, Any], where: str) -> Config:
    """The config with other values at dotted keys, e.g. {"distill.image_step.lr": 0.1}. ConfigError as of `load`."""
    changes = OmegaConf.create({})
    for key, value in values.items():
        OmegaConf.update(changes, key, value, force_add=True)
    merged = _overlay(OmegaConf.create(plain(config)), changes)
    return _validated(OmegaConf.to_container(merged), where)


def _validated(raw: Any, where: str) -> Config:
    try:
        return _adapter().validate_python(raw)
    except ConfigError as error:  # a leaf's own, which does not know the file
        raise ConfigError(error.what, f"{where}, {error.where}", error.fix) from error
    except ValidationError as error:
        raise ConfigError(*sentence(error, raw, where)) from error


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


def _read(path: Path, extending: tuple[Path, ...] = ()) -> DictConfig:
    if path.resolve() in extending:
        raise ConfigError("the config extends itself", str(path), f"remove '{EXTENDS}' from one of the files")
    try:
        own = OmegaConf.load(path)
    except FileNotFoundError as error:
        raise ConfigError("there is no such config file", str(path), _shipped(path)) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"the config file cannot be read ({reason})", str(path), "give a YAML file") from error
    except Exception as error:  # PyYAML's own hierarchy is not OmegaConf's
        raise ConfigError(f"not valid YAML ({yaml_problem(error)})", str(path), "mend the file") from error
    if not isinstance(own, DictConfig):
        raise ConfigError("the config file is not a mapping of keys to values", str(path), "see configs/demo.yaml")
    return _based(own, path, (*extending, path.resolve()))


def _based(own: DictConfig, path: Path, extending: tuple[Path, ...]) -> DictConfig:
    """`own` over what it extends, the later of those over the earlier."""
    if EXTENDS not in own:
        return own
    given = own.pop(EXTENDS)
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, ListConfig | list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"'{EXTENDS}' must name config files, got {given}", str(path), "mend the value")
    base = OmegaConf.create({})
    for name in names:
        beside = path.parent / name
        base = _overlay(base, _read(beside if beside.is_file() else _find(name), extending))
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
    parts = wanted.parts[:-1] if wanted.parts[:-1] == ("methods",) else ()
    names = sorted({p.stem for folder in SHIPPED for p in folder.joinpath(*parts).glob("*.yaml")})
    return f"{'methods' if parts else 'named runs'} are: {', '.join(names)}"


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


_ADAPTER: TypeAdapter[Config] | None = None


def _adapter() -> TypeAdapter[Config]:
    """The validator; unknown keys are refused in every dataclass of the tree, which pydantic wants to be told class by class."""
    global _ADAPTER
    if _ADAPTER is None:
        for cls in CLASSES.values():
            cls.__pydantic_config__ = {"extra": "forbid"}  # type: ignore[attr-defined]
        _ADAPTER = TypeAdapter(Config)
    return _ADAPTER
