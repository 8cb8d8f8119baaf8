"""Generate docs/config.md from the dataclasses.

Usage: python -m tests.unit.test_config_reference
"""

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
from raydistill.config.messages import LIMITS as MOST_OF_KEYS
from raydistill.config.messages import classes

DOCUMENT = Path(__file__).parents[2] / "docs" / "config.md"
HEAD = """# Configuration reference

This page lists every key of a config. Set a key in YAML, or on the command line: `experts.training.epochs=30`.
`raydistill run CONFIG --dry-run --json` shows every key with its value. In headings, NAME is a name of your own, KEY
a key of `distill`, and N a number from 0.

Each kind of a survey, network, schedule or step has its own keys. A key without `kind` changes the default
kind. A new `kind` starts from its own defaults.

Limits keep a slip from costing the memory of a machine. Any whole number without a limit of its own is at most
10⁹. A file has at most 5,000 values, with those that aliases repeat, and 50 levels.

Further keys and defaults:
- `extends` names base configs, in a config or on the command line: files beside it, or shipped ones. Later ones take
  precedence, and the config's own values override them all.
- `augmentation` at the top sets the augmentation of `experts.training`, `distill`, `evaluate.full_data`, `evaluate.dm` and every
  `evaluate.protocols.NAME.training`, and of `adapt.training`. Each of them may override it. The default is `dihedral` for galaxies, and
  `mirror` with `curate.align`. For data sets (`image-folder`, `image-parquet`, `torchvision`, `cifar10`, `cifar100`, `idx`,
  `arrays`) it is   DSA's operations, one per batch (`mode: single`). The default of the baseline `dm` is always DSA's.
- For a data set, the defaults of `curate` are `classes: all`, `crop_fraction: 1` and `min_picture_size: 8`.
- `evaluate.protocols.NAME=null` removes a protocol of a base config.
- `${oc.env:NAME}` in a value stands for an environment variable, and `${seed}` for another key. `\\${` is no
  reference. Text from servers and tables is never one: configs that raydistill writes give it back as it stands.

Names in the text that are not keys, such as `learning.metrics`, are modules below `raydistill/`. The page is written
from the docstrings of `raydistill/config/tree.py` and the classes that it names; a test compares them.
"""
WORDS = {int: "whole number", float: "number", str: "text", bool: "true, false", type(None): "null"}
LIMITS = {"gt": ">", "ge": "≥"}
IN_YAML = {"None": "null", "True": "true", "False": "false"}


def find_classes(annotation: Any = Config, place: str = "") -> Iterator[tuple[str, type]]:
    """Yield (dotted place, class) of each dataclass in an annotation, in key order."""
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        yield place, annotation
        for key, hint in typing.get_type_hints(annotation).items():
            yield from find_classes(hint, f"{place}.{key}".lstrip("."))
    inside = {tuple: ".N", dict: ".KEY" if place == "search.space" else ".NAME"}.get(typing.get_origin(annotation), "")
    for argument in typing.get_args(annotation):
        yield from find_classes(argument, place + inside)


def describe_type(annotation: Any) -> str:
    """Return a readable type."""
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        limits = [f" {sign} {getattr(p, key)}" for p in inside for key, sign in LIMITS.items() if hasattr(p, key)]
        return describe_type(inside[0]) + "".join(limits)
    if origin in (Union, types.UnionType):
        kinds = ", ".join(f"`{p.kind}`" for p in inside if hasattr(p, "kind"))
        others = [describe_type(p) for p in inside if not hasattr(p, "kind")]
        return " or ".join([f"kind {kinds}"] * bool(kinds) + others)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inside)
    if origin in (tuple, list):
        count = "" if origin is list or inside[-1] is ... else f" {len(inside)}"
        return f"list of{count}: {describe_type(inside[0])}"
    if origin is dict:
        return f"by name: {describe_type(inside[1])}"
    return "keys of its own" if dataclasses.is_dataclass(annotation) else WORDS.get(annotation, "any")


def with_limit(described: str, name: str) -> str:
    """Return a described type with the upper limit of a key of this name."""
    if name not in MOST_OF_KEYS or name == "seed":
        return described
    return re.sub(r"whole number( > 0)?", rf"whole number\1 ≤ {MOST_OF_KEYS[name]}", described, count=1)


