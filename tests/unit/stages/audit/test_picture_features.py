"""Scattering transform and morphology of pictures, against theory and statmorph."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from raydistill.morphology.pictures import QUANTITIES, morphology
from raydistill.stages.audit.metrics.features import (
    FLOOR,
    NUM_ANGLES,
    num_coefficients,
    num_scales,
    scattering,
    wavelets,
)


def galaxy(
    side: int = 64, sigma: float = 5.0, axis_ratio: float = 1.0, colour: tuple[float, ...] = (0.5, 0.5, 0.5)
) -> np.ndarray:
    """Return a Gaussian light distribution, float64 [1, side, side, 3]."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    light = np.exp(-(x**2 + (y / axis_ratio) ** 2) / (2 * sigma**2))
    return (light[..., None] * np.array(colour))[None]


def measured(pictures: np.ndarray) -> dict[str, float]:
    return dict(zip(QUANTITIES, morphology(pictures)[0], strict=True))


def test_gaussian_galaxy_has_the_radii_of_theory() -> None:
    values = measured(galaxy(sigma=4.0))
    # Light within r is 1 - exp(-r² / 2 σ²), of which the aperture (r > 4 σ) holds all.
    assert values["half_light_radius"] * 64 == pytest.approx(4.0 * math.sqrt(2 * math.log(2)), rel=0.02)
    assert values["concentration"] == pytest.approx(5 * math.log10(math.sqrt(math.log(0.2) / math.log(0.8))), rel=0.02)
    assert values["flux"] == pytest.approx(math.log10(0.5 * 2 * math.pi * 16 / 64**2), abs=0.001)
    assert values["asymmetry"] == pytest.approx(0, abs=1e-9)
    assert values["ellipticity"] == pytest.approx(0, abs=1e-6)


def test_flattened_galaxy_has_its_ellipticity_and_colours() -> None:
    values = measured(galaxy(sigma=7.0, axis_ratio=0.4, colour=(0.6, 0.4, 0.2)))
    assert values["ellipticity"] == pytest.approx(0.6, abs=0.06)  # averaging over 3 x 3 pixels widens the mask
    assert values["colour_red_green"] == pytest.approx(2.5 * math.log10(1.5), abs=1e-6)
    assert values["colour_green_blue"] == pytest.approx(2.5 * math.log10(2), abs=1e-6)


def test_one_sided_galaxy_is_asymmetric() -> None:
    one_sided = galaxy()
    one_sided[:, :, :26] *= 0.2
    assert measured(one_sided)["asymmetry"] > 0.2


def test_flat_disk_has_no_inequality_and_spread_light() -> None:
    y, x = np.mgrid[:64, :64] - 31.5
    disk = np.repeat((np.hypot(y, x) < 15)[None, ..., None], 3, axis=-1) * 0.5
    flat, peaked = measured(disk), measured(galaxy(sigma=4.0))
    assert flat["gini"] < 0.15 < peaked["gini"]
    assert flat["m20"] > peaked["m20"]


def test_background_and_turns_change_no_shape() -> None:
    picture = galaxy(axis_ratio=0.6)
    picture[:, 40:44, 30:34] += 0.2
    plain, other = measured(picture), measured(np.rot90(picture, axes=(1, 2)) + 0.05)
    for name in QUANTITIES[1:]:
        assert other[name] == pytest.approx(plain[name], abs=1e-6), name


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_empty_pictures_have_finite_features(value: float) -> None:
    empty = np.full((2, 32, 32, 3), value)
    np.testing.assert_array_equal(morphology(empty)[:, 1:], 0)
    assert np.isfinite(scattering(empty)).all()
    assert morphology(empty[:0]).shape == (0, 9)
    assert scattering(empty[:0]).shape == (0, 183)


def test_wavelets_have_no_mean_and_cover_the_frequencies() -> None:
    filters = wavelets(32)
    assert filters.shape == (num_scales(32), NUM_ANGLES, 32, 32)
    np.testing.assert_allclose(filters[..., 0, 0], 0, atol=1e-6)
    # Littlewood-Paley sum: at most 1, so that the transform does not increase distances.
    covered = (filters**2).sum((0, 1))
    covered = (covered + np.roll(covered[::-1, ::-1], 1, axis=(0, 1))) / 2
    assert 0.8 < covered.max() <= 1


