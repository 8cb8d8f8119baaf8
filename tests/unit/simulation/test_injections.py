"""Test injections against theory: extinction, mirror images, colours, lensing.

Zero strength changes nothing.
"""

from __future__ import annotations

import numpy as np
import pytest

from raydistill.galaxies.pictures.alignment import measure_shape
from raydistill.simulation.injections import (
    Arc,
    DustLane,
    Injection,
    InjectionModel,
    LowSurfaceBrightness,
    Star,
    TidalTail,
)
from raydistill.simulation.injections.base import (
    EXTINCTION,
    SDSS_CONTRAST,
    channels_of,
    light_of_level,
    sky_of,
    to_light,
    to_picture,
)
from raydistill.simulation.injections.fitting import fit_ranges, summary_of
from raydistill.simulation.render import EXTINCTION as RENDERED_EXTINCTION

MODELS: list[InjectionModel] = [DustLane(), Star(), Arc(), TidalTail(), LowSurfaceBrightness()]
NOTHING = {
    "dust_lane": "depth",
    "star": "level",
    "arc": "level",
    "tidal_tail": "level",
    "low_surface_brightness": "dimming",
}


def galaxy(size: int = 64, minor: float = 8.0, *, noise: float = 0.002, peak: float = 1.0, seed: int = 0) -> np.ndarray:
    """Return a red elliptical Gaussian on a noisy sky.

    It is 12 px long and 30 deg from the horizontal.
    """
    y, x = np.mgrid[size / 2 - 0.5 : -size / 2 : -1, -size / 2 + 0.5 : size / 2]
    angle = np.radians(30)
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    light = peak * np.exp(-(u**2) / (2 * 12**2) - v**2 / (2 * minor**2))
    sky = np.random.default_rng(seed).normal(0.01, noise, (size, size, 3))
    return to_picture(light[..., None] * channels_of(0.8, 0.4) + sky, SDSS_CONTRAST)


PICTURE = galaxy()
LANE = {"depth": 1.0, "width": 0.5, "length": 3.0, "offset": 0.0, "bend": 0.0, "angle": 0.0, "law": 1.0}


def test_the_inverse_of_the_stretch_returns_every_level() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    for contrast in (0.5, SDSS_CONTRAST, 8.81):
        np.testing.assert_array_equal(to_picture(to_light(levels, contrast), contrast), levels)


def test_the_stretch_of_lupton_is_that_of_astropy() -> None:
    from astropy.visualization import make_lupton_rgb

    flux = np.random.default_rng(0).uniform(0, 3, (20, 20, 3))
    levels = make_lupton_rgb(*np.moveaxis(flux, 2, 0), minimum=0, stretch=0.35, Q=10)
    light = to_light(levels, 8.81)
    unsaturated = levels.max(axis=2) < 250
    ratio = (light / flux)[unsaturated & (levels.min(axis=2) > 60)]
    assert np.std(ratio) / np.mean(ratio) < 0.03  # proportional to the flux, but for rounding


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.kind)
def test_zero_strength_returns_the_picture(model: Injection) -> None:
    truth = model.draw(np.random.default_rng(0))
    np.testing.assert_array_equal(model.apply(PICTURE, truth | {NOTHING[model.kind]: 0.0}), PICTURE)
    assert (model.apply(PICTURE, truth) != PICTURE).any()


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.kind)
def test_equal_arguments_give_equal_bits_and_leave_the_picture_alone(model: Injection) -> None:
    before = PICTURE.copy()
    truth = model.draw(np.random.default_rng(3))
    first, second = model.apply(PICTURE, truth), model.apply(PICTURE, truth)
    assert (first.dtype, first.shape) == (np.uint8, PICTURE.shape)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(PICTURE, before)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.kind)
def test_mirrored_picture_and_angles_give_the_mirrored_result(model: Injection) -> None:
    truth = model.draw(np.random.default_rng(5))
    mirrored = {name: -value if name in ("angle", "turn") else value for name, value in truth.items()}
    if "azimuth" in truth:  # the major axis of the mirror image points the other way
        mirrored["azimuth"] = 180 - truth["azimuth"]
    expected = model.apply(PICTURE, truth)[:, ::-1]
    result = model.apply(PICTURE[:, ::-1], mirrored)
    assert np.abs(result.astype(int) - expected).max() <= 2  # the shape is rounded to 0.01 px


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.kind)
def test_a_dark_picture_and_a_small_one_are_no_error(model: Injection) -> None:
    truth = model.draw(np.random.default_rng(0))
    for picture in (np.zeros((32, 32, 3), np.uint8), galaxy(16, 2.0), np.full((33, 40, 3), 255, np.uint8)):
        assert model.apply(picture, truth).shape == picture.shape


