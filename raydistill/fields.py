"""Declare config keys that older releases lack.

An artifact's identity is a digest of its part of the config, with all defaults. A new key would
change every identity, and `run` would build every artifact again. The identity leaves out a key of
`later` that has its default value, so artifacts of older releases are still found.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, field, fields, is_dataclass
from typing import Any

LATER = "raydistill.later"


def later(default: Any) -> Any:
    """Return a dataclass field with this default, which an identity leaves out.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Curate:
    ...     image_size: int = 32
    ...     fill: str = later("none")
    >>> drop_later_defaults(Curate(), {"image_size": 32, "fill": "none"})
    {'image_size': 32}
    """
    metadata = {LATER: True}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def drop_later_defaults(config: Any, values: Any) -> Any:
    """Return `values` (plain `config`) without keys of `later` at their defaults."""
    if is_dataclass(config) and isinstance(values, dict):
        kept = [one.name for one in fields(config) if not _is_later_default(one, getattr(config, one.name))]
        return {name: drop_later_defaults(getattr(config, name), values[name]) for name in kept}
    if isinstance(config, dict):
        return {key: drop_later_defaults(one, values[key]) for key, one in config.items()}
    if isinstance(config, tuple | list):
        return [drop_later_defaults(one, value) for one, value in zip(config, values, strict=True)]
    return values


def _is_later_default(one: Field[Any], value: Any) -> bool:
    default = one.default if one.default_factory is MISSING else one.default_factory()
    return LATER in one.metadata and bool(value == default)
