"""Inject defects into real pictures: the training data of the filter of `curate`.

A wide picture shows more of the sky than the part that is looked at, its view. `show` cuts the view
out of a wide picture, with or without one defect:

- low-surface-brightness: the light of the galaxy hardly exceeds the noise of the sky;
- artifact: a satellite trail, hits of cosmic rays, a saturated star with spikes and a bleed trail,
  or a block or stripe without data;
- truncated-galaxy: the frame, or a part without data that reaches its edge, cuts the galaxy;
- off-centre: the galaxy is inside the view, away from its centre;
- blended: another galaxy of comparable brightness overlaps the galaxy. A star in front of it is not
  injected: at the size of a view it looks like a knot of the galaxy.

All lengths are fractions of the view's side. All light is added to levels that are already
stretched, so brightnesses are levels and not fluxes.

Shape letters: W rows and columns of a wide picture, V those of a view.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

Reason = Literal["low-surface-brightness", "artifact", "truncated-galaxy", "off-centre", "blended"]
REASONS: tuple[Reason, ...] = ("low-surface-brightness", "artifact", "truncated-galaxy", "off-centre", "blended")

LARGEST_SHIFT = 0.5  # of a galaxy that the frame cuts
MARGIN = 2.0  # side of a wide picture, if the original has as much sky
BORDER = 0.08  # width of the ring of sky, of the wide picture's side
DARK = 25  # mean level of sky: a black block in it would not be seen


class Shown(NamedTuple):
    """A view, uint8 `[V, V, 3]`, and the name of the defect in it."""

    picture: np.ndarray
    kind: str


def wide_side(view: int, crop_fraction: float) -> int:
    """Return W for views of V pixels that are this fraction of originals.

    W is even if V is.
    """
    return view + 2 * int(view * (min(MARGIN, 1 / crop_fraction) - 1) / 2)


def central(wide_WW3: np.ndarray, view: int) -> np.ndarray:
    """Return the view itself, uint8 `[V, V, 3]`, without any change."""
    first = (len(wide_WW3) - view) // 2
    return wide_WW3[first : first + view, first : first + view]


def show(
    reason: Reason | None, wide_WW3: np.ndarray, other_WW3: np.ndarray, view: int, rng: np.random.Generator
) -> Shown:
    """Return a view with a defect, or a clean one that is a little displaced.

    Parameters
    ----------
    reason
        The defect; None: no defect.
    wide_WW3
        The picture of a galaxy, uint8.
    other_WW3
        Another galaxy, which overlaps the first one if the reason is "blended".
    view
        V in pixels.
    rng
        Source of all random numbers.

    Notes
    -----
    A wide picture with little sky around the view leaves no room for a displacement. Then a
    displaced view is a smaller part, which is enlarged; clean views are enlarged as often, so the
    enlargement does not give a defect away.
    """
    room = len(wide_WW3) / view
    shift = {"off-centre": rng.uniform(0.17, 0.33), "truncated-galaxy": 0.0}.get(reason or "", rng.uniform(0, 0.03))
    kind: str = reason or "clean"
    if reason == "truncated-galaxy":
        kind = str(rng.choice(["blank", "frame"]))
        shift = rng.uniform(0.4, LARGEST_SHIFT) if kind == "frame" else rng.uniform(0, 0.03)
    angle = rng.uniform(0, 2 * math.pi)
    direction = np.array([math.cos(angle), math.sin(angle)])
    if kind == "frame":  # towards a side or a corner, the galaxy's centre is at the same distance from the edge
        direction /= abs(direction).max()
    zoom = 1.0
    largest = room / (1 + 2 * LARGEST_SHIFT)
    if largest < 1 and rng.random() < 0.5:
        zoom = rng.uniform(largest, 1)
    zoom = min(zoom, room / (1 + 2 * shift * abs(direction).max()))
    sky_3, noise = _sky(wide_WW3, rng)
    levels = _cut(wide_WW3, shift * direction, zoom, view)
    if reason == "low-surface-brightness":
        levels = _fade(levels, sky_3, noise, rng)
    elif reason == "artifact":
        kind = str(rng.choice(list(_ARTIFACTS)))
        levels = _ARTIFACTS[kind](levels, rng)
    elif kind == "blank":
        levels = _blank(levels, sky_3, rng)
    elif reason == "blended":
        levels = _add_galaxy(levels, other_WW3, zoom, rng)
    return Shown(np.clip(np.rint(levels), 0, 255).astype(np.uint8), kind)


Noise = Callable[[int], np.ndarray]


def _sky(wide_WW3: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Noise]:
    """Return the sky level per colour, and a source of noise like the sky's."""
    width = max(2, round(BORDER * len(wide_WW3)))
    strips = [wide_WW3[:width], wide_WW3[-width:], wide_WW3[:, :width], wide_WW3[:, -width:]]
    ring_N3 = np.concatenate([strip.reshape(-1, 3) for strip in strips]).astype(np.float64)
    sky_3 = np.median(ring_N3, axis=0)
    deviation_N = abs(ring_N3 - sky_3).max(axis=1)
    quiet_N3 = ring_N3[deviation_N <= np.quantile(deviation_N, 0.9)] - sky_3  # without other sources
    row = wide_WW3[:width].astype(np.float64) - sky_3
    lagged = float((row[:, 1:] * row[:, :-1]).mean() / max(float((row * row).mean()), 1e-9))
    neighbour = min(max(lagged, 0.0), 0.6) / 2  # weight of each neighbour, about right for weak correlation

    def noise(side: int) -> np.ndarray:
        drawn = quiet_N3[rng.integers(len(quiet_N3), size=(side, side))]
        smooth = drawn + neighbour * sum(np.roll(drawn, step, axis) for step in (1, -1) for axis in (0, 1))
        return np.asarray(smooth / math.sqrt(1 + 4 * neighbour**2))

    return sky_3, noise


