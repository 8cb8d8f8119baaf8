"""Sheets of galaxy pictures: prototypes as a grid, and the atlas that sets them beside real galaxies.

Sheets are laid out in whole screen pixels: each image pixel becomes a square of `scale` by `scale`, never resampled,
so what one sees is what the network was taught.
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

from raydistill.analysis.drawing import Target, save, styled, wrapped
from raydistill.errors import RaydistillError

Images = npt.NDArray[np.generic]

SHEET, SHEET_TEXT, SHEET_MUTED = "#171a20", "#e9ebee", "#9aa1ac"
SHEET_DPI = 100
SCREEN_HEIGHT, SCREEN_WIDTH = 960, 1500  # tiles are enlarged until the sheet fills a screen
TILE_RANGE = (96, 192)
MOST_LINES = 120  # of tiles on a sheet; who has a thousand classes looks at some of them
MARGIN, LINE, GAP, ROW_GAP, GROUP_GAP = 20, 20, 4, 4, 20  # screen pixels


@dataclass(frozen=True)
class Provenance:
    """What a picture must say about itself."""

    survey: str
    digest: str
    images_per_class: int
    simulated: bool

    def caption(self) -> str:
        survey = f"{self.survey} (simulated)" if self.simulated else self.survey
        images = "1 image per class" if self.images_per_class == 1 else f"{self.images_per_class} images per class"
        return "   ·   ".join([survey, images, f"raydistill\u00a0{self.digest[:12]}"])


def displayable(images: Images) -> npt.NDArray[np.uint8]:
    """Images [N, H, W, 3] as uint8: floats are clipped to [0, 1], all-NaN images become the sheet's background.

    Raises
    ------
    RaydistillError : not [N, H, W, 3]; floats that run to 255; NaN in only a part of an image, or infinity.
    """
    if images.ndim != 4 or images.shape[-1] != 3:
        raise RaydistillError(f"images have shape {images.shape}", "figures", "give [N, H, W, 3], the colour last")
    if images.dtype == np.uint8:
        return images.astype(np.uint8, copy=False)
    blank = np.isnan(images).all(axis=(1, 2, 3))
    shown = images[~blank]
    if not np.isfinite(shown).all():
        raise RaydistillError(
            "an image holds NaN or infinity", "figures", "take the last good state of the distillation"
        )
    if shown.size and shown.max() > 10:
        raise RaydistillError(f"a float image reaches {shown.max():.0f}", "figures", "give uint8, or divide by 255")
    pixels = np.empty(images.shape, dtype=np.uint8)
    pixels[~blank] = np.rint(np.clip(shown, 0, 1) * 255)
    pixels[blank] = rgb(SHEET)
    return pixels


def rgb(colour: str) -> npt.NDArray[np.uint8]:
    """A colour's name or hexadecimal code as three bytes."""
    bytes_3: npt.NDArray[np.uint8] = np.rint(np.array(to_rgb(colour)) * 255).astype(np.uint8)
    return bytes_3


