"""What all figures share: the house style, the colours, and saving so that equal input gives equal bytes.

Everything is drawn through matplotlib's Figure on the Agg canvas; pyplot and its global state are never imported.
"""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable
from os import PathLike
from typing import Any, BinaryIO, ParamSpec

import matplotlib
from matplotlib.figure import Figure

Target = str | PathLike[str] | BinaryIO
P = ParamSpec("P")

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
}
# Colours that the colour-blind can tell apart (Okabe and Ito 2008).
BLUE, VERMILION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"


def styled(draw: Callable[P, None]) -> Callable[P, None]:
    """Draw in the house style, whatever the user's matplotlibrc says."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        with matplotlib.rc_context(STYLE):
            draw(*args, **kwargs)

    return wrapper


def wrapped(name: str, width: int) -> str:
    """A name for people, on lines of about `width` characters that break between words only."""
    return textwrap.fill(name.replace("_", " "), width, break_on_hyphens=False, break_long_words=False)


def save(figure: Figure, path: Target) -> None:
    """Write a PNG. matplotlib would name its own version in it; then an upgrade would change every picture's bytes."""
    figure.savefig(path, format="png", facecolor=figure.get_facecolor(), metadata={"Software": None})