def default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def shortest(value: Any) -> Any:
    """Return plain values; for a dataclass, its kind and its non-default values."""
    if isinstance(value, dict):
        return {key: shortest(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [shortest(item) for item in value]
    if not dataclasses.is_dataclass(value):
        return value
    values = {field.name: (getattr(value, field.name), default(field)) for field in dataclasses.fields(value)}
    return {key: shortest(item) for key, (item, usual) in values.items() if key == "kind" or item != usual}


def in_yaml(value: Any) -> str:
    if value is dataclasses.MISSING:
        return "must be given"
    if shortest(value) == {} != value:
        return "their defaults"
    return f"`{yaml.safe_dump(shortest(value), default_flow_style=True, width=1000, sort_keys=False).splitlines()[0]}`"


def read_docstring(cls: type, keys: list[str]) -> tuple[list[str], dict[str, str]]:
    """Return the paragraphs of a docstring, and the description of every key.

    Keys may be described in the docstring or in those of its ancestors.
    """
    paragraphs, meanings = [], {}
    name = rf"`?\b(?:{'|'.join(keys)})\b`?"
    for base in (c for c in cls.__mro__ if dataclasses.is_dataclass(c)):
        if not base.__doc__ or base.__doc__.startswith(f"{base.__name__}("):  # generated from the fields
            continue
        text = re.sub(r"\b(None|True|False)\b", lambda word: IN_YAML[word[0]], inspect.cleandoc(base.__doc__))
        text = re.sub(r"`raydistill (\w+)`", r"`raydistill \1 CONFIG`", text)  # a whole command
        prose, _, sections = text.partition("Parameters\n----------\n")
        parameters, *notes = re.split(r"^\w+\n-+\n", sections, flags=re.M)
        listed = re.findall(r"^(\w[\w, ]*)\n((?:    .*\n?|\n)+)", parameters, re.M)
        for paragraph in [*prose.strip().split("\n\n"), *(note.strip() for note in notes)]:
            joined = f"{paragraph}\n" if paragraph.startswith("    ") else " ".join(paragraph.split())
            first, *described = re.split(rf"(?:^|(?<=[.)] ))({name}(?:, {name})*): ", joined)
            listed += zip(described[::2], described[1::2], strict=True)
            if base is cls and first.strip():
                paragraphs.append(f"{first.rstrip()}\n")
        for names, meaning in listed:
            for key in re.findall(r"\w+", names):
                meanings.setdefault(key, (meaning[0].upper() + meaning[1:]) if meaning[0].strip() else meaning)
    return paragraphs, {key: " ".join(meaning.split()).replace("|", "\\|") for key, meaning in meanings.items()}


def document() -> str:
    """Return the text of docs/config.md."""
    places: dict[type[Any], list[str]] = {}
    for place, cls in find_classes():
        places.setdefault(cls, []).append(place)
    parts = [HEAD]
    for cls, where in places.items():
        fields = {field.name: field for field in dataclasses.fields(cls) if field.name != "kind"}
        kind = f", kind {cls.kind}" if hasattr(cls, "kind") else ""
        parts.append(f"\n## {', '.join(f'`{place}`' for place in where) if where[0] else 'At the top'}{kind}\n")
        paragraphs, meanings = read_docstring(cls, list(fields))
        parts += paragraphs
        if fields:
            parts.append("\n| key | type | default | description |\n|---|---|---|---|")
        hints = typing.get_type_hints(cls, include_extras=True)
        parts += [
            f"| `{name}` | {with_limit(describe_type(hints[name]), name)} | {in_yaml(default(field))} "
            f"| {meanings.get(name, '')} |"
            for name, field in fields.items()
        ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts)) + "\n"


def test_every_class_is_in_the_reference() -> None:
    assert {cls for _, cls in find_classes()} == set(classes().values())


def test_the_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text() == document(), "run: python -m tests.unit.test_config_reference"


def test_every_key_has_a_description() -> None:
    assert re.findall(r"^.*\|  \|$", document(), flags=re.M) == []


if __name__ == "__main__":
    DOCUMENT.write_text(document())
