"""Find the keys of a config that differ from their defaults, and show them."""

from __future__ import annotations

import html
import json
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, ClassVar

from pydantic_core import to_jsonable_python

MAX_REPR = 300


class ShownByDifferences:
    """A config whose repr names the keys that differ from their defaults.

    A notebook shows a table of their values.
    """

    name: str
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __repr__(self) -> str:
        keys = ", ".join(key for key, *_ in differences(self) if key != "name")
        return textwrap.shorten(f"<Config '{self.name}': sets {keys}", MAX_REPR, placeholder=" …") + ">"

    def _repr_html_(self) -> str:
        head = "<tr><th>key</th><th>value</th><th>default</th></tr>"
        rows = [[key, _text(value), _text(default)] for key, value, default in differences(self)]
        cells = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows)
        return f"<table>{head}{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"


def differences(value: Any, default: Any = MISSING, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield dotted key, value and default of each key that differs.

    MISSING stands for no default.
    """
    below: dict[str, tuple[Any, Any]] = {}
    if is_dataclass(value):
        same = type(default) is type(value)
        for field in fields(value):
            other = getattr(default, field.name) if same else _default(field)
            below[field.name] = getattr(value, field.name), other
        if not same and default is not MISSING and "kind" in below:
            below["kind"] = below["kind"][0], getattr(default, "kind", None)
    elif isinstance(value, dict):
        old = default if isinstance(default, dict) else {}
        below = {str(name): (item, old.get(name, MISSING)) for name, item in value.items()}
    if not below:
        yield key, value, default
    for name, (item, other) in below.items():
        if item != other:
            yield from differences(item, other, f"{key}.{name}" if key else name)


def chosen(config: Any) -> dict[str, Any]:
    """Return the values that differ from their defaults, plain, by dotted key."""
    return {key: to_jsonable_python(value) for key, value, _ in differences(config)}


def _default(field: Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _text(value: Any) -> str:
    return "" if value is MISSING else json.dumps(value, default=str)