@pytest.mark.parametrize("depth", [0.3, 1.0, 2.0])
def test_light_in_the_middle_of_a_lane_falls_by_the_extinction(depth: float) -> None:
    picture = galaxy(peak=4.0)
    dusty = DustLane().apply(picture, LANE | {"depth": depth})
    light, left = (to_light(rgb, SDSS_CONTRAST) - sky_of(to_light(rgb, SDSS_CONTRAST))[0] for rgb in (picture, dusty))
    middle = (slice(30, 34), slice(30, 34))
    ratio = (left[middle] / light[middle]).mean(axis=(0, 1))
    np.testing.assert_allclose(ratio, np.exp(-depth * EXTINCTION), rtol=0.04)


def test_colour_excess_is_that_of_the_law() -> None:
    picture = galaxy(peak=4.0)
    dusty = DustLane().apply(picture, LANE)
    light, left = (to_light(rgb, SDSS_CONTRAST)[31:33, 31:33].mean(axis=(0, 1)) for rgb in (picture, dusty))
    excess = 2.5 * np.log10(left[0] / left[2]) - 2.5 * np.log10(light[0] / light[2])
    assert excess == pytest.approx(2.5 * np.log10(np.e) * (1.25 - 0.75), rel=0.05)
    grey = to_light(DustLane().apply(picture, LANE | {"law": 0.0}), SDSS_CONTRAST)[31:33, 31:33].mean(axis=(0, 1))
    assert abs(2.5 * np.log10(grey[0] / grey[2]) - 2.5 * np.log10(light[0] / light[2])) < 0.03


def test_extinction_is_that_of_the_simulated_survey() -> None:
    np.testing.assert_array_equal(EXTINCTION, RENDERED_EXTINCTION[::-1])  # red, green, blue are i, r, g


def test_a_lane_follows_the_major_axis_and_its_own_angle() -> None:
    for angle in (0.0, 50.0, -70.0):
        lost = PICTURE.astype(float).sum(axis=2) - DustLane().apply(PICTURE, LANE | {"width": 0.1, "angle": angle}).sum(
            axis=2
        )
        shape = measure_shape(np.uint8(np.clip(lost, 0, 255))[..., None].repeat(3, axis=2))
        assert abs((shape.angle - 30 - angle + 90) % 180 - 90) < 4


def test_a_star_has_its_level_colour_and_place() -> None:
    dark = np.zeros((65, 65, 3), np.uint8)
    truth = {"level": 0.6, "distance": 1.0, "azimuth": 90.0, "fwhm": 0.1, "colour": 0.8}
    star = Star().apply(dark, truth)
    row, column = np.unravel_index(star.astype(int).sum(axis=2).argmax(), (65, 65))
    assert (row, column) == (32 - round(65 / 8), 32)  # without a galaxy, the radius is 1/8 of the side
    assert star[row, column].mean() / 255 == pytest.approx(0.6, abs=0.02)
    light = to_light(star, SDSS_CONTRAST)
    np.testing.assert_allclose(light[row, column] / light[row, column].mean(), channels_of(0.8, 0.29), rtol=0.03)
    bright = light.mean(axis=2) > light[row, column].mean() / 2
    assert 2 * np.sqrt(bright.sum() / np.pi) == pytest.approx(6.5, rel=0.1)


def test_an_arc_keeps_surface_brightness_and_lies_where_the_lens_puts_it() -> None:
    dark = np.zeros((129, 129, 3), np.uint8)
    truth = {
        "einstein_radius": 2.0,
        "source_distance": 0.5,
        "source_size": 0.08,
        "azimuth": 0.0,
        "level": 0.4,
        "g_r": 0.0,
        "r_i": 0.0,
    }
    arc = Arc().apply(dark, truth)
    light = to_light(arc, SDSS_CONTRAST).mean(axis=2)
    assert light.max() == pytest.approx(light_of_level(0.4, SDSS_CONTRAST), rel=0.05)
    radius = 129 / 8
    assert abs(light[64, 64:].argmax() - 3.0 * radius) <= 1  # θ_E + β
    assert abs(light[64, :64][::-1].argmax() + 1 - 1.0 * radius) <= 1  # the counter-image, θ_E - β
    ring = to_light(Arc().apply(dark, truth | {"source_distance": 0.0}), SDSS_CONTRAST).mean(axis=2)
    assert ring[64, 64:].argmax() == pytest.approx(ring[64:, 64].argmax(), abs=1)


