"""Turn pydantic's config errors into one sentence, and limit whole numbers.

It names the key and the nearest known one.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, Union

from pydantic import Discriminator, Tag, ValidationError
from pydantic.fields import FieldInfo

from raydistill.config.tree import config_class
from raydistill.errors import ConfigError, nearest, shorten

UNKNOWN_KIND = ("union_tag_invalid",)  # pydantic's names of error types
UNKNOWN_KEY = ("unexpected_keyword_argument", "extra_forbidden")
MISSING_KEY = ("missing", "missing_argument", "missing_keyword_only_argument")


def _dataclasses(annotation: Any) -> Iterator[type]:
    """Yield every dataclass in a type annotation, at any depth."""
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        yield annotation
        for hint in typing.get_type_hints(annotation).values():
            yield from _dataclasses(hint)
    for argument in typing.get_args(annotation):
        yield from _dataclasses(argument)


@functools.cache
def classes() -> dict[str, type]:
    """Return the dataclasses of the tree of configs by name."""
    return {cls.__name__: cls for cls in _dataclasses(config_class())}


def format_validation_error(error: ValidationError) -> tuple[str, str, str]:
    """Return (what, which key, fix) of the most useful error.

    A wrong kind or key explains the others.
    """
    first = min(error.errors(), key=lambda entry: (entry["type"] not in UNKNOWN_KIND, entry["type"] not in UNKNOWN_KEY))
    keys = [key for key, _ in _resolve(first["loc"])]
    place = ".".join(str(key) for key in keys)
    if first["type"] in UNKNOWN_KIND:
        tag, annotation = first["ctx"]["tag"], _resolve(first["loc"])[-1][1]
        return f"there is no kind '{tag}'", f"{place}.kind", nearest(tag, list(_members(annotation)))
    if first["type"] in UNKNOWN_KEY:
        owner = _resolve(first["loc"][:-1], members=True)[-1][1] if len(keys) > 1 else config_class()
        known = sorted(field.name for field in dataclasses.fields(owner))
        return f"there is no key '{keys[-1]}'", place, nearest(str(keys[-1]), known)
    if first["type"] in MISSING_KEY:
        if isinstance(keys[-1], int):
            return f"value number {keys[-1] + 1} of the list is missing", place.rpartition(".")[0], "add it"
        return "this key is missing", place, "add it"
    message = first["msg"].removeprefix("Value error, ")
    message += "".join(f", or {entry['ctx']['expected']}" for entry in error.errors() if _is_other_choice(entry, first))
    given = (
        "" if isinstance(first["input"], dict | list) or "got" in message else f", got {shorten(repr(first['input']))}"
    )
    return message[0].lower() + message[1:] + given, place, "fix the value"


def _is_other_choice(error: Any, first: Any) -> bool:
    """Return whether the error names a word that may replace the wrong number.

    An example is 'auto'.
    """
    if not error["type"] == "literal_error" != first["type"]:
        return False
    return [key for key, _ in _resolve(error["loc"])] == [key for key, _ in _resolve(first["loc"])]


def _resolve(location: Sequence[Any], members: bool = False) -> list[tuple[Any, Any]]:
    """Return (key, annotation) of every config key in pydantic's location.

    pydantic adds the kind of a discriminated union, and the name of the type it tried for a plain
    value. Neither is a key. With `members`, the annotation is the class of the kind.
    """
    steps: list[tuple[Any, Any]] = []
    annotation: Any = config_class()
    for key in location:
        if kinds := _members(annotation):
            annotation = kinds.get(key)
            if annotation is None:
                break
            if members:
                steps[-1] = (steps[-1][0], annotation)
            continue
        annotation = _child(annotation, key)
        if annotation is None:
            break
        steps.append((key, annotation))
    return steps


def _child(annotation: Any, key: Any) -> Any:
    """Return the annotation below `key`; Any if unknown, None below a plain value."""
    if dataclasses.is_dataclass(annotation):
        return _without_none(typing.get_type_hints(annotation, include_extras=True).get(key, Any))
    if typing.get_origin(annotation) in (dict, tuple, list):
        return [argument for argument in typing.get_args(annotation) if argument is not ...][-1]
    return None


def _without_none(annotation: Any) -> Any:
    """Return the other member of `X | None`; any other annotation as it is."""
    if typing.get_origin(annotation) not in (Union, types.UnionType):
        return annotation
    others = [member for member in typing.get_args(annotation) if member is not type(None)]
    return others[0] if len(others) == 1 else annotation


def _members(annotation: Any) -> dict[str, Any]:
    """Return a union's members by pydantic's names; {} for any other annotation.

    Those of a discriminated union are named by their tag, and others by their type.
    """
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return {member.__name__: member for member in typing.get_args(annotation) if isinstance(member, type)}
    if typing.get_origin(annotation) is not Annotated:
        return {}
    union, *metadata = typing.get_args(annotation)
    if not any(isinstance(item, Discriminator) or _has_discriminator(item) for item in metadata):
        return {}
    return dict(_tagged(member) for member in typing.get_args(union))


def _has_discriminator(metadata: Any) -> bool:
    return isinstance(metadata, FieldInfo) and metadata.discriminator is not None


def _tagged(member: Any) -> tuple[str, Any]:
    if typing.get_origin(member) is not Annotated:
        return member.kind, member
    cls, tag = typing.get_args(member)
    assert isinstance(tag, Tag)
    return tag.tag, cls


# Upper limits of whole numbers in a config, beyond which no run could ever end.
#
# A limit belongs to a key of this name in every part of the config. It costs nothing to reject a
# number here; later it would cost the memory of a machine.

MOST = 1_000_000_000  # of keys that are not listed
LIMITS = {
    **dict.fromkeys(("image_size", "picture_size", "side", "min_picture_size"), 4096),  # px
    **dict.fromkeys(("width", "channels", "components", "embedding_size", "lora_rank"), 65_536),
    **dict.fromkeys(("depth", "layers", "blocks", "heads", "patch", "attention"), 1024),
    **dict.fromkeys(("num_experts", "num_networks", "full_data_networks", "validation_networks"), 10_000),
    **dict.fromkeys(("images_per_class", "trajectories_per_step", "preview_images", "quiz_pictures"), 10_000),
    **dict.fromkeys(("max_snapshots", "student_steps", "expert_epochs", "max_groups"), 1_000_000),
    **dict.fromkeys(("batch_size", "block_size", "shards", "unlabelled", "num_frequencies"), 1_000_000),
    **dict.fromkeys(("workers", "worker_threads", "distill_cpus", "max_restarts", "multi_formation"), 10_000),
    **dict.fromkeys(("seeds", "folds", "bins", "rounds", "repeats", "expert_groups"), 10_000),
    **dict.fromkeys(("trials", "permutations", "num_pictures", "train_fields", "test_fields"), 10_000_000),
    "seed": 2**63 - 1,
}


def check_limits(config: Any, place: str = "") -> None:
    """Raise ConfigError for a number that is not finite, or beyond its limit."""
    if is_dataclass(config):
        for field in fields(config):
            check_limits(getattr(config, field.name), f"{place}.{field.name}".lstrip("."))
    elif isinstance(config, dict):
        for key, value in config.items():
            check_limits(value, f"{place}.{key}")
    elif isinstance(config, tuple | list):
        for value in config:
            check_limits(value, place)
    elif isinstance(config, float):
        if not math.isfinite(config):
            raise ConfigError(f"it must be a finite number, got {config}", place, "give another one")
    elif isinstance(config, int):
        most = LIMITS.get(place.rpartition(".")[2], MOST)
        if config > most:
            raise ConfigError(f"it is larger than {most}, the most that any run could use", place, "give a smaller one")
        if config < 0 and place.endswith("seed"):
            raise ConfigError(f"it must not be negative, got {config}", place, "give another one")
