"""Draw the curves of a hunt: objects found for labels spent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.figure import Figure

from raydistill.figures.drawing import (
    BLUE,
    CHART_DPI,
    FAINT,
    GREEN,
    INK,
    MUTED,
    PURPLE,
    VERMILION,
    Floats,
    Target,
    save,
    styled,
)
from raydistill.text import shown_name

COLOURS = (GREEN, VERMILION, PURPLE, "#e69f00", "#56b4e9")  # of sources and learners (Okabe and Ito 2008)
FIXED = {"real": (BLUE, "-"), "random": (MUTED, ":"), "ceiling": (INK, "--"), "attributes": (FAINT, "-.")}


@dataclass(frozen=True)
class Curve:
    """Mean and 95 % interval of the objects found, at each number of labels."""

    labels: Floats
    mean: Floats
    low: Floats
    high: Floats


@styled
def discovery_curves(path: Target, curves: Mapping[str, Curve], target: str, start: str, seeds: int) -> None:
    """Draw one line per strategy, with the 95 % interval over the seeds as a band.

    Parameters
    ----------
    path
        File name, or a binary file open for writing.
    curves
        By strategy, in the order of the legend.
    target
        Name of the wanted kind.
    start
        What was known at the start, in words.
    seeds
        Number of repetitions.
    """
    figure = Figure(figsize=(5.6, 3.8), dpi=CHART_DPI, layout="constrained")
    axes = figure.add_subplot()
    free = iter(COLOURS * len(curves))
    for name, curve in curves.items():
        colour, style = FIXED.get(name) or (next(free), "-")
        axes.fill_between(curve.labels, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(curve.labels, curve.mean, color=colour, linestyle=style, linewidth=1.8, label=shown_name(name))
    axes.set_xlabel("labels spent")
    axes.set_ylabel(f"found: {target}")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_title(f"{start}; mean and 95 % interval of {seeds} seeds" if seeds > 1 else start, loc="left")
    axes.legend(loc="upper left")
    save(figure, path)