def test_a_dimmed_galaxy_loses_its_magnitudes_and_keeps_the_sky() -> None:
    picture = galaxy(96, noise=0.01)
    dimmed = LowSurfaceBrightness().apply(picture, {"dimming": 2.0})
    light, left = (to_light(rgb, SDSS_CONTRAST) for rgb in (picture, dimmed))
    centre = (slice(46, 50), slice(46, 50))
    sky, noise = sky_of(light)
    ratio = (left[centre].mean() - sky.mean()) / (light[centre].mean() - sky.mean())
    assert -2.5 * np.log10(ratio) == pytest.approx(2.0, abs=0.1)
    after, noise_after = sky_of(left)
    np.testing.assert_allclose(after, sky, atol=0.002)
    np.testing.assert_allclose(noise_after, noise, rtol=0.05)


def test_a_tail_is_outside_and_has_the_colour_of_the_galaxy() -> None:
    truth = {"level": 0.3, "start": 1.5, "length": 1.5, "azimuth": 0.0, "turn": 0.0, "width": 0.2, "fading": 1.0}
    added = to_light(TidalTail().apply(galaxy(128), truth), SDSS_CONTRAST) - to_light(galaxy(128), SDSS_CONTRAST)
    strong = added.mean(axis=2) > 0.5 * light_of_level(0.3, SDSS_CONTRAST)
    along, across = measure_shape(galaxy(128)).coordinates(128, 128)
    assert 1.2 < along[strong].min() < 1.4
    assert 2.8 < along[strong].max() < 3.7
    assert np.abs(across[strong]).max() < 0.6
    np.testing.assert_allclose(added[strong].mean(axis=0) / added[strong].mean(), channels_of(0.8, 0.4), rtol=0.1)


def test_parameters_are_drawn_within_their_ranges_and_record_the_truth() -> None:
    for model in MODELS:
        drawn = [model.draw(np.random.default_rng(number)) for number in range(200)]
        assert model.draw(np.random.default_rng(7)) == drawn[7]
        for name, (low, high) in model.ranges().items():
            values = np.array([truth[name] for truth in drawn])
            assert low <= values.min() < low + 0.1 * (high - low)
            assert high - 0.1 * (high - low) < values.max() <= high


def test_wrong_ranges_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"depth must be \[lowest, highest\], got \[2, 1\]"):
        DustLane(depth=(2.0, 1.0))
    with pytest.raises(ValueError, match=r"depth must lie in \[0, 20\]"):
        DustLane(depth=(-1.0, 1.0))
    with pytest.raises(ValueError, match="width must be positive"):
        DustLane(width=(0.0, 0.1))
    with pytest.raises(ValueError, match="level must be"):
        Star(level=(float("nan"), 1.0))


@pytest.mark.parametrize("depth", [0.3, 1.4])
def test_fitted_ranges_find_the_depth_of_the_examples(depth: float) -> None:
    hosts = [galaxy(32, minor, noise=0.005, seed=n) for n, minor in enumerate((8.0, 9.0, 10.0))]
    narrow = DustLane(depth=(depth, depth), width=(0.15, 0.15))
    examples = [narrow.apply(hosts[n % 3], narrow.draw(np.random.default_rng(n))) for n in range(6)]
    fitted = fit_ranges(DustLane(), hosts, examples, draws=200)
    low, high = fitted.depth
    assert 0.2 <= low < depth < high <= 1.5
    middle = (low + high) / 2
    assert (middle > 0.85) == (depth > 0.85)
    assert high - low < 1.2  # 1.3 before


def test_a_summary_sees_the_lane_but_not_the_orientation() -> None:
    dusty = DustLane().apply(galaxy(noise=0.004), LANE | {"width": 0.15, "offset": 0.2})
    clean, hidden = (summary_of(rgb, SDSS_CONTRAST) for rgb in (galaxy(noise=0.004), dusty))
    assert hidden[3] > clean[3] + 0.2
    np.testing.assert_allclose(summary_of(np.rot90(dusty), SDSS_CONTRAST), hidden, atol=0.02)
    with pytest.raises(ValueError, match="a fit needs hosts and examples"):
        fit_ranges(DustLane(), [], [dusty])
