"""Galaxies that lie level: the angle is measured right, neighbours do not count, and nothing is mirrored."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raydistill.galaxies.axis import levelled, long_axis
from raydistill.galaxies.images import prepare

SKY = 20


def picture(*sources: tuple[float, float, float, float, float], side: int = 160) -> np.ndarray:
    """Ellipses on a noisy sky: brightness, long and short deviation, degrees counter-clockwise, distance from the centre that way."""
    y, x = ((side - 1) / 2 - np.mgrid[:side, :side][0]), np.mgrid[:side, :side][1] - (side - 1) / 2
    light = np.full((side, side), float(SKY)) + np.random.default_rng(0).normal(0, 2, (side, side))
    for brightness, long, short, angle, distance in sources:
        c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        along, across = x * c + y * s - distance, y * c - x * s
        light += brightness * np.exp(-(along**2) / (2 * long**2) - across**2 / (2 * short**2))
    return np.uint8(np.clip(np.repeat(light[..., None], 3, axis=2) * [1, 0.8, 0.6], 0, 255))


def difference(angle: float, other: float) -> float:
    """Degrees between two axes, which have no direction."""
    return abs((angle - other + 90) % 180 - 90)


@pytest.mark.parametrize("angle", [-90, -60, -33, 0, 12.5, 45, 80])
@pytest.mark.parametrize("short", [3, 8])
def test_the_angle_is_that_of_the_ellipse(angle: float, short: float) -> None:
    assert difference(long_axis(picture((150, 12, short, angle, 0)), 80), angle) < 1


@pytest.mark.parametrize("angle", [-71, 30])
def test_a_levelled_galaxy_lies_level(angle: float) -> None:
    image = picture((150, 12, 4, angle, 0))
    again = np.uint8(np.clip(np.rint(levelled(image, 80)), 0, 255))
    assert abs(long_axis(again, 80)) < 1
    assert min(again.shape[:2]) >= 80


@pytest.mark.parametrize("where", [(30, 35), (100, 30), (170, 45)])
def test_neighbours_do_not_count(where: tuple[float, float]) -> None:
    """Brighter than the galaxy, and within the square or beyond it."""
    image = picture((150, 10, 4, 25, 0), (230, 3, 3, *where))
    assert difference(long_axis(image, 100), 25) < 3


@pytest.mark.parametrize("aside", [40, -40, 130])
def test_nothing_is_mirrored(aside: float) -> None:
    """A knot `aside` degrees counter-clockwise of the long axis is there afterwards too."""
    image = picture((120, 16, 5, 55, 0), (90, 2, 2, 55 + aside, 14))
    shown = levelled(image, 90)[..., 0]
    axis = long_axis(image, 90)
    middle = (np.array(shown.shape) - 1) / 2
    y, x = middle[0] - np.mgrid[: shown.shape[0], : shown.shape[1]][0], np.mgrid[: shown.shape[0], : shown.shape[1]][1]
    x = x - middle[1]
    ring = np.where(abs(np.hypot(x, y) - 14) < 3, shown, 0) * (abs(y) > 6)
    row, column = np.unravel_index(ring.argmax(), ring.shape)
    found = np.degrees(np.arctan2(y[row, column], x[row, column]))
    assert difference(found, 55 + aside - axis) < 8


def test_what_has_no_light_stays() -> None:
    assert long_axis(np.full((64, 64, 3), 7, np.uint8), 32) == 0
    image = picture(side=64)
    assert np.isfinite(levelled(image, 32)).all()


def test_corners_that_were_never_seen_are_sky() -> None:
    image = picture((150, 12, 4, 45, 0), side=96)
    shown = prepare(image, 1.0, 96, align=True)
    assert abs(shown[:4, :4, 0].astype(float).mean() - SKY) < 1.5


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_picture_that_was_turned_becomes_the_same(turns: int) -> None:
    """But for which end is left."""
    image = picture((150, 12, 4, 20, 0), (60, 3, 3, 20, 9))
    expected, found = (prepare(np.ascontiguousarray(np.rot90(image, k)), 0.5, 40, align=True) for k in (0, turns))
    assert min(np.abs(found.astype(int) - form.astype(int)).max() for form in (expected, np.rot90(expected, 2))) <= 2


def test_real_galaxies_seen_edge_on_lie_level(data_root: Path) -> None:
    """By the moments of their mean picture, which is round where they point anywhere."""
    root = data_root / "gz2_kaggle"
    with open(root / "labels_5_classes.csv") as table:
        ids = [row["GalaxyID"] for row in csv.DictReader(table) if row["class"] == "edge_on"][:60]
    pictures = [np.asarray(Image.open(root / "images_training_rev1" / f"{name}.jpg")) for name in ids]

    def flatness(align: bool) -> float:
        mean = np.mean([prepare(image, 0.5, 64, align).astype(float).sum(axis=2) for image in pictures], axis=0)
        light = np.clip(mean - np.median(mean), 0, None)
        offset = np.arange(64) - 31.5
        return float(np.sqrt((light.sum(axis=0) * offset**2).sum() / (light.sum(axis=1) * offset**2).sum()))

    assert 0.8 < flatness(False) < 1.25
    assert flatness(True) > 1.7
