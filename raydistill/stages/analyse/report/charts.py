"""Draw the charts of an analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from raydistill.figures.drawing import BLUE, DIVERGING, FAINT, GREEN, INK, MUTED, PURPLE, VERMILION, styled, wrapped
from raydistill.statistics.intervals import NO_INTERVAL, Interval

# Draw the figures of an analysis that compare classes.

Floats = npt.NDArray[np.floating]
PANELS = 4  # in a row


@styled
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


@styled
def trend_chart(
    names: Sequence[str], rows: Sequence[str], intervals: Mapping[tuple[str, int], Interval], label: str
) -> Figure:
    """Return estimates with 95 % intervals: a panel per quantity, a line per class.

    Parameters
    ----------
    names
        Quantities, the panels.
    rows
        Classes.
    intervals
        Estimates with their intervals, by quantity and number of the class. Others are unknown.
    label
        Label of the axis of values.
    """
    columns = min(len(names), PANELS)
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(1.7 + 1.9 * columns, lines * (0.7 + 0.24 * len(rows)) + 0.3), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    y = np.arange(len(rows))[::-1]
    for axis, name in zip(axes, names, strict=False):
        axis.axvline(0, color=MUTED, linewidth=0.8, linestyle=":")
        values, low, high = np.array([intervals.get((name, row), NO_INTERVAL) for row in range(len(rows))]).T
        errors = np.abs(np.stack([values - low, high - values]))
        axis.errorbar(
            values,
            y,
            xerr=np.nan_to_num(errors),
            fmt="o",
            color=BLUE,
            ecolor=BLUE,
            markersize=4,
            linewidth=1.4,
        )
        axis.set_title(wrapped(name, 22), fontsize=8)
        axis.set_yticks(y, [row.replace("_", " ") for row in rows], fontsize=8)
        axis.set_ylim(-0.6, len(rows) - 0.4)
    figure.supxlabel(label, fontsize=8)
    return figure


@styled
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


# Draw the figures of an analysis that show what networks see.

SERIES = (BLUE, VERMILION, GREEN, PURPLE, INK)
MARKERS = ("o", "s", "^", "D", "v")
MAX_NAME = 14  # characters of a line of a row's name


def diverging_picture(values_HW: Floats) -> Floats:
    """Return colours of values in [-1, 1], blue, white and orange, float64 [H, W, 3]."""
    return np.asarray(DIVERGING(0.5 + 0.5 * np.nan_to_num(values_HW).clip(-1, 1))[..., :3])


@styled
def picture_rows(
    rows: Sequence[tuple[str, Sequence[Floats]]], columns: Sequence[str], captions: Sequence[Sequence[str]] = ()
) -> Figure:
    """Return pictures in rows with names.

    Parameters
    ----------
    rows
        The name of each row and its pictures [H, W, 3] in [0, 1].
    columns
        Titles of the columns; empty for none.
    captions
        A text below each picture; empty for none.
    """
    count = max(len(pictures) for _, pictures in rows)
    height = 1.0 if captions else 0.88
    top = 0.3 if columns else 0.08
    figure = Figure(figsize=(1.15 + 0.88 * count, top + height * len(rows)))
    grid = figure.subplots(len(rows), count, squeeze=False)
    figure.subplots_adjust(
        left=1.1 / figure.get_figwidth(), right=0.995, bottom=0.02, top=1 - top / figure.get_figheight(),
        wspace=0.05, hspace=0.2 if captions else 0.06,
    )  # fmt: skip
    for row, (name, pictures) in enumerate(rows):
        for column, axis in enumerate(grid[row]):
            axis.set(xticks=[], yticks=[])
            for spine in axis.spines.values():
                spine.set_visible(False)
            if column < len(pictures):
                axis.imshow(np.clip(pictures[column], 0, 1))
                if captions:
                    axis.set_xlabel(captions[row][column], fontsize=5, labelpad=1, color=MUTED)
        grid[row, 0].set_ylabel(
            "\n".join(wrapped(line, MAX_NAME) for line in name.split("\n")),
            rotation=0, ha="right", va="center", fontsize=7, color=INK,
        )  # fmt: skip
    for column, title in enumerate(columns):
        grid[0, column].set_title(wrapped(title, 13), fontsize=7, fontweight="normal", color=INK)
    return figure


@styled
def banded_curves(
    curves: Mapping[str, Mapping[str, tuple[Floats, Floats, Floats]]],
    x: Floats,
    labels: tuple[str, str],
    baseline: str = "",
    limits: tuple[float, float] | None = None,
) -> Figure:
    """Return mean curves with 95 % bands, in panels.

    Parameters
    ----------
    curves
        For each panel and each line the mean curve and both ends of its band.
    x
        The horizontal positions of their points.
    labels
        Labels of the axes.
    baseline
        The line that is drawn in grey.
    limits
        Ends of the vertical axis; None: a line at 0, and all that is drawn.
    """
    columns = min(len(curves), 3)
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(3.2 * columns, 0.6 + 2.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axis in axes.flat[len(curves) :]:
        axis.set_axis_off()
    for axis, (panel, lines) in zip(axes.flat, curves.items(), strict=False):
        colours = iter(SERIES)
        for number, (name, (mean, low, high)) in enumerate(lines.items()):
            colour = FAINT if name == baseline else next(colours)
            axis.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
            axis.plot(x, mean, color=colour, marker=MARKERS[number], markersize=3, linewidth=1.3, label=name)
        axis.set_title(panel.replace("_", " "), fontsize=9)
        axis.set_xlim(0, 1)
        if limits is None:
            axis.axhline(0, color=MUTED, linewidth=0.8, linestyle=":")
        else:
            axis.set_ylim(*limits)
    for axis in axes.flat[max(0, len(curves) - columns) : len(curves)]:  # the lowest of each column
        axis.set_xlabel(labels[0], fontsize=8)
        axis.tick_params(labelbottom=True)
    for axis in axes[:, 0]:
        axis.set_ylabel(labels[1], fontsize=8)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


@styled
def heat_map(values: Floats, rows: Sequence[str], columns: Sequence[str], lowest: float = 0.0) -> Figure:
    """Return a table of numbers of at most 1 as shades, with the numbers.

    Parameters
    ----------
    values
        The numbers [rows, columns].
    rows, columns
        Their names.
    lowest
        The smallest possible number.
    """
    figure = Figure(figsize=(3.0 + 0.75 * len(columns), 1.2 + 0.27 * len(rows)), layout="constrained")
    axis = figure.subplots()
    axis.imshow(values, cmap="cividis", vmin=lowest, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if value < lowest + 0.55 * (1 - lowest) else "black"
        axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    axis.set_xticks(range(len(columns)), [wrapped(column, 12) for column in columns], fontsize=7)
    axis.set_yticks(range(len(rows)), rows, fontsize=7)
    axis.tick_params(length=0)
    return figure
