"""Set the style of all figures, and save them; equal input gives equal bytes.

Figures use matplotlib's Figure on the Agg canvas; pyplot and its global state are never imported.
"""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable
from os import PathLike
from typing import Any, BinaryIO, ParamSpec, TypeVar

import matplotlib
import matplotlib.colors
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

Floats = npt.NDArray[np.floating]
Target = str | PathLike[str] | BinaryIO  # where a chart goes: a file name, or a binary file open for writing
P = ParamSpec("P")
R = TypeVar("R")

# Set explicitly what a user's matplotlibrc could change; DejaVu Sans ships with matplotlib.
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555b66",
    "axes.labelcolor": "#22262e",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "text.color": "#22262e",
    "xtick.color": "#555b66",
    "ytick.color": "#555b66",
    "legend.frameon": False,
    "figure.dpi": 100,
    "savefig.bbox": "standard",
    "savefig.dpi": "figure",
    "text.usetex": False,
    "text.parse_math": False,  # names may have dollars
}
# Colours that the colour-blind can tell apart (Okabe and Ito 2008).
BLUE, VERMILION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
INK, MUTED, FAINT = "#22262e", "#555b66", "#a9b1bd"
CHART_DPI = 160
# Negative, zero, positive.
DIVERGING = matplotlib.colors.LinearSegmentedColormap.from_list("diverging", [BLUE, "#ffffff", VERMILION])


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Decorate a drawing function to use `STYLE` in place of the user's matplotlibrc."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return wrapper


def wrapped(name: str, width: int) -> str:
    """Return a name with spaces for underscores, wrapped at words to about `width`."""
    return textwrap.fill(name.replace("_", " "), width, break_on_hyphens=False, break_long_words=False)


def save(figure: Figure, path: Target) -> None:
    """Write a PNG without matplotlib's version: an upgrade then changes no bytes."""
    figure.savefig(path, format="png", facecolor=figure.get_facecolor(), metadata={"Software": None})
