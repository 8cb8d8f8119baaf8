"""Turn a YAML file and `a.b=c` overrides into a `Config`.

OmegaConf merges, and pydantic validates.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import IO, Any, get_args, get_type_hints

from omegaconf import Container, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError

from raydistill import shipped
from raydistill.config.messages import check_limits, classes, format_validation_error
from raydistill.config.overrides import parse_overrides
from raydistill.config.tree import Config, config_class, plain
from raydistill.datasets.base import DataSet
from raydistill.errors import ArtifactMissing, ConfigError, RaydistillError, describe_yaml_error
from raydistill.escaping import is_utf8, literal
from raydistill.learning.augment import DSA
from raydistill.stages.evaluate.config import MATCHED, Evaluate
from raydistill.storage import Folder, check_no_device, check_path
from raydistill.storage.yaml_limits import MAX_CONFIG_VALUES, MAX_TEXT, check_yaml

# A config and the command line may name base configs, beside the file or shipped with raydistill.
EXTENDS = "extends"
COMMAND_LINE = "command line"
OVERRIDES = "overrides"  # of a `Config` in Python
AUGMENTATION = "augmentation"  # at the top of a config: the default for every use
CLASS_LABELS = "classes"  # of `curate`: a mapping whose order gives the labels
ALIGNED = {"operations": ["mirror"]}
DSA_SINGLE = {"operations": list(DSA), "mode": "single"}
# Defaults of `curate` for a data set.
PHOTOGRAPHS = {"classes": "all", "crop_fraction": 1.0, "min_picture_size": 8}
DATA_SETS = tuple(cls.kind for cls in get_args(get_type_hints(Config)["survey"]) if issubclass(cls, DataSet))
MAX_REFERENCES = 20
_REFERENCE = re.compile(r"(?<!\\)\$\{(?!oc\.env:)")


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, apply `a.b=c` overrides and validate the result.

    Parameters
    ----------
    path
        A local file, a URI, or the name of a shipped config such as "demo".
    overrides
        Values by dotted key, e.g. "distill.iterations=500".

    Raises
    ------
    ConfigError
        If the file, an override or a value is wrong.
    """
    check_path(str(path), ConfigError)
    where = str(path) if _remote(path) else str(_find(path))
    try:
        in_file, given = _read(where), _based(parse_overrides(overrides, COMMAND_LINE), COMMAND_LINE, ())
        merged = _overlay(_overlay(OmegaConf.create(_default_kinds()), in_file), given)
        _check_references(merged, where)
        config = _with_defaults(merged)
    except OmegaConfBaseException as error:
        raise _unresolved(error, where) from error
    return _validated(config, where, [text.partition("=")[0] for text in overrides])


def vary(config: Config, values: Mapping[str, Any], where: str) -> Config:
    """Return the config with new values at dotted keys.

    For example, {"distill.image_step.lr": 0.1}. Raises ConfigError, which names `where`, as `load`
    does.
    """
    changes = OmegaConf.create({})
    for key, value in values.items():
        OmegaConf.update(changes, key, literal(value), force_add=True)
    return _changed(config, changes, where)


def override(config: Config, overrides: Sequence[str]) -> Config:
    """Return the config with `a.b=c` overrides, which are read as on the command line.

    Raises ConfigError as `load` does.
    """
    return _changed(config, parse_overrides(overrides, OVERRIDES), OVERRIDES)


def _changed(config: Config, changes: DictConfig, where: str) -> Config:
    merged = _overlay(OmegaConf.create(literal(plain(config))), changes)
    _check_references(merged, where)
    return _validated(merged, where)


def _check_references(config: DictConfig, where: str) -> None:
    """Raise ConfigError if resolving the values could take memory without end.

    A value may repeat others, which may repeat others.
    """
    references = len(_REFERENCE.findall(str(OmegaConf.to_container(config))))
    if references > MAX_REFERENCES:
        what = f"values refer to others by ${{…}} {references} times, and at most {MAX_REFERENCES} are resolved"
        raise ConfigError(what, where, "write the values themselves")


def _validated(config: DictConfig, where: str, overridden: Sequence[str] = ()) -> Config:
    try:
        raw = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise _unresolved(error, where) from error
    try:
        _check_text(raw, "")
        valid = _adapter().validate_python(raw)
        check_limits(valid)
        return valid
    except (ConfigError, ValidationError) as error:  # a leaf raises the first, and does not know the file
        what, place, fix = (
            (error.what, error.where, error.fix) if isinstance(error, ConfigError) else format_validation_error(error)
        )
        given = any(_is_about(place, what, key) for key in overridden)
        raise ConfigError(what, f"{COMMAND_LINE if given else where}, {place}", fix) from error


