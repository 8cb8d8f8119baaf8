"""What pydantic says of a wrong config, in one sentence that names the key and, where a key is unknown, the nearest one."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any, Union

from pydantic import ValidationError

from raydistill.config.tree import Config
from raydistill.errors import nearest

UNKNOWN_KEY = ("unexpected_keyword_argument", "extra_forbidden")  # pydantic's names for it


def _dataclasses(annotation: Any) -> Iterator[type]:
    """Every dataclass in a type annotation, at any depth."""
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        yield annotation
        for hint in typing.get_type_hints(annotation).values():
            yield from _dataclasses(hint)
    for argument in typing.get_args(annotation):
        yield from _dataclasses(argument)


def format_validation_error(error: ValidationError, raw: Any) -> tuple[str, str, str]:
    """(what, which key, fix) of the most telling error."""
    first = min(error.errors(), key=lambda e: (_distance(e, raw), _rank(e)))
    keys = _keys(first, raw)
    place = ".".join(str(key) for key in keys)
    if first["type"] in UNKNOWN_KEY:
        return f"there is no key '{keys[-1]}'", place, nearest(str(keys[-1]), _known_keys(keys[:-1], raw))
    if first["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        if isinstance(keys[-1], int):
            return f"value number {keys[-1] + 1} of the list is missing", place.rpartition(".")[0], "add it"
        return "this key is missing", place, "add it"
    if keys[-1:] == ["kind"]:
        kinds = [cls.kind for cls in _classes_at(keys[:-1], raw)]
        return f"there is no kind '{first['input']}'", place, nearest(str(first["input"]), kinds)
    message = first["msg"].removeprefix("Value error, ")
    message += "".join(f", or {e['ctx']['expected']}" for e in error.errors() if _is_other_choice(e, first, raw))
    given = "" if isinstance(first["input"], dict | list) or "got" in message else f", got {first['input']!r}"
    return message[0].lower() + message[1:] + given, place, "mend the value"


def _keys(error: Any, raw: Any) -> list[Any]:
    """Where in the config; pydantic also names the member of a union that was tried, a class or what a plain value might have been."""
    steps = _steps(error["loc"], raw)
    return [key for key, value, member in steps if member is None and (value is None or isinstance(value, dict | list))]


def _is_other_choice(error: Any, first: Any, raw: Any) -> bool:
    """True for the words, e.g. 'auto', that might stand in place of the number that is wrong."""
    return error["type"] == "literal_error" != first["type"] and _keys(error, raw) == _keys(first, raw)


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
        cls = None if own or not isinstance(key, str) else CLASSES.get(key)
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


CLASSES = {cls.__name__: cls for cls in _dataclasses(Config)}
