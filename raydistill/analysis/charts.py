"""Charts of a run, for papers: which classes are confused, how the distillation went, how much was learnt.

White ground, one message each; colours that the colour-blind can tell apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from scipy.ndimage import uniform_filter1d

from raydistill.analysis.drawing import BLUE, GREEN, PURPLE, VERMILION, Target, save, styled, wrapped
from raydistill.core import metrics
from raydistill.errors import RaydistillError, nearest

Floats = npt.NDArray[np.floating]

CHART_DPI = 160
INK, MUTED, FAINT = "#22262e", "#555b66", "#a9b1bd"
NETWORK_COLOURS = (BLUE, VERMILION, GREEN, PURPLE)
NETWORK_MARKERS = "osD^"
MOST_WRITTEN = 30  # classes of a confusion matrix whose cells hold numbers


@styled
def confusion_matrix(
    path: Target,
    counts_KK: npt.NDArray[np.integer],
    class_names: Sequence[str],
    title: str = "",
) -> None:
    """Confusion matrix: rows are true classes and sum to 1 (the diagonal is completeness), counts are written small.

    Parameters
    ----------
    counts_KK : [K, K] images of true class i (row) predicted as j (column), summed over networks. A class without images stays grey.
        Under the matrix stands the purity: of the images called j, the fraction that are. Beyond `MOST_WRITTEN` classes there are colours
        alone.
    """
    num_classes = len(class_names)
    if counts_KK.shape != (num_classes, num_classes):
        what = f"counts have shape {counts_KK.shape} for {num_classes} classes"
        raise RaydistillError(what, "confusion_matrix", f"give [{num_classes}, {num_classes}]")
    totals = counts_KK.sum(axis=1)
    fractions = np.where(totals[:, None] > 0, counts_KK / np.maximum(totals, 1)[:, None], np.nan)
    drawn = min(num_classes, MOST_WRITTEN)
    figure = Figure(figsize=(2.2 + 0.78 * drawn, 1.9 + 0.66 * drawn), dpi=CHART_DPI, layout="constrained")
    axes = figure.add_subplot()
    if num_classes <= MOST_WRITTEN:
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
    """A heat map with white lines between its cells and room for names above; NaN is grey."""
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
        words = "none" if math.isnan(purity) else f"{purity:.2f}"
        axes.text(j, below, words, ha="center", va="center", color=MUTED, fontsize=8.5, style="italic")


def _accuracy_line(counts_KK: npt.NDArray[np.integer]) -> str:
    if not counts_KK.any():
        return "no galaxies"
    accuracy, balanced = metrics.accuracy(counts_KK), metrics.balanced_accuracy(counts_KK)
    return f"accuracy {100 * accuracy:.1f} %, balanced {100 * balanced:.1f} %, {counts_KK.sum()} predictions"


# Panels of the training figure from top to bottom: axis label, and the curves in it (history key, name, colour).
TRAINING_PANELS: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    (
        "matching loss",
        (("matching_loss", "start epochs up to the cap", BLUE), ("next_epoch_loss", "one epoch later", VERMILION)),
    ),
    ("latest start\nepoch", (("max_start_epoch", "", MUTED),)),
    ("student\nlearning rate", (("student_lr", "", PURPLE),)),
    ("balanced accuracy\non validation", (("validation_accuracy", "", GREEN),)),
)


@styled
def training_curves(path: Target, history: Mapping[str, Floats], title: str = "") -> None:
    """The history of a distillation over its iterations, one panel below the other.

    Parameters
    ----------
    history : `iteration` [T] and any of `matching_loss`, `next_epoch_loss`, `max_start_epoch`, `validation_accuracy`
        (all [T]; NaN where not measured) and `student_lr` ([T], or [T, n] for n rates). Other keys are ignored.
        Losses are shown as measured (faint) and as a running mean; grey verticals are where `max_start_epoch` advances, which has no
        panel where it stays.
    """
    iteration = _history_checked(history)
    panels = [(label, curves) for label, curves in TRAINING_PANELS if any(_tells(history, key) for key, _, _ in curves)]
    ratios = [2.2 if label == "matching loss" else 1.0 for label, _ in panels]
    figure = Figure(figsize=(7.2, 0.9 + 1.05 * sum(ratios)), dpi=CHART_DPI, layout="constrained")
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=ratios)
    advances = _advances(history, iteration)
    for axes, (label, curves) in zip(grid[:, 0], panels, strict=True):
        for x in advances:
            axes.axvline(x, color="#e3e5e9", linewidth=0.8, zorder=0)
        for key, name, colour in curves:
            if key in history:
                _draw_curve(axes, key, iteration, np.asarray(history[key], dtype=float), name, colour)
        axes.set_ylabel(label)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=8, borderpad=0.2)
    figure.align_ylabels()
    grid[-1, 0].set_xlabel("distillation iteration")
    pad = max(0.01 * float(np.ptp(iteration)), 0.5)
    grid[-1, 0].set_xlim(iteration.min() - pad, iteration.max() + pad)
    if title:
        figure.suptitle(title, fontsize=10, fontweight="bold")
    save(figure, path)


def _tells(history: Mapping[str, Floats], key: str) -> bool:
    """A window that never moves is no curve."""
    if key not in history:
        return False
    values = np.asarray(history[key], dtype=float)
    return key != "max_start_epoch" or len(np.unique(values[np.isfinite(values)])) > 1


def _history_checked(history: Mapping[str, Floats]) -> npt.NDArray[np.float64]:
    known = [key for _, curves in TRAINING_PANELS for key, _, _ in curves]
    if "iteration" not in history or not len(history["iteration"]):
        raise RaydistillError("the history has no 'iteration'", "training_curves", "give the iterations of its curves")
    if not any(_tells(history, key) for key in known):
        first = next((key for key in history if key != "iteration"), "")
        raise RaydistillError("the history has no curve to draw", "training_curves", nearest(first, known))
    iteration = np.asarray(history["iteration"], dtype=float)
    for key in known:
        if key in history and len(history[key]) != len(iteration):
            what = f"'{key}' has {len(history[key])} values for {len(iteration)} iterations"
            raise RaydistillError(what, "training_curves", "put NaN where it was not measured")
    return iteration


def _advances(history: Mapping[str, Floats], iteration: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Where `max_start_epoch` rises; none when it rises too often for the lines to be told apart."""
    if "max_start_epoch" not in history:
        return np.empty(0)
    rises = iteration[1:][np.diff(np.asarray(history["max_start_epoch"], dtype=float)) > 0]
    return rises if len(rises) <= 40 else np.empty(0)


