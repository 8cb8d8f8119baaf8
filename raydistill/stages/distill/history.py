"""Draw the training curves of a distillation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from scipy.ndimage import uniform_filter1d

from raydistill.errors import RaydistillError, nearest
from raydistill.figures.drawing import BLUE, CHART_DPI, GREEN, MUTED, PURPLE, VERMILION, Floats, Target, save, styled

# Panels of the training figure from top to bottom: axis label, and the curves in it (history key,
# name, colour).
TRAINING_PANELS: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    (
        "matching loss",
        (("matching_loss", "start epochs up to the cap", BLUE), ("next_epoch_loss", "one epoch later", VERMILION)),
    ),
    ("loss on\nthe survey", (("outcome_loss", "", BLUE),)),
    ("start epoch", (("start_epoch", "", MUTED), ("max_start_epoch", "", MUTED))),
    ("student\nlearning rate", (("student_lr", "", PURPLE),)),
    ("balanced accuracy\non validation", (("validation_accuracy", "", GREEN),)),
)


@styled
def training_curves(path: Target, history: Mapping[str, Floats], title: str = "") -> None:
    """Draw the history of a distillation over its iterations, one panel per quantity.

    Parameters
    ----------
    path
        File name, or a binary file open for writing.
    history
        `iteration` [T], and at least one of:

        - `matching_loss`, `next_epoch_loss`, `outcome_loss`, `start_epoch`, `max_start_epoch`,
          `validation_accuracy`: [T], NaN where not measured,
        - `student_lr`: [T], or [T, n] for n learning rates.

        Other keys are ignored.
    title
        Title of the figure.

    Raises
    ------
    RaydistillError
        The iterations or all curves are missing, or a curve has another length.

    Notes
    -----
    Losses are drawn as measured (faint) and as a running mean. Start epochs are points, and the
    latest one of the window a line. Grey vertical lines mark where it advances; it is not drawn
    where it is constant.
    """
    iteration = _check_history(history)
    panels = [
        (label, curves) for label, curves in TRAINING_PANELS if any(_has_curve(history, key) for key, _, _ in curves)
    ]
    ratios = [2.2 if label == "matching loss" else 1.0 for label, _ in panels]
    figure = Figure(figsize=(7.2, 0.9 + 1.05 * sum(ratios)), dpi=CHART_DPI, layout="constrained")
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=ratios)
    advances = _advances(history, iteration)
    for axes, (label, curves) in zip(grid[:, 0], panels, strict=True):
        for x in advances:
            axes.axvline(x, color="#e3e5e9", linewidth=0.8, zorder=0)
        for key, name, colour in curves:
            if _has_curve(history, key):
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


def _has_curve(history: Mapping[str, Floats], key: str) -> bool:
    """Return whether the history has this key; ignore a constant `max_start_epoch`."""
    if key not in history:
        return False
    values = np.asarray(history[key], dtype=float)
    return key != "max_start_epoch" or len(np.unique(values[np.isfinite(values)])) > 1


def _check_history(history: Mapping[str, Floats]) -> npt.NDArray[np.float64]:
    known = [key for _, curves in TRAINING_PANELS for key, _, _ in curves]
    if "iteration" not in history or not len(history["iteration"]):
        raise RaydistillError("the history has no 'iteration'", "training_curves", "give the iterations of its curves")
    if not any(_has_curve(history, key) for key in known):
        first = next((key for key in history if key != "iteration"), "")
        raise RaydistillError("the history has no curve to draw", "training_curves", nearest(first, known))
    iteration = np.asarray(history["iteration"], dtype=float)
    for key in known:
        if key in history and len(history[key]) != len(iteration):
            what = f"'{key}' has {len(history[key])} values for {len(iteration)} iterations"
            raise RaydistillError(what, "training_curves", "put NaN where it was not measured")
    return iteration


def _advances(history: Mapping[str, Floats], iteration: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the iterations where `max_start_epoch` rises; none if more than 40."""
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
    elif key == "start_epoch":
        axes.plot(x, y, linestyle="none", marker=".", markersize=3, color=colour, alpha=0.5)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
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
