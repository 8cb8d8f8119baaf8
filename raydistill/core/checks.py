"""Checks of hyper-parameters; ValueError names the one that is wrong, and the config says where it stands."""

from __future__ import annotations

import math


def positive(record: object, *names: str) -> None:
    """Each of these attributes must be a positive number, and finite; NaN is neither."""
    for name in names:
        value = getattr(record, name)
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive, got {value}")


def not_negative(record: object, *names: str) -> None:
    """Each of these attributes must be 0 or a positive number, and finite."""
    for name in names:
        value = getattr(record, name)
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must not be negative, got {value}")


def at_least(least: float, **given: float | None) -> None:
    """Each number must be at least so large; None is not looked at."""
    for name, value in given.items():
        if value is not None and not value >= least:  # NaN is refused, too
            raise ValueError(f"{name} must be at least {least}, got {value}")


def at_least_0_below_1(**given: float) -> None:
    """Each number must lie in [0, 1)."""
    for name, value in given.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} must lie in [0, 1), got {value}")


def between_0_and_1(**given: float) -> None:
    """Each number must lie in [0, 1]."""
    for name, value in given.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must lie in [0, 1], got {value}")


def strictly_between_0_and_1(**given: float) -> None:
    """Each number must lie in (0, 1)."""
    for name, value in given.items():
        if not 0 < value < 1:
            raise ValueError(f"{name} must lie in (0, 1), got {value}")
