"""Test recombinations: parts sum to the picture, and go where they belong."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raydistill.galaxies.pictures.alignment import measure_shape
from raydistill.morphology.recombination import Likeness, Parts, add_companion, decompose, recombine, sum_of
from raydistill.simulation.injections.base import SDSS_CONTRAST, to_light, to_picture

SIZE = 64
COLOUR = np.array([1.3, 1.0, 0.7])


def light_of(
    disk: float, bulge: float, *, bar: float = 0.0, companion: float = 0.0, angle: float = 20.0, minor: float = 0.6
) -> np.ndarray:
    """Return light of an exponential disk, a Gaussian bulge, a bar and a companion."""
    y, x = np.mgrid[SIZE / 2 - 0.5 : -SIZE / 2 : -1, -SIZE / 2 + 0.5 : SIZE / 2]
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    u, v = cosine * x + sine * y, (cosine * y - sine * x) / minor
    radius = np.hypot(u, v)
    light = disk * np.exp(-radius / 5) + bulge * np.exp(-(radius**2) / (2 * 2**2))
    light = light + bar * np.exp(-(u**2) / (2 * 6**2) - (minor * v) ** 2 / (2 * 1.2**2))
    light = light + companion * np.exp(-((x - 22) ** 2 + (y - 18) ** 2) / (2 * 1.5**2))
    return light[..., None] * COLOUR


def picture_of(light: np.ndarray, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0.02, 0.003, (SIZE, SIZE, 3))
    return to_picture(light + noise, SDSS_CONTRAST)


def parts_of(light: np.ndarray, seed: int = 0) -> Parts:
    return decompose(picture_of(light, seed), SDSS_CONTRAST)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_parts_sum_to_the_light() -> None:
    picture = picture_of(light_of(0.5, 0.5, bar=0.3, companion=0.5))
    parts = decompose(picture, SDSS_CONTRAST)
    np.testing.assert_allclose(sum_of(parts), to_light(picture, SDSS_CONTRAST), rtol=1e-12, atol=1e-14)
    assert (parts.bulge >= 0).all()
    assert (parts.disk >= 0).all()


@pytest.mark.parametrize(("disk", "bulge"), [(0.8, 0.0), (0.4, 0.8), (0.15, 1.5)])
def test_shares_of_disk_and_bulge_are_those_of_the_truth(disk: float, bulge: float) -> None:
    light = light_of(disk, bulge)
    parts = parts_of(light)
    truth = light_of(disk, 0.0).sum() / light.sum()
    assert parts.disk.sum() / parts.galaxy.sum() == pytest.approx(truth, abs=0.12)
    assert abs(parts.structure.sum()) < 0.06 * light.sum()


def test_a_bar_is_structure_and_a_companion_is_none_of_the_galaxy() -> None:
    plain, barred = parts_of(light_of(0.4, 0.4)), parts_of(light_of(0.4, 0.4, bar=0.5))
    assert np.abs(barred.structure).sum() > 3 * np.abs(plain.structure).sum()
    accompanied = parts_of(light_of(0.4, 0.4, companion=0.6))
    added = light_of(0, 0, companion=0.6).sum()
    assert accompanied.companions.sum() == pytest.approx(added, rel=0.25)
    assert accompanied.galaxy.sum() == pytest.approx(plain.galaxy.sum(), rel=0.03)


def test_a_galaxy_with_its_own_parts_is_itself() -> None:
    parts = parts_of(light_of(0.5, 0.5, bar=0.3))
    made = [recombine(parts, parts, SDSS_CONTRAST, rng(seed)).astype(float) for seed in range(8)]
    distance = min(np.abs(image - picture_of(light_of(0.5, 0.5, bar=0.3))).mean() for image in made)
    assert distance < 1.0  # of 255 levels; other seeds mirror the structure
    np.testing.assert_array_equal(recombine(parts, parts, SDSS_CONTRAST, rng(3)), made[3])


def test_the_host_gives_size_and_light_and_the_donor_its_bar() -> None:
    donor = parts_of(light_of(0.3, 0.3, bar=0.8, angle=70, minor=0.7))
    host = parts_of(light_of(0.5, 0.1, angle=-40, minor=0.6), seed=1)
    picture = recombine(donor, host, SDSS_CONTRAST, rng())
    made = decompose(picture, SDSS_CONTRAST)
    flux, wanted = (parts.galaxy.sum(axis=(0, 1)) for parts in (made, host))
    np.testing.assert_allclose(flux, wanted, rtol=0.12)
    assert abs(made.shape.angle - host.shape.angle) < 10
    strength = [np.abs(parts.structure).sum() / parts.galaxy.sum() for parts in (donor, host, made)]
    assert strength[2] > 2 * strength[1]
    share = [parts.disk.sum() / parts.galaxy.sum() for parts in (donor, host, made)]
    assert abs(share[2] - share[0]) < abs(share[2] - share[1])


def test_the_noise_is_that_of_the_host() -> None:
    donor, host = parts_of(light_of(0.3, 0.3, minor=0.7)), parts_of(light_of(0.5, 0.1), seed=1)
    picture = recombine(donor, host, SDSS_CONTRAST, rng())
    corner = np.s_[:8, -8:]
    np.testing.assert_array_equal(picture[corner], picture_of(light_of(0.5, 0.1), seed=1)[corner])


def test_companions_move_and_keep_their_light() -> None:
    host = parts_of(light_of(0.5, 0.3, companion=0.6))
    alone = host._replace(companions=np.zeros_like(host.companions))
    pictures = [[recombine(host, one, SDSS_CONTRAST, rng(seed)) for one in (host, alone)] for seed in range(6)]
    light = [to_light(first, SDSS_CONTRAST) - to_light(second, SDSS_CONTRAST) for first, second in pictures]
    for layer in light:
        assert layer.sum() == pytest.approx(host.companions.sum(), rel=0.1)
    middles = {np.unravel_index(layer.sum(axis=2).argmax(), (SIZE, SIZE)) for layer in light}
    assert len(middles) > 3
    for row, column in middles:
        assert math.hypot(row - 31.5, column - 31.5) == pytest.approx(math.hypot(22, 18), abs=1.5)


def test_a_pair_has_the_wanted_separation_and_flux() -> None:
    donor, host = parts_of(light_of(0.1, 0.5, minor=0.9)), parts_of(light_of(0.4, 0.4), seed=1)
    original = picture_of(light_of(0.4, 0.4), seed=1)
    np.testing.assert_array_equal(add_companion(donor, host, SDSS_CONTRAST, rng(), (2, 4), (0, 0)), original)
    for seed in range(4):
        pair = add_companion(donor, host, SDSS_CONTRAST, rng(seed), (3.0, 3.0), (0.5, 0.5))
        added = to_light(pair, SDSS_CONTRAST) - to_light(original, SDSS_CONTRAST)
        assert added.sum() == pytest.approx(0.5 * host.galaxy.sum(), rel=0.15)
        row, column = np.unravel_index(added.sum(axis=2).argmax(), (SIZE, SIZE))
        distance = math.hypot(row - 31.5, column - 31.5)
        assert distance == pytest.approx(3 * host.shape.radius, abs=2)


def test_a_picture_without_a_galaxy_takes_no_part() -> None:
    empty = decompose(np.zeros((SIZE, SIZE, 3), np.uint8), SDSS_CONTRAST)
    full, picture = parts_of(light_of(0.5, 0.3)), picture_of(light_of(0.5, 0.3))
    np.testing.assert_array_equal(recombine(full, empty, SDSS_CONTRAST, rng()), picture)
    assert (recombine(empty, full, SDSS_CONTRAST, rng()) == 0).all()
    np.testing.assert_array_equal(add_companion(empty, full, SDSS_CONTRAST, rng(), (2, 4), (0.5, 1)), picture)


def test_hosts_are_the_most_similar_others() -> None:
    settings = [(20, 0.5, 0.5), (70, 0.5, 0.5), (0, 0.95, 0.2), (40, 0.52, 0.5), (10, 0.9, 0.2)]
    lights = [light_of(disk, 0.3, angle=angle, minor=minor) for angle, minor, disk in settings]
    pictures = np.stack([picture_of(light) for light in lights])
    likeness = Likeness.of(pictures)
    assert sorted(likeness.nearest(0, 2)) == [1, 3]
    assert likeness.nearest(2, 1).tolist() == [4]
    assert len(likeness.nearest(0, 99)) == 4
    assert Likeness.of(pictures[:1]).nearest(0, 3).tolist() == [0]


def test_real_galaxies_have_parts(efigi_pictures: list[np.ndarray]) -> None:
    parts = [decompose(picture, SDSS_CONTRAST) for picture in efigi_pictures]
    for picture, one in zip(efigi_pictures, parts, strict=True):
        np.testing.assert_allclose(sum_of(one), to_light(picture, SDSS_CONTRAST), rtol=1e-9, atol=1e-12)
        assert one.galaxy.sum() > 0
    for donor, host in itertools.pairwise(parts):
        made = recombine(donor, host, SDSS_CONTRAST, rng())
        ratio = measure_shape(made).radius / host.shape.radius
        assert 0.6 < ratio < 1.7


@pytest.fixture
def efigi_pictures(data_root: Path) -> list[np.ndarray]:
    """Return twelve galaxies of EFIGI, 64 px."""
    files = sorted((data_root / "efigi/images").glob("*"))[:240:20]
    return [
        np.asarray(Image.open(file).convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS)) for file in files
    ]
