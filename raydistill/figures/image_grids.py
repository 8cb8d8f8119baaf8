"""Draw grids of galaxy images, and atlases of prototypes beside real galaxies.

The layout is in whole screen pixels. Each image pixel becomes a square of `scale` by `scale`
without resampling, so the figure shows exactly the pixels on which the network was trained.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.transforms import IdentityTransform

from raydistill.errors import RaydistillError
from raydistill.figures.drawing import Target, save, styled, wrapped
from raydistill.text import survey_adjective

Images = npt.NDArray[np.generic]

BACKGROUND, TEXT, MUTED_TEXT = "#171a20", "#e9ebee", "#9aa1ac"
DPI = 100
SCREEN_HEIGHT, SCREEN_WIDTH = 960, 1500  # tiles are enlarged until the grid fills a screen
TILE_RANGE = (96, 192)
ATLAS_COLUMNS = 4  # images per class and group
MAX_LINES = 120  # lines of tiles; further images and classes are left out
MARGIN, LINE, GAP, ROW_GAP, GROUP_GAP = 20, 20, 4, 4, 20  # screen pixels


def displayable(images: Images) -> npt.NDArray[np.uint8]:
    """Return images as uint8 [N, H, W, 3]; floats are clipped to [0, 1].

    RaydistillError if the shape is another, or floats reach 255, NaN or infinity.
    """
    if images.ndim != 4 or images.shape[-1] != 3:
        raise RaydistillError(f"images have shape {images.shape}", "figures", "give [N, H, W, 3], the colour last")
    if images.dtype == np.uint8:
        return images.astype(np.uint8, copy=False)
    if not np.isfinite(images).all():
        raise RaydistillError(
            "an image holds NaN or infinity", "figures", "take the last good state of the distillation"
        )
    if images.size and images.max() > 10:
        raise RaydistillError(f"a float image reaches {images.max():.0f}", "figures", "give uint8, or divide by 255")
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)


def of_one_size(pictures: Sequence[npt.NDArray[np.uint8]]) -> list[npt.NDArray[np.uint8]]:
    """Return square pictures of the largest one's side; smaller ones become black."""
    side = max(len(picture) for picture in pictures)
    return [picture if len(picture) == side else np.zeros((side, side, 3), np.uint8) for picture in pictures]


def rgb(colour: str) -> npt.NDArray[np.uint8]:
    """Return a colour's name or hexadecimal code as uint8 [3]."""
    return np.rint(np.array(to_rgb(colour)) * 255).astype(np.uint8)


@dataclass(frozen=True)
class _Group:
    """A block of columns: its heading, and images [n, H, W, 3] for each row.

    The images of a row wrap after `columns`.
    """

    heading: str
    rows: list[npt.NDArray[np.uint8]]
    columns: int