def _cut(wide_WW3: np.ndarray, shift_2: np.ndarray, zoom: float, view: int) -> np.ndarray:
    """Return float64 `[V, V, 3]` of a part of the wide picture, of side zoom * V."""
    side, width = zoom * view, len(wide_WW3)
    corner = (width - side) / 2 - shift_2 * side  # the galaxy moves against the part that is cut out
    if zoom == 1.0:
        column, row = (int(place) for place in np.clip(np.rint(corner), 0, width - view))
        return wide_WW3[row : row + view, column : column + view].astype(np.float64)
    column, row = np.clip(corner, 0, width - side)
    box = (column, row, min(column + side, width), min(row + side, width))
    resized = Image.fromarray(wide_WW3).resize((view, view), Image.Resampling.BICUBIC, box=box)
    return np.asarray(resized, np.float64)


def _fade(levels: np.ndarray, sky_3: np.ndarray, noise: Noise, rng: np.random.Generator) -> np.ndarray:
    factor = math.exp(rng.uniform(math.log(0.02), math.log(0.1)))
    return np.asarray(sky_3 + factor * (levels - sky_3) + math.sqrt(1 - factor**2) * noise(len(levels)))


def _grid(view: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the y and x of all pixels, from -0.5 to 0.5."""
    y, x = np.mgrid[:view, :view]
    return (y + 0.5) / view - 0.5, (x + 0.5) / view - 0.5


def _colour(rng: np.random.Generator, single: float) -> np.ndarray:
    """Return the share of each colour.

    One colour stands alone with probability `single`, because bands are exposed in turn.
    """
    if rng.random() < single:
        return np.eye(3)[rng.integers(3)]
    return rng.uniform(0.7, 1, 3)


def _screen(levels: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Add light without exceeding white."""
    return np.asarray(255 - (255 - levels) * (1 - np.clip(light, 0, 255) / 255))


def _trail(levels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    y, x = _grid(len(levels))
    angle, offset = rng.uniform(0, math.pi), rng.uniform(-0.4, 0.4)
    for _ in range(rng.integers(1, 3)):
        distance = x * math.sin(angle) - y * math.cos(angle) - offset
        width = rng.uniform(0.006, 0.03)
        strength = rng.uniform(50, 255) * np.exp(-0.5 * (distance / width) ** 2)
        levels = _screen(levels, strength[..., None] * _colour(rng, 0.5))
        offset += rng.uniform(-0.15, 0.15)  # the same satellite in the next band
    return levels


def _cosmic_rays(levels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    y, x = _grid(len(levels))
    for _ in range(rng.integers(4, 16)):
        angle, half_length = rng.uniform(0, math.pi), rng.uniform(0.005, 0.05)
        v, u = rng.uniform(-0.5, 0.5, 2)
        along = (x - u) * math.cos(angle) + (y - v) * math.sin(angle)
        across = (y - v) * math.cos(angle) - (x - u) * math.sin(angle)
        beyond = np.maximum(abs(along) - half_length, 0)
        strength = rng.uniform(90, 255) * np.exp(-0.5 * (across**2 + beyond**2) / 0.009**2)
        levels = _screen(levels, strength[..., None] * _colour(rng, 0.6))
    return levels


def _saturated_star(levels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    y, x = _grid(len(levels))
    angle, distance = rng.uniform(0, 2 * math.pi), rng.uniform(0.2, 0.55)
    y, x = y - distance * math.sin(angle), x - distance * math.cos(angle)
    radius = rng.uniform(0.04, 0.12)
    light = 255 * 1.6 / (1 + (np.hypot(x, y) / radius) ** 2) ** 2
    length, turn = rng.uniform(0.15, 0.6), rng.choice([0, math.pi / 4])
    for spike in (turn, turn + math.pi / 2):
        along, across = x * math.cos(spike) + y * math.sin(spike), y * math.cos(spike) - x * math.sin(spike)
        light += rng.uniform(100, 255) * np.exp(-abs(along) / length - 0.5 * (across / 0.012) ** 2)
    levels = _screen(levels, light[..., None] * rng.uniform(0.8, 1, 3))
    if rng.random() < 0.5:  # charge that spills along the columns
        bleed = 255 * np.exp(-0.5 * (x / rng.uniform(0.01, 0.03)) ** 2) * (abs(y) < rng.uniform(0.1, 1))
        levels = _screen(levels, bleed[..., None] * _colour(rng, 0.3))
    return levels


def _missing(levels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Remove a block inside the view, or a stripe across it, in all colours or in one."""
    y, x = _grid(len(levels))
    height, width = rng.uniform(0.06, 0.3, 2)
    v, u = rng.uniform(-0.3, 0.3, 2)
    if rng.random() < 0.5:
        width = 2.0
    inside = (abs(y - v) < height / 2) & (abs(x - u) < width / 2)
    inside = inside.T if rng.random() < 0.5 else inside
    colours = np.ones(3, bool) if rng.random() < 0.6 else np.eye(3, dtype=bool)[rng.integers(3)]
    removed = inside[..., None] & colours
    value = 255.0 if levels[removed].mean() < DARK else float(rng.choice([0, 0, 255]))
    return np.where(removed, value, levels)


_ARTIFACTS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "trail": _trail,
    "cosmic-rays": _cosmic_rays,
    "saturated-star": _saturated_star,
    "missing": _missing,
}


def _blank(levels: np.ndarray, sky_3: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Remove all beyond a line, which passes near the galaxy's centre."""
    y, x = _grid(len(levels))
    angle = rng.integers(4) * math.pi / 2 + rng.normal(0, 0.15)
    beyond = x * math.cos(angle) + y * math.sin(angle) > rng.uniform(-0.12, 0.14)
    value = [np.zeros(3), np.zeros(3), sky_3, np.full(3, 255.0)][rng.integers(4)]
    return np.where(beyond[..., None], value, levels)


def _add_galaxy(levels: np.ndarray, other_WW3: np.ndarray, zoom: float, rng: np.random.Generator) -> np.ndarray:
    turned = np.rot90(other_WW3, int(rng.integers(4)))
    turned = np.ascontiguousarray(turned[:, ::-1] if rng.random() < 0.5 else turned)
    angle, distance = rng.uniform(0, 2 * math.pi), rng.uniform(0.12, 0.32)
    view = len(levels)
    sky_3, _ = _sky(turned, rng)
    light = np.maximum(_cut(turned, np.zeros(2), zoom, view) - sky_3, 0)
    y, x = _grid(view)
    light *= np.clip((0.5 - np.hypot(x, y)) / 0.15, 0, 1)[..., None]  # no edge of its frame
    step = np.rint(view * distance * np.array([math.sin(angle), math.cos(angle)])).astype(int)
    padded = np.pad(light, [(view, view), (view, view), (0, 0)])
    moved = padded[view - step[0] : 2 * view - step[0], view - step[1] : 2 * view - step[1]]
    return _screen(levels, rng.uniform(0.6, 1.1) * moved)