@dataclass(frozen=True)
class _Group:
    """A block of columns on a sheet: its head, and for each row images [n, H, W, 3]; they wrap after `columns`."""

    head: str
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
) -> None:
    """Images as a grid, one row per class, the class's name to its left.

    Parameters
    ----------
    images : [N, H, W, 3] uint8 or float in [0, 1]; labels : [N] integers that index `class_names`.
    scale : screen pixels per image pixel; by default so that the sheet fits a screen.
    columns : a class with more images continues on the next line.
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
    _sheet(path, class_names, [_Group("", rows, max(1, min(columns, widest)))], caption, scale)


@styled
def atlas(
    path: Target,
    class_names: Sequence[str],
    prototypes_per_class: Sequence[Images],
    class_means: Images,
    real_examples_per_class: Sequence[Images],
    nearest_real: Sequence[Images] | None = None,
    provenance: Provenance | None = None,
    scale: int | None = None,
    columns: int = 4,
    examples: str = "most confident",
) -> None:
    """One row per class: prototypes, mean of the class, real galaxies, mean of nearest real galaxies.

    Parameters
    ----------
    prototypes_per_class, real_examples_per_class : for each class [n, H, W, 3]; the first `columns` are shown.
    class_means : [classes, H, W, 3] (all NaN: no such galaxies).
    nearest_real : for each class [n, H, W, 3], for each prototype the mean of the real galaxies nearest to it.
    provenance : written as the caption line.
    examples : which real galaxies are shown.
    """
    num_classes = len(class_names)
    galaxies = "simulated" if provenance and provenance.simulated else "real"
    parts = [
        ("distilled", prototypes_per_class),
        ("class mean", [mean[None] if np.isfinite(mean).any() else mean[None][:0] for mean in class_means]),
        (f"{galaxies}, {examples}", real_examples_per_class),
        (f"{galaxies}, mean of nearest", nearest_real),
    ]
    groups = []
    for head, rows in parts:
        if rows is None:
            continue
        if len(rows) != num_classes:
            raise RaydistillError(
                f"{num_classes} classes but {len(rows)} rows of '{head}'", "atlas", "give one per class"
            )
        shown = [displayable(row)[:columns] for row in rows]
        groups.append(_Group(head, shown, max([1, *(len(row) for row in shown)])))
    _sheet(path, class_names, groups, provenance.caption() if provenance else "", scale)


@dataclass(frozen=True)
class _Layout:
    """Where everything stands, in screen pixels from the top left corner."""

    scale: int
    cell: tuple[int, int]  # height and width of a tile with the gap after it
    lefts: list[int]  # of each group
    tops: list[int]  # of each row, and the end of the last
    heights: list[int]  # of each row
    width: int


def _sheet(path: Target, row_names: Sequence[str], groups: Sequence[_Group], caption: str, scale: int | None) -> None:
    """Paste the groups into one array of screen pixels, then write names, heads and caption over it."""
    row_names, groups, left_out = _cut(row_names, groups)
    caption = "   ·   ".join(part for part in (caption, left_out) if part)
    names = [wrapped(name, 18) for name in row_names]
    at = _layout(names, groups, scale)
    captions = [line.strip(" ·") for line in textwrap.wrap(caption, max(20, (at.width - at.lefts[0]) * 3 // 20))]
    canvas = np.empty((at.tops[-1] + MARGIN + LINE * len(captions), at.width, 3), dtype=np.uint8)
    canvas[:] = rgb(SHEET)
    for group, x in zip(groups, at.lefts, strict=True):
        for row, y in zip(group.rows, at.tops[:-1], strict=True):
            _paste(canvas, row, (y, x), group.columns, at)
    texts = [
        _Text(at.lefts[0] - 14, top + (height - GAP) / 2, name, "right")
        for name, top, height in zip(names, at.tops[:-1], at.heights, strict=True)
    ]
    for group, x in zip(groups, at.lefts, strict=True):
        middle = x + (group.columns * at.cell[1] - GAP) / 2
        head = _head(group, at.cell[1])
        texts.append(_Text(middle, at.tops[0] - 7 - LINE / 2 * (head.count("\n") + 1), head, "center"))
        for row, top, height in zip(group.rows, at.tops[:-1], at.heights, strict=True):
            if not len(row):
                texts.append(_Text(middle, top + (height - GAP) / 2, "none", "center", SHEET_MUTED))
    for n, line in enumerate(captions):
        texts.append(_Text(at.lefts[0], at.tops[-1] + 12 + LINE * n, line, "left", SHEET_MUTED, 9))
    _write(path, canvas, texts)


def _cut(names: Sequence[str], groups: Sequence[_Group]) -> tuple[Sequence[str], Sequence[_Group], str]:
    """Names and groups of at most `MOST_LINES`, and words for what is left out: first images of a class, then classes."""
    if sum(_lines(len(names), groups)) <= MOST_LINES:
        return names, groups, ""
    rows = ([row[: group.columns] for row in group.rows[:MOST_LINES]] for group in groups)
    cut = [replace(group, rows=found) for group, found in zip(groups, rows, strict=True)]
    of = (
        f"the first {MOST_LINES} of {len(names)} classes"
        if len(names) > MOST_LINES
        else "the first images of each class"
    )
    return names[:MOST_LINES], cut, of


def _lines(num_rows: int, groups: Sequence[_Group]) -> list[int]:
    """Of tiles, in each row."""
    return [max([1, *(math.ceil(len(g.rows[i]) / g.columns) for g in groups)]) for i in range(num_rows)]


def _layout(names: Sequence[str], groups: Sequence[_Group], scale: int | None) -> _Layout:
    shapes = {row.shape[1:3] for group in groups for row in group.rows if len(row)}
    if len(shapes) != 1:
        sizes = " and ".join(f"{h} x {w}" for h, w in sorted(shapes)) if shapes else "no image at all"
        raise RaydistillError(f"a sheet needs images of one size, not {sizes}", "figures", "resize them first")
    height, width = shapes.pop()
    lines = _lines(len(names), groups)
    columns = sum(g.columns for g in groups)
    tile = min(TILE_RANGE[1], max(TILE_RANGE[0], min(SCREEN_HEIGHT / sum(lines), SCREEN_WIDTH / columns)))
    scale = scale or max(1, round(tile / height))
    cell = (height * scale + GAP, width * scale + GAP)
    left = 36 + 8 * max(len(line) for name in names for line in name.split("\n"))
    lefts = np.cumsum([left] + [g.columns * cell[1] + GROUP_GAP for g in groups]).tolist()
    heights = [n * cell[0] for n in lines]
    top = MARGIN + LINE * max(_head(g, cell[1]).count("\n") + bool(g.head) for g in groups)
    tops = np.cumsum([top] + [height + ROW_GAP for height in heights]).tolist()
    return _Layout(scale, cell, lefts[:-1], tops, heights, lefts[-1] + MARGIN - GROUP_GAP)


def _head(group: _Group, cell_width: int) -> str:
    """The head over as many lines as the group's width (9 pixels a character) asks for."""
    return wrapped(group.head, max(12, group.columns * cell_width // 9)) if group.head else ""


def _paste(
    canvas: npt.NDArray[np.uint8], row: npt.NDArray[np.uint8], corner: tuple[int, int], columns: int, at: _Layout
) -> None:
    for n, image in enumerate(row):
        tile = image.repeat(at.scale, axis=0).repeat(at.scale, axis=1)
        y, x = corner[0] + n // columns * at.cell[0], corner[1] + n % columns * at.cell[1]
        canvas[y : y + tile.shape[0], x : x + tile.shape[1]] = tile


@dataclass(frozen=True)
class _Text:
    """Text on a sheet; x and y (from the top) in screen pixels, `align` horizontal."""

    x: float
    y: float
    text: str
    align: str
    colour: str = SHEET_TEXT
    points: int = 10


def _write(path: Target, canvas: npt.NDArray[np.uint8], texts: Sequence[_Text]) -> None:
    height, width = canvas.shape[:2]
    figure = Figure(figsize=(width / SHEET_DPI, height / SHEET_DPI), dpi=SHEET_DPI, facecolor=SHEET)
    figure.figimage(canvas, origin="upper")
    for t in texts:
        written = figure.text(
            t.x, height - t.y, t.text, transform=IdentityTransform(), color=t.colour, fontsize=t.points
        )
        written.set(ha=t.align, va="center", linespacing=1.3)
    save(figure, path)