def _draw_curve(
    axes: Axes, key: str, iteration: npt.NDArray[np.float64], values: npt.NDArray[np.float64], name: str, colour: str
) -> None:
    measured = np.isfinite(values) if values.ndim == 1 else np.isfinite(values).all(axis=1)
    x, y = iteration[measured], values[measured]
    if not len(x):
        return
    if key in ("matching_loss", "next_epoch_loss"):
        axes.plot(x, y, color=colour, linewidth=0.5, alpha=0.28)
        axes.plot(x, uniform_filter1d(y, max(1, len(y) // 80), mode="nearest"), color=colour, linewidth=1.6, label=name)
        if y.min() > 0 and y.max() > 10 * y.min():
            axes.set_yscale("log")
    elif key == "max_start_epoch":
        axes.step(x, y, where="post", color=colour, linewidth=1.4)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    elif key == "validation_accuracy":
        axes.plot(x, y, color=colour, linewidth=1.2, marker="o", markersize=3)
        best = int(np.argmax(y))
        axes.set_ylim(max(0.0, y.min() - 0.06), min(1.0, y.max() + 0.12))
        axes.annotate(
            f"best {100 * y[best]:.1f} %",
            (x[best], y[best]),
            (0, 5),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=colour,
        )
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    else:
        axes.plot(x, y, color=colour, linewidth=1.4)


@dataclass(frozen=True)
class AccuracyRow:
    """Balanced accuracy (fraction) of networks trained on one subject; `ci95` is the half-width, NaN when unknown."""

    subject: str
    balanced_accuracy: float
    ci95: float = math.nan
    network: str = ""


@styled
def accuracy_table(path: Target, rows: Sequence[AccuracyRow], title: str = "", chance: float | None = None) -> None:
    """Dot plot of balanced accuracy ± 95 % interval: one line per subject in the order given, one colour per network.

    `chance` (1 / classes) is drawn as a dotted line. The subject `distilled` is set in bold.
    """
    if not rows:
        raise RaydistillError("no accuracies to draw", "accuracy_table", "evaluate at least one subject")
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
    axes.set_yticks(range(len(subjects)), [subject.replace("_", " ") for subject in subjects])
    for tick, subject in zip(axes.get_yticklabels(), subjects, strict=True):
        tick.set_fontweight("bold" if subject == "distilled" else "normal")
        tick.set_color(INK)
    axes.set_ylim(len(subjects) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#eceef1", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    axes.set_xlabel("balanced accuracy on test images (95 % interval over networks)")
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


REFERENCES = ("experts", "full_data")  # have seen the whole survey


@styled
def network_matrix(path: Target, rows: Sequence[AccuracyRow], title: str = "", chance: float | None = None) -> None:
    """Heat map of balanced accuracy: a line per subject, a column per network, in the order given, and the figures in the cells.

    A cell says the mean in per cent and below it the half-width of its 95 % interval; one that was not measured stays grey. Darker is
    better, from `chance` (1 / classes) on. Bold: the best on each network, experts and full data aside, which have seen everything.
    """
    if not rows:
        raise RaydistillError("no accuracies to draw", "network_matrix", "evaluate at least one subject")
    subjects = list(dict.fromkeys(row.subject for row in rows))
    networks = list(dict.fromkeys(row.network for row in rows))
    means_SA = np.full((len(subjects), len(networks)), np.nan)
    for row in rows:
        means_SA[subjects.index(row.subject), networks.index(row.network)] = row.balanced_accuracy
    small_S = np.array([subject not in REFERENCES for subject in subjects])
    size = (max(5.6, 1.7 + 0.95 * len(networks)), 1.5 + 0.46 * len(subjects))  # room for the words
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
    axes.set_yticks(range(len(subjects)), [subject.replace("_", " ") for subject in subjects])
    for tick, subject in zip(axes.get_yticklabels(), subjects, strict=True):
        tick.set_fontweight("bold" if subject == "distilled" else "normal")
        tick.set_color(INK)
    axes.xaxis.set_label_position("bottom")
    below = "balanced accuracy on test images in % ± 95 % interval over networks" + (
        "" if chance is None else f"; chance {100 * chance:.1f}"
    )
    axes.set_xlabel(
        below + "\nbold: the best small set on a network; grey: not measured", fontsize=8, color=MUTED, labelpad=6
    )
    if title:
        figure.suptitle(title, fontsize=10, fontweight="bold")
    save(figure, path)
