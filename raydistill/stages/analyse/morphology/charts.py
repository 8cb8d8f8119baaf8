"""Draw the profiles and the structure of prototypes over those of their classes.

Galaxies are blue and prototypes vermilion, which the colour-blind can tell apart; each class has a
marker of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from raydistill.figures.drawing import BLUE, FAINT, INK, MUTED, VERMILION, styled, wrapped

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]

MARKERS = "osD^vP*X<>hp"
MAX_LINES = 10  # prototypes of a class that get a line
_BAND = 0.25  # opacity
_TAILS = (2.5, 97.5)  # percent


@dataclass(frozen=True)
class ProfilePanel:
    """One profile of one class.

    Attributes
    ----------
    low_R, median_R, high_R
        The galaxies' 16, 50 and 84 % quantiles; NaN where there are too few.
    prototypes_SR
        The prototypes' profiles.
    """

    low_R: Floats
    median_R: Floats
    high_R: Floats
    prototypes_SR: Floats


@dataclass(frozen=True)
class ClassValues:
    """One measure of one class.

    Attributes
    ----------
    galaxies_N
        Valid values of the galaxies.
    prototypes_S
        Values of the prototypes, NaN where there are none.
    valid_S
        Whether they are valid; the others are drawn as open markers.
    """

    galaxies_N: Floats
    prototypes_S: Floats
    valid_S: Bools


@styled
def profile_chart(
    radii_R: Floats, panels: Mapping[str, Mapping[str, ProfilePanel]], titles: Mapping[str, str], radius_label: str
) -> Figure:
    """Return profiles of all classes: a row per class, a column per profile.

    Parameters
    ----------
    radii_R
        Radii of the rings.
    panels
        By class and profile.
    titles
        Title of each profile.
    radius_label
        Label of the radius.
    """
    figure = Figure(figsize=(2.3 * len(titles) + 0.6, 1.35 * len(panels) + 0.8), layout="constrained")
    grid = figure.subplots(len(panels), len(titles), squeeze=False, sharex=True, sharey="col")
    for row, (class_name, panel) in enumerate(panels.items()):
        for column, (name, title) in enumerate(titles.items()):
            axes = grid[row, column]
            _draw_profile(axes, radii_R, panel[name])
            if row == 0:
                axes.set_title(wrapped(title, 24), fontsize=8)
        grid[row, 0].set_ylabel(wrapped(class_name, 14), fontsize=8, color=INK)
    for column, name in enumerate(titles):
        grid[0, column].set_ylim(_limits([panel[name] for panel in panels.values()]))
    figure.supxlabel(radius_label, fontsize=8)
    figure.legend(
        handles=[
            Line2D([], [], color=BLUE, label="galaxies: median"),
            matplotlib.patches.Patch(color=BLUE, alpha=_BAND, linewidth=0, label="16 to 84 %"),
            Line2D([], [], color=VERMILION, linewidth=1, label="prototypes"),
        ],
        loc="outside upper center",
        ncols=3,
        fontsize=8,
    )
    return figure


def _draw_profile(axes: Axes, radii_R: Floats, panel: ProfilePanel) -> None:
    axes.fill_between(radii_R, panel.low_R, panel.high_R, color=BLUE, alpha=_BAND, linewidth=0)
    axes.plot(radii_R, panel.median_R, color=BLUE, linewidth=1.4)
    for profile_R in panel.prototypes_SR[:MAX_LINES]:
        axes.plot(radii_R, profile_R, color=VERMILION, linewidth=0.8, alpha=1 if len(panel.prototypes_SR) < 3 else 0.6)
    axes.tick_params(labelsize=7)


def _limits(panels: Sequence[ProfilePanel]) -> tuple[float, float]:
    """Return limits that show the bands and nearly all values of the prototypes."""
    drawn = np.concatenate([panel.prototypes_SR[:MAX_LINES].ravel() for panel in panels])
    values = np.concatenate([*(ends for panel in panels for ends in (panel.low_R, panel.high_R)), drawn])
    if not np.isfinite(values).any():
        return 0.0, 1.0
    low, high = np.nanpercentile(values, (1, 99))
    margin = 0.06 * max(high - low, 1e-6)
    return float(low - margin), float(high + margin)


@styled
def measure_chart(values: Mapping[str, Mapping[str, ClassValues]], titles: Mapping[str, str]) -> Figure:
    """Return a panel per measure, a row per class: galaxy ranges and prototype points.

    Parameters
    ----------
    values
        By measure and class.
    titles
        Title of each measure.
    """
    columns = 5  # panels in a row
    rows = -(-len(values) // columns)
    classes = list(next(iter(values.values())))
    y = np.arange(len(classes))[::-1]
    figure = Figure(figsize=(2.05 * columns + 1.0, rows * (0.26 * len(classes) + 0.75) + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for panel, axes in enumerate(grid.ravel()):
        if panel >= len(values):
            axes.set_axis_off()
            continue
        name = list(values)[panel]
        for place, shown in zip(y, values[name].values(), strict=True):
            _draw_range(axes, float(place), shown)
        axes.set_title(wrapped(titles[name], 22), fontsize=8)
        axes.set_yticks(y, [name.replace("_", " ") for name in classes], fontsize=8)
        axes.set_ylim(-0.6, len(classes) - 0.4)
        axes.tick_params(axis="x", labelsize=7)
    handles = [
        Line2D([], [], color=BLUE, linewidth=5, alpha=_BAND + 0.2, label="galaxies: 16 to 84 %"),
        Line2D([], [], color=BLUE, linewidth=0.9, label="2.5 to 97.5 %"),
        Line2D([], [], color=BLUE, linestyle="", marker="|", markersize=9, label="median"),
        *_prototype_handles(VERMILION),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=5, fontsize=8)
    return figure


def _draw_range(axes: Axes, place: float, shown: ClassValues) -> None:
    if len(shown.galaxies_N):
        far_low, low, median, high, far_high = np.percentile(shown.galaxies_N, (_TAILS[0], 16, 50, 84, _TAILS[1]))
        axes.plot([far_low, far_high], [place, place], color=BLUE, linewidth=0.9, solid_capstyle="butt")
        axes.plot([low, high], [place, place], color=BLUE, linewidth=5, alpha=_BAND + 0.2, solid_capstyle="butt")
        axes.plot([median], [place], color=BLUE, marker="|", markersize=9)
    _draw_prototypes(axes, shown.prototypes_S, np.full(len(shown.prototypes_S), place), shown.valid_S, "o", VERMILION)


@styled
def structure_chart(
    planes: Sequence[tuple[str, str]],
    values: Mapping[str, Mapping[str, ClassValues]],
    titles: Mapping[str, str],
    clouds: Mapping[str, Floats],
) -> Figure:
    """Return planes of two measures, with a cloud of galaxies.

    Prototypes are drawn as one marker per class.

    Parameters
    ----------
    planes
        Names of the measures on the horizontal and the vertical axis; an even number of planes.
    values
        By measure and class.
    titles
        Title of each measure.
    clouds
        Values of all galaxies by measure, in one order; NaN where they are not valid.
    """
    classes = list(next(iter(values.values())))
    colours = matplotlib.colormaps["cividis"](np.linspace(0, 0.85, len(classes)))
    figure = Figure(figsize=(8.0, 3.1 * -(-len(planes) // 2) + 0.6), layout="constrained")
    grid = figure.subplots(-(-len(planes) // 2), 2, squeeze=False)
    for axes, (x, y) in zip(grid.ravel(), planes, strict=True):
        axes.plot(clouds[x], clouds[y], ".", color=FAINT, markersize=2.5, rasterized=True, zorder=1)
        for number, class_name in enumerate(classes):
            across, up = values[x][class_name], values[y][class_name]
            marker, colour = MARKERS[number % len(MARKERS)], colours[number]
            valid = across.valid_S & up.valid_S
            _draw_prototypes(axes, across.prototypes_S, up.prototypes_S, valid, marker, colour)
        axes.set_xlabel(titles[x], fontsize=8)
        axes.set_ylabel(titles[y], fontsize=8)
        axes.set_xlim(_cloud_limits(clouds[x], [shown.prototypes_S for shown in values[x].values()]))
        axes.set_ylim(_cloud_limits(clouds[y], [shown.prototypes_S for shown in values[y].values()]))
        axes.tick_params(labelsize=7)
    handles = [Line2D([], [], linestyle="", marker=".", color=FAINT, label="galaxies")]
    handles += [
        Line2D(
            [], [], linestyle="", marker=MARKERS[number % len(MARKERS)], color=colours[number],
            label=name.replace("_", " "),
        )
        for number, name in enumerate(classes)
    ]  # fmt: skip
    handles.append(_prototype_handles(MUTED)[1])
    figure.legend(handles=handles, loc="outside upper center", ncols=4, fontsize=8)
    return figure


def _cloud_limits(cloud_N: Floats, prototypes: Sequence[Floats]) -> tuple[float, float]:
    """Return limits that show all prototypes and 99 % of the galaxies."""
    ends = np.concatenate([np.nanpercentile(cloud_N, (0.5, 99.5)) if np.isfinite(cloud_N).any() else [], *prototypes])
    ends = ends[np.isfinite(ends)]
    low, high = (float(ends.min()), float(ends.max())) if len(ends) else (0.0, 1.0)
    margin = 0.05 * max(high - low, 1e-6)
    return low - margin, high + margin


def _draw_prototypes(axes: Axes, x: Floats, y: Floats, valid: Bools, marker: str, colour: object) -> None:
    style: dict[str, Any] = {"linestyle": "", "marker": marker, "markersize": 6, "zorder": 3}
    axes.plot(x[valid], y[valid], color=colour, markeredgecolor="white", markeredgewidth=0.4, **style)
    axes.plot(x[~valid], y[~valid], markerfacecolor="none", markeredgecolor=colour, markeredgewidth=0.9, **style)


def _prototype_handles(colour: str) -> list[Line2D]:
    """Return the entries of a legend for valid and invalid prototypes."""
    style: dict[str, Any] = {"linestyle": "", "marker": "o"}
    return [
        Line2D([], [], color=colour, markeredgecolor="white", label="prototypes", **style),
        Line2D([], [], markerfacecolor="none", markeredgecolor=colour, label="flagged as invalid", **style),
    ]
