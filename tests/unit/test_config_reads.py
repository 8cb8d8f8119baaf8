"""A key of the config is read in at most three files.

Counted are reads that name the section, such as `config.curate.align`, of keys whose name no other
key has. Every stage uses the sections `survey` and `resources`: they describe data and machine.
"""

import ast
import dataclasses
import typing
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import raydistill
from raydistill.config import Config

MOST = 3  # files
ROOT = Path(raydistill.__file__).parent
SHARED = ("survey", "resources")

Key = tuple[str, str]  # section and name


def keys_of(kind: Any, section: str = "config") -> Iterator[Key]:
    """Yield the keys of a dataclass; a field of one dataclass is a section."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if not dataclasses.is_dataclass(hints[field.name]):
            yield section, field.name
        for part in dataclasses_in(hints[field.name]) if field.name not in SHARED else ():
            yield from keys_of(part, field.name)


def dataclasses_in(hint: object) -> Iterator[Any]:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        yield hint
    for argument in typing.get_args(hint):
        yield from dataclasses_in(argument)


def reads(source: str) -> set[Key]:
    """Return the last two names of attributes, such as (curate, align)."""
    attributes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)]
    return {(ast.unparse(node.value).rpartition(".")[2], node.attr) for node in attributes}


def test_a_key_is_read_in_at_most_three_files() -> None:
    keys = set(keys_of(Config))
    names = Counter(name for _, name in keys)
    files: defaultdict[str, list[str]] = defaultdict(list)
    for path in ROOT.rglob("*.py"):
        for section, name in reads(path.read_text()) & keys:
            files[f"{section}.{name}"].append(str(path.relative_to(ROOT)))
    counted = {key: read for key, read in files.items() if names[key.rpartition(".")[2]] == 1}
    assert len(counted) > 100
    assert not {key: sorted(read) for key, read in counted.items() if len(read) > MOST}
