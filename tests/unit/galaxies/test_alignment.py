"""Tests of the alignment: right angle, no effect of neighbours, no mirroring."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raydistill.galaxies.pictures.alignment import align_major_axis, position_angle
from raydistill.galaxies.pictures.images import prepare

SKY = 20
COLOUR = np.array([1, 0.8, 0.6])


def picture(
    *sources: tuple[float, float, float, float, float],
    shape: tuple[int, int] = (160, 160),
    sky: float = SKY,
    noise: float = 2,
) -> np.ndarray:
    """Return Gaussian ellipses on a noisy sky.

    Each source is (brightness, major sigma [px], minor sigma [px], angle [deg, counter-clockwise],
    distance from the centre along that angle [px]).
    """
    y, x = (np.arange(n) - (n - 1) / 2 for n in shape)
    light = np.random.default_rng(0).normal(sky, noise, shape)
    for brightness, major, minor, angle, distance in sources:
        c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        along, across = x * c - y[:, None] * s - distance, -y[:, None] * c - x * s
        light += brightness * np.exp(-(along**2) / (2 * major**2) - across**2 / (2 * minor**2))
    return np.uint8(np.clip(light[..., None] * COLOUR, 0, 255))


def difference(angle: float, other: float) -> float:
    """Return the angle between two axes [deg], in [0, 90]."""
    return abs((angle - other + 90) % 180 - 90)


@pytest.mark.parametrize("angle", [-90, -60, -33, 0, 12.5, 45, 80])
@pytest.mark.parametrize("minor", [3, 8])
def test_position_angle_is_the_angle_of_the_ellipse(angle: float, minor: float) -> None:
    assert difference(position_angle(picture((150, 12, minor, angle, 0)), 80), angle) < 1


@pytest.mark.parametrize("angle", [-71, 30])
@pytest.mark.parametrize("shape", [(160, 160), (161, 161), (155, 160), (33, 32)])
def test_aligned_galaxy_is_horizontal_and_central(angle: float, shape: tuple[int, int]) -> None:
    unit = min(shape) // 32 / 5
    image = picture((150, 12 * unit, 4 * unit, angle, 0), shape=shape)
    rotated, side = align_major_axis(image, 80 * unit, 80)
    light = np.clip(rotated.sum(axis=2) - 2.4 * SKY - 20, 0, None)
    y, x = (np.arange(n) - (n - 1) / 2 for n in light.shape)
    centre = np.array([(light.sum(axis=1) * y).sum(), (light.sum(axis=0) * x).sum()]) / light.sum()
    assert np.abs(centre).max() < 0.2
    cross, spread = 2 * (light * np.outer(-y, x)).sum(), (light * (x**2 - y[:, None] ** 2)).sum()
    assert difference(np.degrees(np.arctan2(cross, spread) / 2), 0) < 2
    assert min(rotated.shape[:2]) >= side == pytest.approx(80 * unit)


def test_shrinking_keeps_position_and_shape() -> None:
    image = picture((150, 12, 4, 25, 0))
    rotated, side = align_major_axis(image, 80, 40)
    assert side == pytest.approx(40)
    whole, _ = align_major_axis(image, 80, 80)
    half = np.asarray(Image.fromarray(whole[..., 0]).resize(rotated.shape[1::-1], Image.Resampling.LANCZOS))
    assert np.corrcoef(rotated[..., 0].ravel(), half.ravel())[0, 1] > 0.995


@pytest.mark.parametrize("position", [(120, 30), (100, 30), (170, 45), (115, 55)])
def test_separate_neighbours_do_not_change_the_angle(position: tuple[float, float]) -> None:
    """The neighbour is brighter than the galaxy, inside the square or at its edge."""
    image = picture((150, 10, 4, 25, 0), (230, 3, 3, *position))
    assert difference(position_angle(image, 100), 25) < 1


@pytest.mark.parametrize("position", [(45, 36), (60, 32), (80, 27)])
def test_touching_neighbour_changes_the_angle_little(position: tuple[float, float]) -> None:
    """Galaxy and neighbour are one region.

    Without the weight the error is 18 to 45 deg.
    """
    image = picture((150, 10, 4, 25, 0), (230, 4, 4, *position))
    assert difference(position_angle(image, 100), 25) < 5


def test_light_outside_the_circle_does_not_count_even_if_connected() -> None:
    image = picture((150, 8, 4, 25, 0), (100, 30, 2, 90, 30), (240, 8, 8, 90, 62))
    assert (
        difference(position_angle(image, 60), position_angle(picture((150, 8, 4, 25, 0), (100, 30, 2, 90, 30)), 60)) < 5
    )


@pytest.mark.parametrize("noise", [0, 2])
def test_angle_is_right_if_the_sky_is_clipped_at_black(noise: float) -> None:
    """Most sky pixels are 0, so their median deviation is 0."""
    image = picture((150, 12, 4, 0, 0), (200, 5, 5, 60, 40), sky=0, noise=noise)
    assert difference(position_angle(image, 120), 0) < 1


@pytest.mark.parametrize("level", [5, 9, 18, 20])
def test_angle_is_right_if_the_sky_has_no_noise(level: int) -> None:
    image = picture((150, 12, 4, 33, 0), (200, 5, 5, 90, 40), sky=level, noise=0)
    assert difference(position_angle(image, 120), 33) < 1


def test_angle_is_finite_if_the_frame_is_brighter_than_the_sky() -> None:
    image = np.zeros((200, 200, 3), np.uint8)
    image[:20] = image[-20:] = image[:, :20] = image[:, -20:] = 20
    image[99:101, 99:101] = 255
    assert -90 <= position_angle(image, 100) <= 90


@pytest.mark.parametrize("offset_deg", [40, -40, 130])
def test_alignment_does_not_mirror(offset_deg: float) -> None:
    """A knot keeps its angle from the major axis, counter-clockwise."""
    image = picture((120, 16, 5, 55, 0), (90, 2, 2, 55 + offset_deg, 14))
    shown, axis = align_major_axis(image, 90, 90)[0][..., 0], position_angle(image, 90)
    y, x = (np.arange(n) - (n - 1) / 2 for n in shown.shape)
    distance = np.hypot(y[:, None], x[None, :])
    ring = np.where((abs(distance - 14) < 3) & (abs(y[:, None]) > 6), shown, 0)
    row, column = np.unravel_index(ring.argmax(), ring.shape)
    assert difference(np.degrees(np.arctan2(-y[row], x[column])), 55 + offset_deg - axis) < 8


def test_picture_without_light_has_angle_zero() -> None:
    assert position_angle(np.full((64, 64, 3), 7, np.uint8), 32) == 0


def test_corners_beyond_the_picture_are_sky() -> None:
    image = picture((150, 12, 4, 45, 0), shape=(96, 96))
    shown = prepare(image, 1.0, 96, align=True)
    assert np.abs(shown[:4, :4].astype(float).mean(axis=(0, 1)) - SKY * COLOUR).max() < 1.5


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_rotated_picture_gives_the_same_aligned_picture(quarter_turns: int) -> None:
    """Either end of the major axis may be on the left."""
    image = picture((150, 12, 4, 20, 0), (60, 3, 3, 20, 9))
    expected, result = (
        prepare(np.ascontiguousarray(np.rot90(image, k)), 0.5, 40, align=True) for k in (0, quarter_turns)
    )
    assert min(np.abs(result.astype(int) - form.astype(int)).max() for form in (expected, np.rot90(expected, 2))) <= 2


def test_real_edge_on_galaxies_become_horizontal(data_root: Path) -> None:
    """Randomly oriented galaxies have a round mean picture, aligned ones a flat one."""
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
