"""Galaxies that lie level: the angle is measured right, neighbours do not count, and nothing is mirrored."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raydistill.galaxies.axis import align_major_axis, long_axis
from raydistill.galaxies.images import prepare

SKY = 20
COLOUR = np.array([1, 0.8, 0.6])


def picture(
    *sources: tuple[float, float, float, float, float],
    shape: tuple[int, int] = (160, 160),
    sky: float = SKY,
    noise: float = 2,
) -> np.ndarray:
    """Ellipses on a noisy sky: brightness, long and short deviation, degrees counter-clockwise, distance from the centre that way."""
    y, x = (np.arange(n) - (n - 1) / 2 for n in shape)
    light = np.random.default_rng(0).normal(sky, noise, shape)
    for brightness, long, short, angle, distance in sources:
        c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        along, across = x * c - y[:, None] * s - distance, -y[:, None] * c - x * s
        light += brightness * np.exp(-(along**2) / (2 * long**2) - across**2 / (2 * short**2))
    return np.uint8(np.clip(light[..., None] * COLOUR, 0, 255))


def difference(angle: float, other: float) -> float:
    """Degrees between two axes, which have no direction."""
    return abs((angle - other + 90) % 180 - 90)


@pytest.mark.parametrize("angle", [-90, -60, -33, 0, 12.5, 45, 80])
@pytest.mark.parametrize("short", [3, 8])
def test_the_angle_is_that_of_the_ellipse(angle: float, short: float) -> None:
    assert difference(long_axis(picture((150, 12, short, angle, 0)), 80), angle) < 1


@pytest.mark.parametrize("angle", [-71, 30])
@pytest.mark.parametrize("shape", [(160, 160), (161, 161), (155, 160), (33, 32)])
def test_a_levelled_galaxy_lies_level_in_the_middle(angle: float, shape: tuple[int, int]) -> None:
    """Of sides odd and even, and of a picture that is not quite square."""
    unit = min(shape) // 32 / 5
    image = picture((150, 12 * unit, 4 * unit, angle, 0), shape=shape)
    turned, side = align_major_axis(image, 80 * unit, 80)
    light = np.clip(turned.sum(axis=2) - 2.4 * SKY - 20, 0, None)
    y, x = (np.arange(n) - (n - 1) / 2 for n in light.shape)
    centre = np.array([(light.sum(axis=1) * y).sum(), (light.sum(axis=0) * x).sum()]) / light.sum()
    assert np.abs(centre).max() < 0.2
    aslant, across = 2 * (light * np.outer(-y, x)).sum(), (light * (x**2 - y[:, None] ** 2)).sum()
    assert difference(np.degrees(np.arctan2(aslant, across) / 2), 0) < 2
    assert min(turned.shape[:2]) >= side == pytest.approx(80 * unit)


def test_what_is_shrunk_keeps_its_place_and_proportion() -> None:
    image = picture((150, 12, 4, 25, 0))
    turned, side = align_major_axis(image, 80, 40)
    assert side == pytest.approx(40)
    whole, _ = align_major_axis(image, 80, 80)
    half = np.asarray(Image.fromarray(whole[..., 0]).resize(turned.shape[1::-1], Image.Resampling.LANCZOS))
    assert np.corrcoef(turned[..., 0].ravel(), half.ravel())[0, 1] > 0.995


@pytest.mark.parametrize("where", [(120, 30), (100, 30), (170, 45), (115, 55)])
def test_neighbours_do_not_count(where: tuple[float, float]) -> None:
    """Brighter than the galaxy, and none of its region, in the square or at its edge."""
    image = picture((150, 10, 4, 25, 0), (230, 3, 3, *where))
    assert difference(long_axis(image, 100), 25) < 1


@pytest.mark.parametrize("where", [(45, 36), (60, 32), (80, 27)])
def test_a_neighbour_that_touches_counts_little(where: tuple[float, float]) -> None:
    """One region with the galaxy: without the weight the angle is 18 to 45 degrees off."""
    image = picture((150, 10, 4, 25, 0), (230, 4, 4, *where))
    assert difference(long_axis(image, 100), 25) < 5


def test_a_bridge_to_what_lies_beyond_the_circle_does_not_count() -> None:
    image = picture((150, 8, 4, 25, 0), (100, 30, 2, 90, 30), (240, 8, 8, 90, 62))
    assert difference(long_axis(image, 60), long_axis(picture((150, 8, 4, 25, 0), (100, 30, 2, 90, 30)), 60)) < 5


@pytest.mark.parametrize("noise", [0, 2])
def test_a_sky_that_is_cut_off_at_black(noise: float) -> None:
    """Most of its pixels are 0, the median deviation too: the galaxy is not the whole picture."""
    image = picture((150, 12, 4, 0, 0), (200, 5, 5, 60, 40), sky=0, noise=noise)
    assert difference(long_axis(image, 120), 0) < 1


@pytest.mark.parametrize("level", [5, 9, 18, 20])
def test_a_sky_without_noise(level: int) -> None:
    image = picture((150, 12, 4, 33, 0), (200, 5, 5, 90, 40), sky=level, noise=0)
    assert difference(long_axis(image, 120), 33) < 1


def test_a_frame_brighter_than_the_sky() -> None:
    image = np.zeros((200, 200, 3), np.uint8)
    image[:20] = image[-20:] = image[:, :20] = image[:, -20:] = 20
    image[99:101, 99:101] = 255
    assert -90 <= long_axis(image, 100) <= 90


@pytest.mark.parametrize("aside", [40, -40, 130])
def test_nothing_is_mirrored(aside: float) -> None:
    """A knot `aside` degrees counter-clockwise of the long axis is there afterwards too."""
    image = picture((120, 16, 5, 55, 0), (90, 2, 2, 55 + aside, 14))
    shown, axis = align_major_axis(image, 90, 90)[0][..., 0], long_axis(image, 90)
    y, x = (np.arange(n) - (n - 1) / 2 for n in shown.shape)
    distance = np.hypot(y[:, None], x[None, :])
    ring = np.where((abs(distance - 14) < 3) & (abs(y[:, None]) > 6), shown, 0)
    row, column = np.unravel_index(ring.argmax(), ring.shape)
    assert difference(np.degrees(np.arctan2(-y[row], x[column])), 55 + aside - axis) < 8


def test_what_has_no_light_stays() -> None:
    assert long_axis(np.full((64, 64, 3), 7, np.uint8), 32) == 0


def test_corners_that_were_never_seen_are_sky() -> None:
    image = picture((150, 12, 4, 45, 0), shape=(96, 96))
    shown = prepare(image, 1.0, 96, align=True)
    assert np.abs(shown[:4, :4].astype(float).mean(axis=(0, 1)) - SKY * COLOUR).max() < 1.5


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
