"""Draw the learning curves of the experts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from raydistill.errors import RaydistillError
from raydistill.figures.drawing import BLUE, CHART_DPI, VERMILION, Target, save, styled


@styled
def expert_curves(path: Target, accuracies: Sequence[Sequence[float | None]], title: str = "") -> None:
    """Draw the balanced accuracy of each expert after each epoch, and their mean.

    Parameters
    ----------
    path
        File name, or a binary file open for writing.
    accuracies
        For each expert its balanced accuracies on validation images, in [0, 1]: before the first
        epoch, then after each; None where not measured.
    title
        Title of the figure.

    Raises
    ------
    RaydistillError
        There are no experts, or one was trained for another number of epochs.
    """
    if not accuracies or len({len(curve) for curve in accuracies}) != 1:
        fix = "give the accuracies of at least one expert, the same number of each"
        raise RaydistillError("the experts have no curves of equal length", "expert_curves", fix)
    curves_ET = np.array([[np.nan if value is None else value for value in curve] for curve in accuracies])
    epochs = np.arange(curves_ET.shape[1])
    figure = Figure(figsize=(6.4, 3.6), dpi=CHART_DPI, layout="constrained")
    axes = figure.add_subplot()
    faint = max(0.15, 1 / len(curves_ET) ** 0.5)
    for curve_T in curves_ET:
        axes.plot(epochs, curve_T, color=BLUE, linewidth=0.8, alpha=faint)
    axes.plot([], [], color=BLUE, linewidth=0.8, label=f"{len(curves_ET)} experts")
    axes.plot(epochs, curves_ET.mean(axis=0), color=VERMILION, linewidth=2, label="mean")
    axes.set_xlabel("epoch")
    axes.set_ylabel("balanced accuracy on validation images")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    axes.grid(axis="y", color="#eceef1", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(loc="best", fontsize=8)
    if title:
        axes.set_title(title)
    save(figure, path)
