"""Draw the figures of an analysis that compare classes."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from raydistill.figures.drawing import BLUE, DIVERGING, INK, MUTED, STYLE, wrapped

Floats = npt.NDArray[np.floating]
PANELS = 4  # in a row


def difference_matrix(means_KHW: Floats, class_names: Sequence[str]) -> tuple[Figure, float]:
    """Return a matrix of differences between class mean images, and the largest one.

    Parameters
    ----------
    means_KHW
        Mean brightness of the images of each class.
    class_names
        Their names.
    """
    count = len(means_KHW)
    differences = means_KHW[:, None] - means_KHW[None]
    largest = max(float(np.abs(differences).max()), 1e-6)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.2 + 0.78 * count, 0.5 + 0.78 * count))
        grid = figure.subplots(count, count, squeeze=False)
        figure.subplots_adjust(
            left=1.15 / figure.get_figwidth(), right=0.99, bottom=0.01, top=1 - 0.45 / figure.get_figheight(),
            wspace=0.06, hspace=0.06,
        )  # fmt: skip
        for row, axes in enumerate(grid):
            for column, axis in enumerate(axes):
                axis.set(xticks=[], yticks=[])
                if row != column:
                    axis.imshow(differences[row, column], cmap=DIVERGING, vmin=-largest, vmax=largest)
                else:
                    axis.imshow(means_KHW[row], cmap="gray", vmin=0, vmax=1)
                for spine in axis.spines.values():
                    spine.set_visible(False)
        for label, name in enumerate(class_names):
            grid[label, 0].set_ylabel(wrapped(name, 14), rotation=0, ha="right", va="center", fontsize=8, color=INK)
            grid[0, label].set_title(wrapped(name, 12), fontsize=7, fontweight="normal", color=INK)
    return figure, largest


def trend_chart(
    names: Sequence[str], rows: Sequence[str], values: Floats, low: Floats, high: Floats, label: str
) -> Figure:
    """Return estimates with 95 % intervals: a panel per quantity, a line per class.

    Parameters
    ----------
    names
        Quantities, the panels.
    rows
        Classes.
    values, low, high
        Estimates [quantities, classes] and the ends of their intervals; NaN where unknown.
    label
        Label of the axis of values.
    """
    with matplotlib.rc_context(STYLE):
        columns = min(len(names), PANELS)
        lines = -(-len(names) // columns)
        figure = Figure(figsize=(1.7 + 1.9 * columns, lines * (0.7 + 0.24 * len(rows)) + 0.3), layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
        for axis in axes[len(names) :]:
            axis.set_visible(False)
        y = np.arange(len(rows))[::-1]
        for panel, axis in enumerate(axes[: len(names)]):
            axis.axvline(0, color=MUTED, linewidth=0.8, linestyle=":")
            errors = np.abs(np.stack([values[panel] - low[panel], high[panel] - values[panel]]))
            axis.errorbar(
                values[panel],
                y,
                xerr=np.nan_to_num(errors),
                fmt="o",
                color=BLUE,
                ecolor=BLUE,
                markersize=4,
                linewidth=1.4,
            )
            axis.set_title(wrapped(names[panel], 22), fontsize=8)
            axis.set_yticks(y, [one.replace("_", " ") for one in rows], fontsize=8)
            axis.set_ylim(-0.6, len(rows) - 0.4)
        figure.supxlabel(label, fontsize=8)
    return figure


def stacked_spectra(
    names: Sequence[str], wavelength_W: Floats, nearest: Sequence[tuple[Floats, Floats]], of_class: Sequence[Floats]
) -> Figure:
    """Return stacked spectra, a panel per class.

    Parameters
    ----------
    names
        Titles of the panels.
    wavelength_W
        Rest wavelengths in Å.
    nearest
        Mean and standard deviation of the flux [W] over the galaxies nearest to the prototypes.
    of_class
        Mean flux [W] over the class.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 0.8 + 1.3 * len(names)), layout="constrained")
        axes = figure.subplots(len(names), 1, squeeze=False, sharex=True)[:, 0]
        for axis, name, (mean, spread), whole in zip(axes, names, nearest, of_class, strict=True):
            axis.fill_between(wavelength_W, mean - spread, mean + spread, color=BLUE, alpha=0.2, linewidth=0)
            axis.plot(wavelength_W, whole, color=INK, linewidth=0.8)
            axis.plot(wavelength_W, mean, color=BLUE, linewidth=0.9)
            axis.axvline(4000, color=MUTED, linewidth=0.7, linestyle=":")
            axis.set_title(name, fontsize=8, loc="left")
        axes[-1].set_xlabel("rest wavelength [Å]")
        figure.supylabel("relative flux density", fontsize=8)
    return figure
