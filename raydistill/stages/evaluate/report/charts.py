"""Draw the results of an evaluation: confusion matrix and accuracies.

Charts are made for papers: white background, one message each, colours safe for colour blindness.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

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
    wrapped,
)
from raydistill.learning import metrics
from raydistill.text import shown_name

NETWORK_COLOURS = (BLUE, VERMILION, GREEN, PURPLE)
NETWORK_MARKERS = "osD^"
MAX_LABELLED_CLASSES = 30  # a confusion matrix of more classes shows colours alone


@styled
def confusion_matrix(
    path: Target,
    counts_KK: npt.NDArray[np.integer],
    class_names: Sequence[str],
    title: str = "",
) -> None:
    """Draw a confusion matrix whose rows sum to 1, with counts in small print.

    Parameters
    ----------
    counts_KK
        [K, K] images of true class i (row) predicted as class j (column), summed over networks.
    class_names
        Names of the K classes.
    title
        First line of the title; the accuracies follow.

    Notes
    -----
    The diagonal is the completeness. The line below the matrix is the purity: the fraction of
    images predicted as class j that belong to it. A class without images stays grey.
    """
    num_classes = len(class_names)
    totals = counts_KK.sum(axis=1)
    fractions = np.where(totals[:, None] > 0, counts_KK / np.maximum(totals, 1)[:, None], np.nan)
    drawn = min(num_classes, MAX_LABELLED_CLASSES)
    figure = Figure(figsize=(2.2 + 0.78 * drawn, 1.9 + 0.66 * drawn), dpi=CHART_DPI, layout="constrained")
    axes = figure.add_subplot()
    if num_classes <= MAX_LABELLED_CLASSES:
        _draw_cells(axes, fractions, 0, 1.08)
        for (i, j), count in np.ndenumerate(counts_KK):
            _write_cell(axes, j, i, float(fractions[i, j]), int(count))
        names = [wrapped(name, 11) for name in class_names]
        axes.set_xticks(range(num_classes), names)
        axes.set_yticks(range(num_classes), [f"{name}\nn = {n}" for name, n in zip(names, totals, strict=True)])
        _write_purity(axes, counts_KK)
    else:
        axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1.08, aspect="auto", interpolation="nearest")
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("predicted", fontweight="bold", labelpad=8)
    axes.set_ylabel("true", fontweight="bold")
    lines = [line for line in (title, _accuracy_line(counts_KK)) if line]
    axes.set_title("\n".join(lines), fontweight="normal", pad=10, linespacing=1.4)
    save(figure, path)


def _draw_cells(axes: Axes, values: Floats, least: float, most: float) -> None:
    """Draw a heat map with white lines between its cells and names above; NaN is grey."""
    axes.set_facecolor("#e6e7ea")
    axes.imshow(values, cmap="Blues", vmin=least, vmax=most, aspect="auto")
    axes.set_xticks(np.arange(values.shape[1] + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(values.shape[0] + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="both", length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)


def _write_cell(axes: Axes, x: int, y: int, fraction: float, count: int) -> None:
    if math.isnan(fraction):
        return
    colour = "white" if fraction > 0.65 else INK if count else FAINT
    axes.text(x, y - 0.12, f"{fraction:.2f}", ha="center", va="center", color=colour, fontsize=9)
    axes.text(x, y + 0.24, f"{count}", ha="center", va="center", color=colour, fontsize=6.5)


def _write_purity(axes: Axes, counts_KK: npt.NDArray[np.integer]) -> None:
    below = len(counts_KK) - 0.18
    axes.text(-0.58, below, "purity", ha="right", va="center", color=MUTED, fontsize=8.5, style="italic")
    for j, purity in enumerate(metrics.purity(counts_KK)):
        text = "none" if math.isnan(purity) else f"{purity:.2f}"
        axes.text(j, below, text, ha="center", va="center", color=MUTED, fontsize=8.5, style="italic")


def _accuracy_line(counts_KK: npt.NDArray[np.integer]) -> str:
    if not counts_KK.any():
        return "no galaxies"
    accuracy, balanced = metrics.accuracy(counts_KK), metrics.balanced_accuracy(counts_KK)
    return f"accuracy {100 * accuracy:.1f} %, balanced {100 * balanced:.1f} %, {counts_KK.sum()} predictions"


@dataclass(frozen=True)
class AccuracyRow:
    """Balanced accuracy of networks trained on one training set.

    Attributes
    ----------
    subject
        Name of the training set in `evaluation.json`.
    balanced_accuracy
        Mean over networks, in [0, 1]; NaN where not measured.
    ci95
        Half width of the 95 % interval; NaN where unknown.
    network
        Name of the architecture.
    """

    subject: str
    balanced_accuracy: float
    ci95: float = math.nan
    network: str = ""


@styled
def accuracy_table(path: Target, rows: Sequence[AccuracyRow], title: str = "", chance: float | None = None) -> None:
    """Draw balanced accuracies with 95 % intervals as dots.

    A line is a training set, a colour a network.

    Parameters
    ----------
    rows
        Accuracies; training sets and networks keep this order. `distilled` is set in bold.
    title
        Title of the figure.
    chance
        Accuracy of guessing (1 / classes), drawn as a dotted line.
    """
    subjects = list(dict.fromkeys(row.subject for row in rows))
    networks = list(dict.fromkeys(row.network for row in rows))
    line = 0.3 + 0.16 * (len(networks) - 1)
    figure = Figure(figsize=(6.4, 1.1 + line * len(subjects)), dpi=CHART_DPI, layout="constrained")
    axes = figure.add_subplot()
    for row in rows:
        dodge = (networks.index(row.network) - (len(networks) - 1) / 2) * 0.62 / len(networks)
        _draw_accuracy(axes, row, subjects.index(row.subject) + dodge, networks.index(row.network))
    if chance is not None:
        axes.axvline(chance, color="#8a919c", linewidth=1, linestyle=":")
        axes.text(chance, -0.55, "chance", ha="center", va="bottom", fontsize=7.5, color="#8a919c")
    _name_lines(axes, subjects)
    axes.set_ylim(len(subjects) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#eceef1", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    axes.set_xlabel("balanced accuracy on test images (95 % interval over networks and galaxies)")
    if networks != [""]:
        handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=8)
    if title:
        figure.suptitle(title, fontsize=10, fontweight="bold")
    save(figure, path)


def _draw_accuracy(axes: Axes, row: AccuracyRow, y: float, network: int) -> None:
    if math.isnan(row.balanced_accuracy):
        axes.text(1.01, y, "not measured", transform=axes.get_yaxis_transform(), va="center", color=FAINT, fontsize=8)
        return
    colour = NETWORK_COLOURS[network % len(NETWORK_COLOURS)]
    interval = None if math.isnan(row.ci95) else row.ci95
    axes.errorbar(
        row.balanced_accuracy,
        y,
        xerr=interval,
        color=colour,
        marker=NETWORK_MARKERS[network % len(NETWORK_MARKERS)],
        markersize=5,
        linewidth=1.6,
        label=row.network.replace("_", " ") or None,
    )
    text = f"{100 * row.balanced_accuracy:.1f}" + ("" if interval is None else f" ± {100 * interval:.1f}")
    axes.text(1.01, y, text, transform=axes.get_yaxis_transform(), va="center", color=colour, fontsize=8)


def _name_lines(axes: Axes, subjects: Sequence[str]) -> None:
    axes.set_yticks(range(len(subjects)), [shown_name(subject).replace("_", " ") for subject in subjects])
    for tick, subject in zip(axes.get_yticklabels(), subjects, strict=True):
        tick.set_fontweight("bold" if subject == "distilled" else "normal")
        tick.set_color(INK)


REFERENCES = ("experts", "full_data")  # trained on the whole survey


@styled
def network_matrix(path: Target, rows: Sequence[AccuracyRow], title: str = "", chance: float | None = None) -> None:
    """Draw a heat map of balanced accuracies: training sets (lines) by networks.

    Parameters
    ----------
    rows
        Accuracies; training sets and networks keep this order.
    title
        Title of the figure.
    chance
        Accuracy of guessing (1 / classes), where the colour scale starts.

    Notes
    -----
    A cell holds the mean in per cent and the half width of its 95 % interval; it is grey where not
    measured. The best training set on each network is bold, without experts and full data.
    """
    subjects = list(dict.fromkeys(row.subject for row in rows))
    networks = list(dict.fromkeys(row.network for row in rows))
    means_SA = np.full((len(subjects), len(networks)), np.nan)
    for row in rows:
        means_SA[subjects.index(row.subject), networks.index(row.network)] = row.balanced_accuracy
    small_S = np.array([subject not in REFERENCES for subject in subjects])
    size = (max(5.6, 1.7 + 0.95 * len(networks)), 1.5 + 0.46 * len(subjects))
    figure = Figure(figsize=size, dpi=CHART_DPI, layout="constrained")
    axes = figure.add_subplot()
    least = float(np.nanmin(means_SA)) if chance is None else chance
    span = max(float(np.nanmax(means_SA)) - least, 0.01)
    _draw_cells(axes, means_SA, least, least + 1.08 * span)
    for row in rows:
        y, x = subjects.index(row.subject), networks.index(row.network)
        best = small_S[y] and row.balanced_accuracy == np.nanmax(means_SA[small_S, x])
        colour = "white" if row.balanced_accuracy > least + 0.65 * span else INK
        mean = f"{100 * row.balanced_accuracy:.1f}"
        weight = "bold" if best else "normal"
        axes.text(x, y - 0.12, mean, ha="center", va="center", color=colour, fontsize=9.5, fontweight=weight)
        if not math.isnan(row.ci95):
            axes.text(x, y + 0.25, f"± {100 * row.ci95:.1f}", ha="center", va="center", color=colour, fontsize=6.5)
    axes.set_xticks(range(len(networks)), [network.replace("-", "\n", 1) for network in networks])
    _name_lines(axes, subjects)
    axes.xaxis.set_label_position("bottom")
    below = "balanced accuracy on test images in % ± 95 % interval over networks and galaxies" + (
        "" if chance is None else f"; chance {100 * chance:.1f}"
    )
    axes.set_xlabel(
        below + "\nbold: the best small set on a network; grey: not measured", fontsize=8, color=MUTED, labelpad=6
    )
    if title:
        figure.suptitle(title, fontsize=10, fontweight="bold")
    save(figure, path)
