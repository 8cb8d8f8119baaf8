"""Draw the four accuracies per training set and the calibration of an adaptation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raydistill.figures.drawing import (
    BLUE,
    CHART_DPI,
    FAINT,
    GREEN,
    MUTED,
    PURPLE,
    VERMILION,
    Target,
    save,
    styled,
    wrapped,
)

# Key of the figures, name, colour.
BARS = (
    ("source", "source", FAINT),
    ("none", "target, without", VERMILION),
    ("matched", "target, pixels matched", PURPLE),
    ("adapted", "target, aligned", BLUE),
    ("ceiling", "target, trained on its labels", GREEN),
)


@styled
def draw_adaptation(path: Target, summary: Mapping[str, Any], bins: Sequence[Mapping[str, Any]]) -> None:
    """Draw the accuracies as bars, and the first training set's reliability diagram.

    Parameters
    ----------
    path
        File name, or a binary file open for writing.
    summary
        The contents of `report.json`.
    bins
        Rows of `reliability.parquet`.

    Notes
    -----
    Whiskers are 95 % intervals over networks. The diagram shows, for bins of the confidence on the
    target, the fraction of predictions that is right; those of calibrated networks lie on the
    diagonal. Bins with fewer than ten predictions are left out.
    """
    figures = summary["training_sets"]
    figure = Figure(figsize=(4.4 + 2.2 * len(figures), 4.4), dpi=CHART_DPI, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[2.4 * len(figures), 3.6])
    figure.suptitle(f"{summary['source']} to {summary['target']}", fontweight="bold")
    _draw_bars(left, figures)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=7)
    _draw_reliability(right, next(iter(figures)), bins)
    save(figure, path)


def _draw_bars(axes: Axes, figures: Mapping[str, Any]) -> None:
    width = 0.8 / len(BARS)
    for number, (key, name, colour) in enumerate(BARS):
        means = [entry[key]["mean"] for entry in figures.values()]
        errors = [entry[key]["ci95"] or 0.0 for entry in figures.values()]
        places = np.arange(len(figures)) + (number - (len(BARS) - 1) / 2) * width
        axes.bar(places, means, width * 0.9, yerr=errors, color=colour, ecolor=MUTED, label=name)
        for place, mean in zip(places, means, strict=True):
            axes.annotate(f"{mean:.2f}", (place, 0.02), ha="center", fontsize=7, rotation=90)
    axes.set_xticks(range(len(figures)), [wrapped(name, 16) for name in figures])
    axes.set_ylim(0, 1)
    axes.set_ylabel("balanced accuracy on test galaxies")


def _draw_reliability(axes: Axes, training_set: str, bins: Sequence[Mapping[str, Any]]) -> None:
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
    for key, name, colour in BARS[1:]:
        own = "" if key == "ceiling" else training_set
        kept = [row for row in bins if (row["training_set"], row["method"]) == (own, key) and row["count"] >= 10]
        axes.plot(
            [row["confidence"] for row in kept], [row["accuracy"] for row in kept],
            color=colour, marker="o", markersize=3, linewidth=1.2, label=name,
        )  # fmt: skip
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("confidence on the target")
    axes.set_ylabel("fraction right")
    axes.set_title(f"trained on {wrapped(training_set, 30)}", loc="left")