@pytest.mark.parametrize(("scale", "angle"), [(0, 0), (1, 0), (0, 2), (1, 2), (2, 0)])
def test_wave_excites_the_wavelet_of_its_scale_and_angle(scale: int, angle: int) -> None:
    cycles = round(32 * 3 / 8 / 2**scale)  # the centre frequency 3π / 4 · 2^-scale
    phase = 2 * np.pi * cycles * np.arange(32) / 32
    wave = np.cos(phase)[None, :] if angle == 0 else np.cos(phase)[:, None]
    picture = np.broadcast_to(0.5 + 0.4 * wave[..., None], (32, 32, 3))[None]
    first = scattering(picture)[0].reshape(3, -1)[:, 1 : 1 + num_scales(32) * NUM_ANGLES]
    assert (first.argmax(1) == scale * NUM_ANGLES + angle).all()


def test_scattering_of_a_wave_is_its_amplitude_times_the_filter() -> None:
    phase = 2 * np.pi * 6 * np.arange(32) / 32
    picture = np.broadcast_to(0.5 + 0.4 * np.cos(phase)[None, :, None], (32, 32, 3))[None]
    first = np.exp(scattering(picture)[0].reshape(3, -1)[0, 1 : 1 + num_scales(32) * NUM_ANGLES]) - FLOOR
    filters = wavelets(32).reshape(-1, 32, 32)
    positive, negative = 0.2 * filters[:, 0, 6], 0.2 * filters[:, 0, -6]
    angles = np.linspace(0, 2 * np.pi, 4096)
    expected = [
        np.abs(p * np.exp(1j * angles) + m * np.exp(-1j * angles)).mean()
        for p, m in zip(positive, negative, strict=True)
    ]
    np.testing.assert_allclose(first, expected, rtol=0.02, atol=1e-6)


def test_scattering_does_not_change_with_a_shift_and_repeats_its_size() -> None:
    picture = np.random.default_rng(0).uniform(size=(3, 32, 32, 3))
    features = scattering(picture)
    assert features.shape == (3, 3 * num_coefficients(32))
    np.testing.assert_allclose(scattering(np.roll(picture, (5, -3), axis=(1, 2))), features, atol=1e-4)
    assert np.abs(scattering(picture[:, ::-1]) - features).max() > 1e-3


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # statmorph warns of pictures that it measures with difficulty
def test_morphology_agrees_with_statmorph_on_real_galaxies(data_root: Path) -> None:
    """Compare ranks and medians with statmorph, since single galaxies differ.

    Our morphology has a fixed centre and no iteration.
    """
    statmorph = pytest.importorskip("statmorph")
    from scipy.stats import spearmanr

    from raydistill.galaxies.pictures.images import decode_picture

    paths = sorted((data_root / "gz2_kaggle" / "images_training_rev1").glob("*.jpg"))[:400:10]
    ours, theirs = [], []
    for path in paths:
        whole = decode_picture(path.read_bytes())
        margin = len(whole) // 4
        square = whole[margin:-margin, margin:-margin][:208, :208]
        if square.shape[0] < 208:
            continue
        picture = square.reshape(104, 2, 104, 2, 3).mean((1, 3)) / 255
        image = picture.mean(-1) - np.median(picture.mean(-1))
        mask = (image > 0.06) & (np.hypot(*(np.mgrid[:104, :104] - 51.5)) < 40)
        result = statmorph.source_morphology(image, mask.astype(int), gain=1e4)[0]
        if result.flag > 1:
            continue
        ours.append(morphology(picture[None])[0])
        axis_ratio = 1 - result.ellipticity_asymmetry
        theirs.append(
            [result.r50 / 104, result.concentration, result.asymmetry, result.gini, result.m20, 1 - axis_ratio]
        )
    assert len(ours) >= 20
    names = ["half_light_radius", "concentration", "asymmetry", "gini", "m20", "ellipticity"]
    ours_, theirs_ = np.array(ours)[:, [QUANTITIES.index(name) for name in names]], np.array(theirs)
    for name, a, b in zip(names, ours_.T, theirs_.T, strict=True):
        print(f"{name:20} rank correlation {spearmanr(a, b)[0]:.2f}, median {np.median(a):.3f} and {np.median(b):.3f}")
    for name, a, b in zip(names, ours_.T, theirs_.T, strict=True):
        assert spearmanr(a, b)[0] > 0.7, name
