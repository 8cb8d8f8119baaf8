"""The space of recipes that `tune` searches, between the config's words and Optuna's."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from raydistill.config import Config, Distill, Population, Range, Search, plain, vary
from raydistill.errors import ConfigError
from raydistill.pipeline.plan import check

WHERE = "search.space"
# What takes effect in the midst of distilling; the rest is in the saved state that another member goes on from.
CHANGEABLE = (
    r"(image|lr|label)_step\.(lr|momentum)|ema|student_steps|batch_size|skip_above|skip_layers|augmentation\.\w+"
    r"|schedule\.(significance|min_duration|max_duration)"
)


def check_space(config: Config) -> None:
    """ConfigError for a space that holds what is no recipe; looked at along each key, not in all combinations."""
    if not config.search.space:
        fix = "name keys of distill and their values, as configs/gz2_search.yaml does"
        raise ConfigError("there is nothing to search", WHERE, fix)
    if isinstance(config.search.stopping, Population):
        for key in config.search.space:
            if not re.fullmatch(CHANGEABLE, key):
                what = f"'{key}' cannot change once images are being distilled, as a population's values do"
                raise ConfigError(what, f"{WHERE}.{key}", "leave it out, or take another search.stopping")
    for key, values in config.search.space.items():
        for value in values if isinstance(values, list) else _examples(values):
            check(_varied(config, {key: value}))


def _examples(values: Range) -> list[float]:
    """Its ends, and of a range that is not of whole numbers one between them, which a key that wants whole ones does not take."""
    ends = [values.low, values.high]
    return ends if values.whole else [*ends, values.low + (values.high - values.low) / math.pi]


def recipe_of(config: Config, values: Mapping[str, Any]) -> Distill:
    """The config's recipe with these values, by key of `distill`."""
    return _varied(config, values).distill


def _varied(config: Config, values: Mapping[str, Any]) -> Config:
    return vary(config, {f"distill.{key}": value for key, value in values.items()}, WHERE)


def distributions(search: Search) -> dict[str, BaseDistribution]:
    """The space in Optuna's words; of a list of values, which may be anything, it gets the numbers."""
    found: dict[str, BaseDistribution] = {}
    for key, values in search.space.items():
        if isinstance(values, list):
            found[key] = CategoricalDistribution(range(len(values)))
        elif values.whole:
            found[key] = IntDistribution(int(values.low), int(values.high), log=values.log)
        else:
            found[key] = FloatDistribution(values.low, values.high, log=values.log)
    return found


def longest(config: Config) -> int:
    """Iterations of the longest trial."""
    values = config.search.space.get("iterations", [config.distill.iterations])
    return max(values) if isinstance(values, list) else int(values.high)


def decoded(search: Search, drawn: Mapping[str, Any]) -> dict[str, Any]:
    """What Optuna drew, as values of `distill`."""
    spaces = search.space
    return {key: space[drawn[key]] if isinstance(space := spaces[key], list) else drawn[key] for key in spaces}


def own_recipe(config: Config) -> dict[str, Any] | None:
    """The config's recipe as a point of the space, which is tried first; None where it lies outside."""
    point: dict[str, Any] = {}
    for key, values in config.search.space.items():
        value = _at(config.distill, key)
        if isinstance(values, list):
            matching = [n for n, one in enumerate(values) if _at(recipe_of(config, {key: one}), key) == value]
            if not matching:
                return None
            point[key] = matching[0]
        elif isinstance(value, int | float) and values.low <= value <= values.high:
            point[key] = value
        else:
            return None
    return point


def _at(recipe: Distill, key: str) -> Any:
    """What a recipe holds at a dotted key, with all its defaults; None where there is no such key."""
    found: Any = plain(recipe)
    for name in key.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found
