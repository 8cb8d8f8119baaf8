"""The search space of `tune`, translated between config and Optuna distributions."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from raydistill.config import Config, Distill, Population, Range, Search, plain, vary
from raydistill.errors import ConfigError
from raydistill.pipeline.checks import check

WHERE = "search.space"
# Keys that take effect during a run. All others are part of the checkpoint from which another
# member continues.
CHANGEABLE = (
    r"(image|lr|label)_step\.(lr|momentum)|ema|student_steps|batch_size|skip_above|skip_layers|augmentation\.\w+"
    r"|schedule\.(significance|min_duration|max_duration|patience|decay|explore|power)"
)


def check_space(config: Config) -> None:
    """Raise ConfigError if the space holds an invalid recipe.

    Combinations of keys are not checked.
    """
    if not config.search.space:
        fix = "name keys of distill and their values, as configs/gz2_search.yaml does"
        raise ConfigError("there is nothing to search", WHERE, fix)
    if isinstance(config.search.stopping, Population):
        for key in config.search.space:
            if not re.fullmatch(CHANGEABLE, key):
                what = f"'{key}' cannot change during distillation, as the values of a population do"
                raise ConfigError(what, f"{WHERE}.{key}", "leave it out, or choose another search.stopping")
    for key, values in config.search.space.items():
        for value in values if isinstance(values, list) else _examples(values):
            check(_with_values(config, {key: value}))


def _examples(values: Range) -> list[float]:
    """Return both ends, and a fraction between them unless the range is of integers."""
    ends = [values.low, values.high]
    return ends if values.whole else [*ends, values.low + (values.high - values.low) / math.pi]


def recipe_of(config: Config, values: Mapping[str, Any]) -> Distill:
    """Return the config's recipe with some values replaced, by key of `distill`."""
    return _with_values(config, values).distill


def _with_values(config: Config, values: Mapping[str, Any]) -> Config:
    return vary(config, {f"distill.{key}": value for key, value in values.items()}, WHERE)


def distributions(search: Search) -> dict[str, BaseDistribution]:
    """Return the space as Optuna's distributions; a list becomes a choice of indices."""
    result: dict[str, BaseDistribution] = {}
    for key, values in search.space.items():
        if isinstance(values, list):
            result[key] = CategoricalDistribution(range(len(values)))
        elif values.whole:
            result[key] = IntDistribution(int(values.low), int(values.high), log=values.log)
        else:
            result[key] = FloatDistribution(values.low, values.high, log=values.log)
    return result


def max_iterations(config: Config) -> int:
    """Return the number of iterations of the longest possible trial."""
    values = config.search.space.get("iterations", [config.distill.iterations])
    return max(map(int, values)) if isinstance(values, list) else int(values.high)


def decode(search: Search, drawn: Mapping[str, Any]) -> dict[str, Any]:
    """Return the drawn values of `distill`: an index becomes the value in its list."""
    return {key: values[drawn[key]] if isinstance(values, list) else drawn[key] for key, values in search.space.items()}


def own_recipe(config: Config) -> dict[str, Any] | None:
    """Return the config's recipe as a point of the space, or None if it is outside."""
    point: dict[str, Any] = {}
    for key, values in config.search.space.items():
        value = _value_at(config.distill, key)
        if isinstance(values, list):
            recipes = [recipe_of(config, {key: listed}) for listed in values]
            indices = [n for n, recipe in enumerate(recipes) if _value_at(recipe, key) == value]
            if not indices:
                return None
            point[key] = indices[0]
        elif isinstance(value, int | float) and values.low <= value <= values.high:
            point[key] = value
        else:
            return None
    return point


def _value_at(recipe: Distill, key: str) -> Any:
    """Return a recipe's value at a dotted key, with defaults; None for an unknown key."""
    value: Any = plain(recipe)
    for name in key.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value
