"""Draw training sets' accuracies over labelled galaxies and over optimiser steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from raydistill.figures.drawing import (
    BLUE,
    CHART_DPI,
    FAINT,
    GREEN,
    INK,
    MUTED,
    PURPLE,
    VERMILION,
    Target,
    save,
    styled,
)
from raydistill.text import shown_name

# Each group of methods has one colour, so that a crowded figure can be read.
COLOURS = {
    "real_synthetic": VERMILION, "synthetic_only": PURPLE, "real_distilled": GREEN, "distilled_only": GREEN,
    "generator_labels": INK,
}  # fmt: skip
DASHED = ("synthetic_only", "distilled_only", "generator_labels")
MARKERS = {"flips": "o", "oversampling": "s", "class_balanced": "D", "focal": "v", "mixup": "^", "real": "x"}
PANELS = (("balanced_accuracy", "balanced accuracy"), ("macro_f1", "macro-F1"))
CHOSEN = "(chosen)"


@styled
def few_shot_curves(path: Target, summary: Mapping[str, Any]) -> None:
    """Draw test accuracies over the number of labelled galaxies of each class.

    Parameters
    ----------
    path
        File name, or a binary file open for writing.
    summary
        The contents of `report.json`.
    """
    shots = [entry["shots"] for entry in summary["baselines"]]
    figure, panels = _panels(summary, "test galaxies, mean and 95 % interval over seeds and replicates")
    for axes, (name, label) in zip(panels, PANELS, strict=True):
        for series in _series(summary["results"]):
            entries = {entry["compared_at"]: entry[name] for entry in series}
            points = [entries[count] for count in shots if count in entries]
            _draw(axes, list(range(len(points))), points, series[0])
        axes.set_xticks(range(len(shots)), ["all" if count is None else str(count) for count in shots])
        axes.set_xlabel("labelled galaxies of each class")
        axes.set_ylabel(label)
    _finish(figure, panels)
    save(figure, path)


@styled
def step_curves(path: Target, summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], shots: int | None) -> None:
    """Draw test accuracies over optimiser steps, at one number of labelled galaxies.

    Parameters
    ----------
    path
        File name, or a binary file open for writing.
    summary
        The contents of `report.json`.
    rows
        Rows of `runs.parquet`.
    shots
        Labelled galaxies of each class; None: all.
    """
    title = f"{'all' if shots is None else shots} labelled galaxies of each class, test galaxies, mean over seeds"
    figure, panels = _panels(summary, title)
    shown = [entry for entry in summary["results"] if entry["compared_at"] == shots and entry["source"] != CHOSEN]
    for axes, (name, label) in zip(panels, PANELS, strict=True):
        for entry in shown:
            key = (entry["method"], entry["source"], entry["shots"])
            own = [row for row in rows if (row["method"], row["source"], row["shots"]) == key]
            means = [float(np.mean([row[name] for row in own if row["step"] == s])) for s in summary["recorded"]]
            _draw(axes, summary["recorded"], [{"mean": mean, "low": None} for mean in means], entry)
        if len(summary["recorded"]) > 1:
            axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xticks(summary["recorded"], [str(step) for step in summary["recorded"]])
        axes.set_xlabel("optimiser steps")
        axes.set_ylabel(label)
    _finish(figure, panels)
    save(figure, path)


def _panels(summary: Mapping[str, Any], title: str) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(9.2, 4.6), dpi=CHART_DPI, layout="constrained")
    panels = [figure.add_subplot(1, len(PANELS), number + 1) for number in range(len(PANELS))]
    kind = "simulated survey" if summary["simulated"] else "survey"
    figure.suptitle(f"{summary['survey']} ({kind}): {title}", fontsize=9, fontweight="bold")
    return figure, panels


def _series(results: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Return the results by method and source, without the repeated chosen source."""
    names = dict.fromkeys((e["method"], e["source"]) for e in results if e["source"] != CHOSEN)
    return [[e for e in results if (e["method"], e["source"]) == name] for name in names]


def _draw(axes: Axes, x: Sequence[float], points: Sequence[Mapping[str, Any]], entry: Mapping[str, Any]) -> None:
    method, source = entry["method"], entry["source"]
    baseline = method in MARKERS
    colour = COLOURS.get(method, FAINT if method == "real" else BLUE)
    means = [point["mean"] for point in points]
    added = f" ({source})" if source and source != "distilled" else ""
    axes.plot(
        x, means, color=colour, marker=MARKERS.get(method, "."), markersize=4 if baseline else 6,
        linewidth=0.8 if baseline else 1.6, linestyle="--" if method in DASHED else "-",
        label=shown_name(method).replace("_", " ") + added,
    )  # fmt: skip
    if all(point["low"] is not None for point in points) and not baseline:
        low, high = ([point[end] for point in points] for end in ("low", "high"))
        axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)


def _finish(figure: Figure, panels: Sequence[Axes]) -> None:
    for axes in panels:
        axes.grid(axis="y", color="#eceef1", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(colors=MUTED)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
