"""The files of a search: `trials.parquet`, `best.yaml` and the figure."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from raydistill.config import plain
from raydistill.errors import ClusterError, ConfigError, DivergenceError, RaydistillError
from raydistill.escaping import for_config
from raydistill.figures.drawing import CHART_DPI, MUTED, VERMILION, Target, save, styled
from raydistill.pipeline.plan import Plan
from raydistill.runtime.stages import save_figure
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.tune.artifact import BEST, TRIALS, TRIALS_SCHEMA
from raydistill.stages.tune.population import publish_best
from raydistill.stages.tune.recorder import DIVERGED, FAILED, METRIC, NO_RECIPE, RUNNING, UNSUCCESSFUL, Trial
from raydistill.stages.tune.space import WHERE, distributions, recipe_of
from raydistill.tracking.tracker import Run


def write_report(plan: Plan, trials: Iterable[Trial], curated: CuratedSet, run: Run) -> None:
    """Write the table of trials, the best recipe as a config, and a figure of values."""
    spec, search = plan.search, plan.config.search
    ranking = rank(trial for trial in trials if trial.status != RUNNING)
    if all(trial.status in UNSUCCESSFUL for trial in ranking):
        raise no_success_error(ranking)
    best = ranking[0]
    if not best.folder:  # a member of a population
        best.folder = publish_best(plan, best, curated, run)
    with spec.folder.writing(TRIALS) as path:
        pq.write_table(pa.Table.from_pylist([_row(trial) for trial in ranking], TRIALS_SCHEMA), path)
    spec.folder.write(BEST, _best_config(plan, best).encode())
    run.artifact(spec.folder.local(BEST))
    run.metrics({f"best/{METRIC}": best.best[0]}, 0)
    points = [(trial.values, trial.best[0]) for trial in ranking if trial.status not in UNSUCCESSFUL]
    title = f"{plan.config.name}: {len(ranking)} recipes, balanced accuracy on validation images"
    save_figure(
        spec, run, "parallel.png", lambda path: parallel_coordinates(path, points, distributions(search), title)
    )


def rank(trials: Iterable[Trial]) -> list[Trial]:
    """Return the trials, best first; unsuccessful ones come last at any accuracy."""
    return sorted(trials, key=lambda trial: (trial.status in UNSUCCESSFUL, -trial.best[0], trial.name))


def no_success_error(trials: list[Trial]) -> RaydistillError:
    """Return the error of a search without a successful trial, for one example.

    A failure of the cluster is named first: running the command again may succeed.
    """
    narrow = f"narrow {WHERE}"
    kinds: dict[str, tuple[type[RaydistillError], str]] = {
        FAILED: (ClusterError, "run the same command again to repeat the failed trials"),
        DIVERGED: (DivergenceError, narrow),
        NO_RECIPE: (ConfigError, narrow),
    }
    example = min(trials, key=lambda trial: list(kinds).index(trial.status))
    kind, fix = kinds[example.status]
    return kind(f"none of {len(trials)} trials succeeded; one of them: {example.said}", "tune", fix)


def _row(trial: Trial) -> dict[str, Any]:
    best, iteration = trial.best
    last = trial.validations[-1] if trial.validations else (0, 0.0)
    return {
        "trial": trial.name, "values": json.dumps(trial.values), "best": best, "best_iteration": iteration,
        "last": last[1], "iterations": last[0], "status": trial.status, "said": trial.said, "folder": trial.folder,
        "schedule": json.dumps(trial.schedule) if trial.schedule else None,
    }  # fmt: skip


def _best_config(plan: Plan, best: Trial) -> str:
    """Return `best.yaml`: the whole config with the best recipe, and how to run it."""
    config = plain(replace(plan.config, distill=recipe_of(plan.config, best.values)))
    del config["search"]
    if best.schedule:  # the values changed on the way, so no recipe reproduces the set
        config["distilled"] = best.folder
    head = f"# {plan.config.name}: the best of {plan.config.search.trials} recipes of a search, {best.best[0]:.3f} on validation images.\n"
    command = f"# command:  raydistill run {plan.search.folder.uri}/{BEST}\n"
    return head + command + for_config(config)


# Draw the trials of a search in parallel coordinates.


class _Axis(NamedTuple):
    """A vertical axis: `place` maps to heights in [0, 1], `ticks` are (height, text)."""

    name: str
    place: Callable[[Any], float]
    ticks: list[tuple[float, str]]


@styled
def parallel_coordinates(
    path: Target,
    trials: Sequence[tuple[Mapping[str, Any], float]],
    space: Mapping[str, BaseDistribution],
    title: str = "",
) -> None:
    """Draw one line per trial, through its values to its accuracy.

    A darker line has a better accuracy; the best trial has another colour.

    Parameters
    ----------
    trials
        (values by key, balanced accuracy) of each trial.
    space
        Distribution of each key; a categorical key may hold any JSON value.
    title
        Title of the figure.
    """
    accuracies = [accuracy for _, accuracy in trials]
    least, most = min(accuracies), max(accuracies)
    axes_of = [_axis(key, allowed, [values[key] for values, _ in trials]) for key, allowed in space.items()]
    axes_of.append(_numeric_axis("balanced accuracy", least, max(most, least + 0.01), log=False, whole=False))
    figure = Figure(figsize=(1.2 + 1.75 * len(axes_of), 5.0), dpi=CHART_DPI)
    axes = figure.add_axes((0.02, 0.14, 0.93, 0.76))
    axes.set_axis_off()
    axes.set_xlim(-0.35, len(axes_of) - 0.5)
    axes.set_ylim(-0.03, 1.03)
    for rank, number in enumerate(np.argsort(accuracies, kind="stable")):
        values, accuracy = trials[number]
        heights = [axis.place(values[axis.name]) for axis in axes_of[:-1]] + [axes_of[-1].place(accuracy)]
        best = rank == len(trials) - 1
        colour = VERMILION if best else colormaps["Blues"](0.25 + 0.75 * axes_of[-1].place(accuracy))
        axes.plot(range(len(axes_of)), heights, color=colour, linewidth=2.2 if best else 1.1, zorder=2 + rank)
    for x, axis in enumerate(axes_of):
        _draw_axis(axes, x, axis, above=2 + len(trials))
    figure.text(0.02, 0.95, title, fontweight="bold")
    save(figure, path)


def _draw_axis(axes: Axes, x: int, axis: _Axis, above: int) -> None:
    axes.plot([x, x], [0, 1], color=MUTED, linewidth=1, zorder=above)
    axes.text(x, -0.05, axis.name.replace(".", ".\n"), ha="center", va="top", fontweight="bold")
    for y, text in axis.ticks:
        axes.plot([x - 0.02, x], [y, y], color=MUTED, linewidth=1, zorder=above)
        box = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1}
        va = "center" if 0.1 < y < 0.9 else "bottom" if y <= 0.1 else "top"
        axes.text(x - 0.04, y, text, ha="right", va=va, fontsize=7, bbox=box, zorder=above)


def _axis(key: str, space: BaseDistribution, values: list[Any]) -> _Axis:
    if isinstance(space, CategoricalDistribution):
        names = sorted({_format_category(value) for value in values})
        places = {name: n / max(1, len(names) - 1) for n, name in enumerate(names)}
        return _Axis(key, lambda value: places[_format_category(value)], [(y, name) for name, y in places.items()])
    assert isinstance(space, FloatDistribution | IntDistribution)
    return _numeric_axis(key, space.low, space.high, space.log, isinstance(space, IntDistribution))


def _numeric_axis(key: str, low: float, high: float, log: bool, whole: bool) -> _Axis:
    def place(value: float) -> float:
        return math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)

    locator = LogLocator(subs=(1, 2, 5)) if log else MaxNLocator(5, integer=whole)
    inside = [float(tick) for tick in locator.tick_values(low, high) if low <= tick <= high]
    return _Axis(key, place, [(place(tick), f"{tick:g}") for tick in inside])


def _format_category(value: Any) -> str:
    """Return a category as text, on lines that fit between two axes."""
    if isinstance(value, dict):
        options = (
            f"{key.replace('_', ' ')} {_format_category(option)}" for key, option in value.items() if key != "kind"
        )
        return "\n".join([*([str(value["kind"])] if "kind" in value else []), *options])
    return (value if isinstance(value, str) else json.dumps(value)).replace('"', "")
