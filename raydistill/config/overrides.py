"""Read `a.b=c` overrides: YAML without comments, or text where the key takes text.

The shell has already removed its own quotes and comments, so ` #` in a value belongs to it. Three
kinds of values are text as they stand:

- a word that YAML reads as text, with its blanks;
- any value of a key that takes only text, such as `survey.images.pattern={id}`;
- a value that is not YAML, such as `*.jpg`.

A value in YAML's quotes is text, too, without the quotes.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Union

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from raydistill.config.tree import config_class
from raydistill.errors import ConfigError, describe_yaml_error, shorten
from raydistill.storage.yaml_limits import MAX_CONFIG_VALUES, MAX_LEVELS, check_yaml

MAX_OVERRIDES = 1000
NULLS = ("", "~", "null", "Null", "NULL")


def parse_overrides(overrides: Sequence[str], where: str) -> DictConfig:
    """Return the values of `a.b=c` overrides; ConfigError names `where` if one fails."""
    if len(overrides) > MAX_OVERRIDES:
        what = f"{len(overrides)} values are given, and at most {MAX_OVERRIDES} are read"
        raise ConfigError(what, where, "write them into a config file")
    given = OmegaConf.create({})
    for text in overrides:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise ConfigError(
                f"'{shorten(text)}' is not of the form key=value", where, "for example distill.iterations=500"
            )
        if (levels := 1 + key.count(".") + key.count("[")) > MAX_LEVELS:
            what = f"the key '{shorten(key, 30)}' has {levels} levels, and at most {MAX_LEVELS} are read"
            raise ConfigError(what, where, "see docs/config.md for the keys")
        try:
            parsed = parse_value(value, takes_text(key))
        except yaml.YAMLError as error:
            fix = "fix it, or put the value into quotes, and those into the shell's: 'key=\"{value}\"'"
            what = f"the value of '{shorten(text)}' is not valid YAML ({describe_yaml_error(error)})"
            raise ConfigError(what, where, fix) from error
        try:
            OmegaConf.update(given, key, parsed, force_add=True)
        except (ValueError, TypeError) as error:
            what = f"'{shorten(text)}' does not fit the overrides before it, which give a list"
            raise ConfigError(what, where, "remove one of them") from error
    return given


def parse_value(text: str, is_text: bool = False) -> Any:
    """Return an override's value: `text` itself unless YAML reads another type.

    Parameters
    ----------
    text
        The value as the shell gave it.
    is_text
        The key takes only text, so numbers and brackets are text.

    Raises
    ------
    yaml.YAMLError
        If a list or a mapping is damaged.
    """
    try:
        value, quoted = _parse_yaml(text)
    except OmegaConfBaseException:  # `?` is a mapping without a key
        return text
    except yaml.YAMLError:
        if text.lstrip().startswith(("[", "{")) and not is_text:
            raise
        return text
    if quoted or (value is None and text.strip() in NULLS):
        return value
    return text if is_text or value is None or isinstance(value, str) else value


def _parse_yaml(text: str) -> tuple[Any, bool]:
    """Return the value and whether it is quoted; YAMLError if a part would be ignored."""
    check_yaml(text, MAX_CONFIG_VALUES)
    # OmegaConf's loader reads 1e-3 as a number.
    value = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))["value"]  # type: ignore[index, call-overload]
    end = 0
    for token in yaml.scan(text):
        if comment := text[end : token.start_mark.index].strip():
            raise yaml.MarkedYAMLError(problem=f"'{shorten(comment)}' is a comment", problem_mark=token.start_mark)
        end = max(end, token.end_mark.index)
    node = yaml.compose(text)
    return value, isinstance(node, yaml.ScalarNode) and node.style in ("'", '"')


def takes_text(key: str) -> bool:
    """Return whether a dotted key of the config takes only text, or null."""
    leaves = list(_leaves(config_class(), key.split(".")))
    return bool(leaves) and all(_is_text(leaf) for leaf in leaves)


def _is_text(annotation: Any) -> bool:
    if typing.get_origin(annotation) is Literal:
        return all(isinstance(value, str) for value in typing.get_args(annotation))
    return annotation in (str, type(None))


def _leaves(annotation: Any, keys: Sequence[str]) -> Iterator[Any]:
    """Yield the types of the value at `keys`, for every kind of every branch."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        yield from _leaves(arguments[0], keys)
    elif origin in (Union, types.UnionType):
        for member in arguments:
            yield from _leaves(member, keys)
    elif not keys:
        yield annotation
    elif dataclasses.is_dataclass(annotation):
        hints = typing.get_type_hints(annotation, include_extras=True)
        if keys[0] in hints:
            yield from _leaves(hints[keys[0]], keys[1:])
    elif origin in (dict, Mapping):
        yield from _leaves(arguments[1], keys[1:])
