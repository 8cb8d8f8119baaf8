"""A picture of a search: which values went with which accuracy."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution

from raydistill.analysis.drawing import Target, save, styled


@styled
def parallel_coordinates(
    path: Target,
    trials: Sequence[tuple[Mapping[str, Any], float]],
    space: Mapping[str, BaseDistribution],
    title: str = "",
) -> None:
    """One line per trial through its values, coloured by its accuracy: Optuna's picture, made wide enough to read.

    trials: (values by key, accuracy); what is a category in `space` may be any value.
    """
    names = {key for key, one in space.items() if isinstance(one, CategoricalDistribution)}
    words = [{k: _word(v) if k in names else v for k, v in values.items()} for values, _ in trials]
    drawn = {
        k: CategoricalDistribution(sorted({w[k] for w in words})) if k in names else one for k, one in space.items()
    }
    study = optuna.create_study(direction="maximize")
    for values, (_, accuracy) in zip(words, trials, strict=True):
        study.add_trial(optuna.create_trial(params=values, distributions=drawn, value=accuracy))
    with warnings.catch_warnings(action="ignore"):  # the function is called experimental
        axes = optuna.visualization.matplotlib.plot_parallel_coordinate(study, target_name="balanced accuracy")
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.set_size_inches(3 + 2 * len(space), 5)
    axes.set_title("")
    axes.set_title(title, loc="left")
    axes.tick_params(axis="x", labelrotation=0)
    axes.set_xticks(axes.get_xticks(), [label.get_text() for label in axes.get_xticklabels()], ha="center")
    for one in figure.axes:
        one.spines["right"].set_visible(True)
    figure.tight_layout()
    save(figure, path)


def _word(value: Any) -> str:
    """A category as a person would write it, on lines that fit between two axes."""
    text = value if isinstance(value, str) else json.dumps(value)
    if isinstance(value, dict):
        text = "\n".join(f"{key}: {_word(one)}" for key, one in value.items())
    return text.replace('"', "")