@styled
def image_grid(
    images: Images,
    labels: npt.NDArray[np.integer],
    class_names: Sequence[str],
    path: Target,
    scale: int | None = None,
    columns: int = 10,
    caption: str = "",
    heading: str = "",
) -> None:
    """Draw images as a grid, one row per class, with the class name to its left.

    Parameters
    ----------
    images
        [N, H, W, 3], uint8 or float in [0, 1].
    labels
        [N] integers, indices into `class_names`.
    class_names
        Names of the classes.
    scale
        Screen pixels per image pixel; None fits the grid to a screen.
    columns
        Images per line; a class with more continues on the next line.
    caption
        Text below the grid.
    heading
        Text above the grid.
    """
    if len(images) != len(labels):
        raise RaydistillError(
            f"{len(images)} images but {len(labels)} labels", "image_grid", "give one label per image"
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(class_names):
        what = f"labels run from {labels.min()} to {labels.max()} for {len(class_names)} class names"
        raise RaydistillError(what, "image_grid", "labels index the class names, from 0")
    pixels = displayable(images)
    rows = [pixels[labels == label] for label in range(len(class_names))]
    widest = max((len(row) for row in rows), default=1)
    _draw_grid(path, class_names, [_Group(heading, rows, max(1, min(columns, widest)))], caption, scale)


@styled
def atlas(
    path: Target,
    class_names: Sequence[str],
    prototypes_per_class: Sequence[Images],
    class_means: Images,
    real_examples_per_class: Sequence[Images],
    nearest_real: Sequence[Images],
    caption: str,
    simulated: bool,
    scale: int | None = None,
    examples: str = "most confident",
) -> None:
    """Draw one row per class: prototypes, class mean and real galaxies.

    A row ends with the mean of the nearest real galaxies.

    Parameters
    ----------
    class_names
        Names of the K classes.
    prototypes_per_class
        For each class [n, H, W, 3]; the first `ATLAS_COLUMNS` are shown.
    class_means
        [K, H, W, 3]; all NaN for a class without galaxies.
    real_examples_per_class
        For each class [n, H, W, 3]; the first `ATLAS_COLUMNS` are shown.
    nearest_real
        For each class [n, H, W, 3]: for each prototype the mean of its nearest real galaxies.
    caption
        Text below the atlas.
    simulated
        Whether the survey was simulated.
    scale
        Screen pixels per image pixel; None fits the atlas to a screen.
    examples
        Describes the choice of the real galaxies in the heading.

    Raises
    ------
    RaydistillError
        Images differ in size.
    """
    galaxies = survey_adjective(simulated)
    parts = {
        "distilled": prototypes_per_class,
        "class mean": [mean[None] if np.isfinite(mean).any() else mean[None][:0] for mean in class_means],
        f"{galaxies}, {examples}": real_examples_per_class,
        f"{galaxies}, mean of nearest": nearest_real,
    }
    groups = []
    for head, rows in parts.items():
        shown = [displayable(row[:ATLAS_COLUMNS]) for row in rows]
        groups.append(_Group(head, shown, max([1, *(len(row) for row in shown)])))
    _draw_grid(path, class_names, groups, caption, scale)


@dataclass(frozen=True)
class _Layout:
    """Positions in screen pixels, from the top left corner."""

    scale: int
    cell: tuple[int, int]  # height and width of a tile with the gap after it
    lefts: list[int]  # of each group
    tops: list[int]  # of each row, and the end of the last
    heights: list[int]  # of each row
    width: int


def _draw_grid(
    path: Target, row_names: Sequence[str], groups: Sequence[_Group], caption: str, scale: int | None
) -> None:
    """Paste groups into one array of screen pixels; add names, headings and caption."""
    row_names, groups, note = _truncate(row_names, groups)
    caption = "   ·   ".join(part for part in (caption, note) if part)
    names = [wrapped(name, 18) for name in row_names]
    at = _layout(names, groups, scale)
    captions = [line.strip(" ·") for line in textwrap.wrap(caption, max(20, (at.width - at.lefts[0]) * 3 // 20))]
    canvas = np.empty((at.tops[-1] + MARGIN + LINE * len(captions), at.width, 3), dtype=np.uint8)
    canvas[:] = rgb(BACKGROUND)
    for group, x in zip(groups, at.lefts, strict=True):
        for row, y in zip(group.rows, at.tops[:-1], strict=True):
            _paste(canvas, row, (y, x), group.columns, at)
    texts = [
        _Text(at.lefts[0] - 14, top + (height - GAP) / 2, name, "right")
        for name, top, height in zip(names, at.tops[:-1], at.heights, strict=True)
    ]
    for group, x in zip(groups, at.lefts, strict=True):
        middle = x + (group.columns * at.cell[1] - GAP) / 2
        head = _heading(group, at.cell[1])
        texts.append(_Text(middle, at.tops[0] - 7 - LINE / 2 * (head.count("\n") + 1), head, "center"))
        for row, top, height in zip(group.rows, at.tops[:-1], at.heights, strict=True):
            if not len(row):
                texts.append(_Text(middle, top + (height - GAP) / 2, "none", "center", MUTED_TEXT))
    for n, line in enumerate(captions):
        texts.append(_Text(at.lefts[0], at.tops[-1] + 12 + LINE * n, line, "left", MUTED_TEXT, 9))
    _write(path, canvas, texts)


def _truncate(names: Sequence[str], groups: Sequence[_Group]) -> tuple[Sequence[str], Sequence[_Group], str]:
    """Return names and groups of at most `MAX_LINES`, and a note on what is left out.

    Images after the first line of a class are left out first, then classes.
    """
    if sum(_lines(len(names), groups)) <= MAX_LINES:
        return names, groups, ""
    rows = ([row[: group.columns] for row in group.rows[:MAX_LINES]] for group in groups)
    first = [replace(group, rows=kept) for group, kept in zip(groups, rows, strict=True)]
    note = (
        f"the first {MAX_LINES} of {len(names)} classes" if len(names) > MAX_LINES else "the first images of each class"
    )
    return names[:MAX_LINES], first, note


def _lines(num_rows: int, groups: Sequence[_Group]) -> list[int]:
    """Return the number of lines of tiles in each row."""
    return [max([1, *(math.ceil(len(g.rows[i]) / g.columns) for g in groups)]) for i in range(num_rows)]


def _layout(names: Sequence[str], groups: Sequence[_Group], scale: int | None) -> _Layout:
    shapes = {row.shape[1:3] for group in groups for row in group.rows if len(row)}
    if len(shapes) != 1:
        sizes = " and ".join(f"{h} x {w}" for h, w in sorted(shapes)) if shapes else "no image at all"
        raise RaydistillError(f"a grid needs images of one size, not {sizes}", "figures", "resize them first")
    height, width = shapes.pop()
    lines = _lines(len(names), groups)
    columns = sum(g.columns for g in groups)
    tile = min(TILE_RANGE[1], max(TILE_RANGE[0], min(SCREEN_HEIGHT / sum(lines), SCREEN_WIDTH / columns)))
    scale = scale or max(1, round(tile / height))
    cell = (height * scale + GAP, width * scale + GAP)
    left = 36 + 8 * max(len(line) for name in names for line in name.split("\n"))
    lefts = np.cumsum([left] + [g.columns * cell[1] + GROUP_GAP for g in groups]).tolist()
    heights = [n * cell[0] for n in lines]
    top = MARGIN + LINE * max(_heading(g, cell[1]).count("\n") + bool(g.heading) for g in groups)
    tops = np.cumsum([top] + [height + ROW_GAP for height in heights]).tolist()
    return _Layout(scale, cell, lefts[:-1], tops, heights, lefts[-1] + MARGIN - GROUP_GAP)


def _heading(group: _Group, cell_width: int) -> str:
    """Return the heading, wrapped to the group's width (9 pixels a character)."""
    return wrapped(group.heading, max(12, group.columns * cell_width // 9)) if group.heading else ""


def _paste(
    canvas: npt.NDArray[np.uint8], row: npt.NDArray[np.uint8], corner: tuple[int, int], columns: int, at: _Layout
) -> None:
    for n, image in enumerate(row):
        tile = image.repeat(at.scale, axis=0).repeat(at.scale, axis=1)
        y, x = corner[0] + n // columns * at.cell[0], corner[1] + n % columns * at.cell[1]
        canvas[y : y + tile.shape[0], x : x + tile.shape[1]] = tile


@dataclass(frozen=True)
class _Text:
    """Text at x and y (from the top) in screen pixels; horizontal alignment `align`."""

    x: float
    y: float
    text: str
    align: str
    colour: str = TEXT
    points: int = 10


def _write(path: Target, canvas: npt.NDArray[np.uint8], texts: Sequence[_Text]) -> None:
    height, width = canvas.shape[:2]
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=BACKGROUND)
    figure.figimage(canvas, origin="upper")
    for t in texts:
        written = figure.text(
            t.x, height - t.y, t.text, transform=IdentityTransform(), color=t.colour, fontsize=t.points
        )
        written.set(ha=t.align, va="center", linespacing=1.3)
    save(figure, path)