def _check_text(value: Any, place: str) -> None:
    """Raise ConfigError for text that is not UTF-8, as names of files may be."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_text(str(key), place)
            _check_text(inner, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for inner in value:
            _check_text(inner, place)
    elif isinstance(value, str) and not is_utf8(value):
        raise ConfigError(f"'{value}' is not UTF-8 text", place, "correct it, or rename the file")


def _is_about(place: str, what: str, key: str) -> bool:
    """Return whether an override of `key` caused the error at `place`.

    It did if `place` is the key or below it, or if `place` is above it and the error names the last
    part of `place` or a part of the key below it.
    """
    if place == key or place.startswith(f"{key}."):
        return True
    parts = [place.rpartition(".")[2], *key.removeprefix(f"{place}.").split(".")]
    return key.startswith(f"{place}.") and any(part in what for part in parts)


def _unresolved(error: OmegaConfBaseException, where: str) -> ConfigError:
    unset = re.search("Environment variable '(.+)' not found", str(error))
    if unset:
        fix = f"set it, or give {error.full_key}=... on the command line"
        return ConfigError(f"the environment variable {unset[1]} is not set", f"{where}, {error.full_key}", fix)
    what = f"a value refers to something that is not there ({str(error).splitlines()[0]})"
    return ConfigError(what, where, "set it, or give the path itself")


def _find(path: str | Path) -> Path:
    """Return the path of a file or of a shipped config.

    `methods/datm` is configs/methods/datm.yaml.
    """
    local = Path(path)
    return local if local.is_file() else shipped.find(str(path)) or local


def _remote(path: str | Path) -> bool:
    return "://" in str(path)


def _read(where: str, extending: tuple[str, ...] = ()) -> DictConfig:
    """Return the values of a local file or a URI, merged over those that it extends."""
    place = where if _remote(where) else str(Path(where).resolve())
    if place in extending:
        raise ConfigError("the config extends itself", where, f"remove '{EXTENDS}' from one of the files")
    try:
        with _opened(where) as stream:
            text = stream.read(MAX_TEXT + 1)
        check_yaml(text, MAX_CONFIG_VALUES)
        config = OmegaConf.load(io.StringIO(text))
    except (FileNotFoundError, ArtifactMissing) as error:
        raise ConfigError("there is no such config file", where, _known(Path(where))) from error
    except RaydistillError:  # from the storage
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"the config file cannot be read ({reason})", where, "give a YAML file") from error
    except Exception as error:  # PyYAML's own hierarchy is not OmegaConf's
        raise ConfigError(f"not valid YAML ({describe_yaml_error(error)})", where, "fix the file") from error
    if not isinstance(config, DictConfig):
        raise ConfigError("the config file is not a mapping of keys to values", where, "see configs/demo.yaml")
    return _based(config, where, (*extending, place))


def _opened(where: str) -> IO[str]:
    if not _remote(where):
        if not where.startswith("/dev/fd/"):  # the pipe of a shell's <(…), which ends
            check_no_device(where, where, ConfigError)
        return open(where, encoding="utf-8")
    folder, _, name = where.rpartition("/")
    return io.StringIO(Folder(folder).read(name).decode())


def _based(config: DictConfig, where: str, extending: tuple[str, ...]) -> DictConfig:
    """Return `config` merged over the configs it extends; later ones take precedence."""
    if EXTENDS not in config:
        return config
    given = config.pop(EXTENDS)
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, ListConfig | list) or not all(
        isinstance(name, str) and "\0" not in name for name in names
    ):
        raise ConfigError(f"'{EXTENDS}' must name config files, got {given}", where, "fix the value")
    base = OmegaConf.create({})
    for name in names:
        base = _overlay(base, _read(_base(name, where), extending))
    return _overlay(base, config)


def _base(name: str, where: str) -> str:
    """Return the place of a base: a URI, a file beside it, or a shipped config."""
    if _remote(name):
        return name
    if not _remote(where):
        beside = Path(where).parent / name
        return str(beside if beside.is_file() else _find(name))
    folder, _, file = f"{where.rpartition('/')[0]}/{name}".rpartition("/")
    return f"{folder}/{file}" if Folder(folder).exists(file) else str(_find(name))


@functools.cache
def _default_kinds() -> dict[str, Any]:
    """Return the default values of every key with kinds.

    They are the base of the merge: `image_step: {lr: 0.05}` changes the rate of the default kind of
    step.
    """
    defaults = {
        field.name: plain(field.default_factory())
        for field in fields(config_class())
        if callable(field.default_factory)
    }
    return _with_kinds(defaults)


def _with_kinds(tree: dict[str, Any]) -> dict[str, Any]:
    """Return the branches of a tree that have a `kind` at any depth."""
    branches = {key: value for key, value in tree.items() if isinstance(value, dict)}
    with_kind = {key: value if "kind" in value else _with_kinds(value) for key, value in branches.items()}
    return {key: value for key, value in with_kind.items() if value}


def _with_defaults(config: DictConfig) -> DictConfig:
    """Return the config over defaults from survey, `curate.align` and `augmentation`."""
    protocols = OmegaConf.select(config, "evaluate.protocols")
    protocols = (
        protocols if OmegaConf.is_dict(protocols) else OmegaConf.create({name: {} for name in Evaluate().protocols})
    )
    for name in [str(key) for key in protocols if protocols[key] is None]:
        del protocols[name]  # a config removes a protocol of its base with null
    uses: list[tuple[Any, ...]] = [
        ("experts", "training"),
        ("distill",),
        ("evaluate", "full_data"),
        ("augment", "training"),
        ("adapt", "training"),
        *(("evaluate", "protocols", name, "training") for name in protocols),  # a name may have dots
    ]
    options, below = config.pop(AUGMENTATION, None), OmegaConf.create({})
    if options is not None:
        if not OmegaConf.is_dict(options):
            raise ConfigError(
                f"it is no mapping, got {options}", AUGMENTATION, "write {operations: [mirror]}, for example"
            )
        _reject_unused_augmentation(config, uses)
        for name in MATCHED:
            OmegaConf.update(below, f"evaluate.{name}", {AUGMENTATION: {**options, "shared": True}}, force_add=True)
    data_set = OmegaConf.select(config, "survey.kind") in DATA_SETS
    if data_set:
        below.curate = PHOTOGRAPHS
    aligned = _is_true(OmegaConf.select(config, "curate.align"))
    default = DSA_SINGLE if data_set else ALIGNED if aligned else None
    if (augmentation := default if options is None else options) is not None:
        for place in uses:
            below.merge_with(_at(place, {AUGMENTATION: augmentation}))
    if data_set or aligned:  # a generator keeps photographs upright, and aligned galaxies horizontal
        below.merge_with(_at(("generate", "training"), {"symmetries": "mirror"}))
    return _overlay(below, config)


def _is_true(value: Any) -> bool:
    """Return whether `value` validates as true; other values are rejected later."""
    try:
        return TypeAdapter(bool).validate_python(value)
    except ValidationError:
        return False


def _at(place: tuple[Any, ...], value: dict[str, Any]) -> dict[str, Any]:
    """Return a tree that holds this value alone."""
    return functools.reduce(lambda inner, key: {key: inner}, reversed(place), value)


def _value_at(config: DictConfig, place: tuple[Any, ...]) -> Any:
    """Return the value at `place`, or None."""
    node: Any = config
    for key in place:
        node = node.get(key) if OmegaConf.is_dict(node) else None
    return node


def _reject_unused_augmentation(config: DictConfig, uses: list[tuple[Any, ...]]) -> None:
    """Raise ConfigError if every use has its own augmentation.

    This is so in configs that stages write.
    """
    if all(_value_at(config, (*place, AUGMENTATION, "operations")) is not None for place in uses):
        fix = f"give distill.{AUGMENTATION}=..., and so on"
        raise ConfigError("every use has its own augmentation here, so this value has no effect", AUGMENTATION, fix)


def _overlay(base: DictConfig, given: DictConfig) -> DictConfig:
    """Merge `given` over `base`; neither may be used afterwards.

    A different `kind` discards all values of the base at that key. So does a mapping of classes.
    """
    _discard_replaced(base, given)
    merged = OmegaConf.unsafe_merge(base, given)  # without the copies that take most of the time of `merge`
    assert isinstance(merged, DictConfig)
    return merged


def _discard_replaced(base: DictConfig, given: DictConfig) -> None:
    """Delete the values of `base` that `given` replaces as a whole."""
    for key in given:
        mine, other = given._get_node(key), base._get_node(key)
        if (
            isinstance(mine, Container)
            and isinstance(other, Container)
            and OmegaConf.is_dict(mine) != OmegaConf.is_dict(other)
        ):
            del base[key]  # a list replaces a mapping, or a mapping a list
            continue
        if not (OmegaConf.is_dict(mine) and OmegaConf.is_dict(other)):
            continue
        if key == CLASS_LABELS or ("kind" in given[key] and given[key].kind != base[key].get("kind", given[key].kind)):
            del base[key]
        else:
            _discard_replaced(base[key], given[key])


def _known(requested: Path) -> str:
    """Return a hint with the shipped configs of the requested folder."""
    folder = requested.parent.name if requested.parent.name in ("methods", "parts") else ""
    return f"{folder or 'shipped configs'} are: {', '.join(shipped.names(folder))}"


_ADAPTER: TypeAdapter[Config] | None = None


def _adapter() -> TypeAdapter[Config]:
    """Return the validator; pydantic needs `extra="forbid"` in the tree's dataclasses."""
    global _ADAPTER
    if _ADAPTER is None:
        for cls in classes().values():
            cls.__pydantic_config__ = {"extra": "forbid"}  # type: ignore[attr-defined]
        _ADAPTER = TypeAdapter(config_class())
    return _ADAPTER
