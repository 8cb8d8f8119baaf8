"""docs/config.md, every key of a config, from the dataclasses; to write it again: python -m tests.unit.test_config_reference"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import yaml

from raydistill.config import Config
from raydistill.config.messages import CLASSES

DOCUMENT = Path(__file__).parents[2] / "docs" / "config.md"
HEAD = """# Every key of a config

Written from the code, `raydistill/config/tree.py` and the classes that it names; a test holds it in step. A heading says where its keys
stand: one of `experts.training` is `experts.training.epochs=30` on the command line, and nested in YAML. NAME is a name of your own, KEY a
key of `distill`, N a number from 0. What comes in kinds has other keys for each. If you set a key of such a thing without its `kind`,
the default kind stays; if you name another kind, its defaults apply. `raydistill run CONFIG --dry-run` shows every key
with its value.

Not in the tables:
- `extends`, a name or a list of names, in a config or on the command line: files beside it, or shipped ones, whose values it starts from.
  The later of them wins, and its own values win over all.
- `augmentation` at the top is the augmentation of all uses: `experts.training`, `distill`, every `evaluate.protocols.NAME.training`,
  `evaluate.full_data` and `evaluate.dm`, each of which may still say otherwise. Left alone it is `dihedral` for galaxies, `mirror` with
  `curate.align`, and DSA's operations, one of them a batch (`mode: single`), for data sets (`image-folder`, `image-parquet`,
  `torchvision`, `cifar10`, `cifar100`, `idx`); the baseline `dm` then has DSA's in any case.
- Of a data set `curate` takes `classes: all`, `crop_fraction: 1` and `min_picture_size: 8`, unless you say otherwise.
- `evaluate.protocols.NAME=null` removes a protocol that what is extended has.

Names in the text that are no keys, as `core.effort`, are those of the code below `raydistill/`.
"""
WORDS = {int: "whole number", float: "number", str: "text", bool: "true, false", type(None): "null"}
LIMITS = {"gt": ">", "ge": "≥"}
IN_YAML = {"None": "null", "True": "true", "False": "false"}


def standing(annotation: Any = Config, place: str = "") -> Iterator[tuple[str, type]]:
    """(dotted place, class) of every dataclass in an annotation, in the order of the keys."""
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        yield place, annotation
        for key, hint in typing.get_type_hints(annotation).items():
            yield from standing(hint, f"{place}.{key}".lstrip("."))
    inside = {tuple: ".N", dict: ".KEY" if place == "search.space" else ".NAME"}.get(typing.get_origin(annotation), "")
    for argument in typing.get_args(annotation):
        yield from standing(argument, place + inside)


def kind_of(annotation: Any) -> str:
    """A type in a person's words."""
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        limits = [f" {sign} {getattr(one, key)}" for one in inside for key, sign in LIMITS.items() if hasattr(one, key)]
        return kind_of(inside[0]) + "".join(limits)
    if origin in (Union, types.UnionType):
        kinds = ", ".join(f"`{one.kind}`" for one in inside if hasattr(one, "kind"))
        others = [kind_of(one) for one in inside if not hasattr(one, "kind")]
        return " or ".join([f"kind {kinds}"] * bool(kinds) + others)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inside)
    if origin in (tuple, list):
        count = "" if origin is list or inside[-1] is ... else f" {len(inside)}"
        return f"list of{count}: {kind_of(inside[0])}"
    if origin is dict:
        return f"by name: {kind_of(inside[1])}"
    return "keys of its own" if dataclasses.is_dataclass(annotation) else WORDS.get(annotation, "any")


def default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def shortest(value: Any) -> Any:
    """Plain values; of a dataclass its kind, and what is not as its class has it."""
    if isinstance(value, dict):
        return {key: shortest(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return [shortest(one) for one in value]
    if not dataclasses.is_dataclass(value):
        return value
    own = {field.name: (getattr(value, field.name), default(field)) for field in dataclasses.fields(value)}
    return {key: shortest(one) for key, (one, usual) in own.items() if key == "kind" or one != usual}


def in_yaml(value: Any) -> str:
    if value is dataclasses.MISSING:
        return "must be given"
    if shortest(value) == {} != value:
        return "their defaults"
    return f"`{yaml.safe_dump(shortest(value), default_flow_style=True, width=1000, sort_keys=False).splitlines()[0]}`"


def explained(cls: type, keys: list[str]) -> Iterator[str]:
    """The docstring, and a line for what it or an ancestor's says of one key or several, in order of `keys`."""
    listed: list[tuple[str, str]] = []
    name = rf"`?\b(?:{'|'.join(keys)})\b`?"
    for one in (c for c in cls.__mro__ if dataclasses.is_dataclass(c)):
        if not one.__doc__ or one.__doc__.startswith(f"{one.__name__}("):  # none, or made from the fields
            continue
        text = re.sub(r"\b(None|True|False)\b", lambda word: IN_YAML[word[0]], inspect.cleandoc(one.__doc__))
        text = re.sub(r"`raydistill (\w+)`", r"`raydistill \1 CONFIG`", text)  # a whole command
        prose, _, parameters = text.partition("Parameters\n----------\n")
        listed += re.findall(r"^(\w[\w, ]*)\n((?:    .*\n?|\n)+)", parameters, re.M)
        for paragraph in prose.strip().split("\n\n"):
            joined = f"{paragraph}\n" if paragraph.startswith("    ") else " ".join(paragraph.split())
            first, *said = re.split(rf"(?:^|(?<=[.)] ))({name}(?:, {name})*): ", joined)
            listed += [(names, text[0].upper() + text[1:]) for names, text in zip(said[::2], said[1::2], strict=True)]
            if one is cls:
                yield f"{first.rstrip()}\n"
    told = [(re.findall(r"\w+", names), " ".join(meaning.split())) for names, meaning in listed]
    for names, meaning in sorted(told, key=lambda one: keys.index(one[0][0])):
        yield f"- {', '.join(f'`{name}`' for name in names)}: {meaning}"


def document() -> str:
    """docs/config.md."""
    places: dict[type[Any], list[str]] = {}
    for place, cls in standing():
        places.setdefault(cls, []).append(place)
    parts = [HEAD]
    for cls, where in places.items():
        fields = {field.name: field for field in dataclasses.fields(cls) if field.name != "kind"}
        kind = f", kind {cls.kind}" if hasattr(cls, "kind") else ""
        parts.append(f"\n## {', '.join(f'`{place}`' for place in where) if where[0] else 'At the top'}{kind}\n")
        parts += explained(cls, list(fields))
        parts.append("\n| key | type | default |\n|---|---|---|")
        hints = typing.get_type_hints(cls, include_extras=True)
        parts += [
            f"| `{name}` | {kind_of(hints[name])} | {in_yaml(default(field))} |" for name, field in fields.items()
        ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts)) + "\n"


def test_every_class_has_its_place() -> None:
    assert {cls for _, cls in standing()} == set(CLASSES.values())


def test_the_document_is_in_step() -> None:
    assert DOCUMENT.read_text() == document(), "write it again: python -m tests.unit.test_config_reference"


if __name__ == "__main__":
    DOCUMENT.write_text(document())
