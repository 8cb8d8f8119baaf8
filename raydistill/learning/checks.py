"""Check hyper-parameters: functions raise a ValueError that names the parameter."""

from __future__ import annotations

import math
from typing import get_args


def positive(record: object, *names: str) -> None:
    """Check that each of these attributes is positive and finite."""
    for name in names:
        value = getattr(record, name)
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive, got {value}")


def not_negative(record: object, *names: str) -> None:
    """Check that each of these attributes is 0 or positive, and finite."""
    for name in names:
        value = getattr(record, name)
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must not be negative, got {value}")


def at_least(least: float, **values: float | None) -> None:
    """Check that each number is at least `least`; None is ignored."""
    for name, value in values.items():
        if value is not None and not value >= least:  # `not >=` rejects NaN too
            raise ValueError(f"{name} must be at least {least}, got {value}")


def at_least_0_below_1(**values: float) -> None:
    """Check that each number lies in [0, 1)."""
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} must lie in [0, 1), got {value}")


def between_0_and_1(**values: float) -> None:
    """Check that each number lies in [0, 1]."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must lie in [0, 1], got {value}")


def strictly_between_0_and_1(**values: float) -> None:
    """Check that each number lies in (0, 1)."""
    for name, value in values.items():
        if not 0 < value < 1:
            raise ValueError(f"{name} must lie in (0, 1), got {value}")


def among(choices: object, **values: object) -> None:
    """Check that each value is one of a `typing.Literal`."""
    for name, value in values.items():
        if value not in get_args(choices):
            raise ValueError(f"{name} must be one of {', '.join(map(str, get_args(choices)))}, got {value!r}")
