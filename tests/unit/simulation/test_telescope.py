"""The default telescope keeps every survey.

Another telescope changes pictures and votes, not galaxies.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from raydistill.errors import ConfigError
from raydistill.galaxies.classes import BUILTIN_TREES
from raydistill.galaxies.trees import GZ2
from raydistill.simulation.config import SDSS, SDSS_PSF, SimulatedSurvey, Telescope
from raydistill.simulation.render import LENS, Truth, galaxy_light, render
from raydistill.simulation.simulate import (
    LENS_COLUMNS,
    SCHEMA,
    ask_volunteers,
    clarity,
    draw_lens,
    draw_truth,
    schema_of,
    simulate_chunk,
    write_survey,
)
from raydistill.simulation.sky import observe

DEEP = Telescope(psf_fwhm=0.8, pixel_scale=0.262, exposure=8, stretch=0.15, softening=8, band_weights=(0.7, 1.0, 1.7))
SMALL = SimulatedSurvey(num_galaxies=24, image_size=48)

# Measured before surveys had a telescope.
TABLE_DIGEST = "831bbeb9262a9ea4633cd71f2262f43bc85c41b6d816dc4c3320b8ff19efd5b4"
PICTURE_MEANS = (3.772, 6.568, 3.382, 5.957, 7.95, 7.171, 4.543, 4.477)


def pictures(table: pa.Table) -> list[np.ndarray]:
    return [np.asarray(Image.open(io.BytesIO(jpeg))) for jpeg in table["jpeg"].to_pylist()]


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return simulate_chunk(SMALL, 5, 0, 24)


@pytest.fixture(scope="module")
def lenses() -> list[Truth]:
    return [draw_lens(draw_truth(np.random.default_rng(k)), np.random.default_rng([k, 1])) for k in range(200)]


def test_default_survey_is_that_of_earlier_releases(table: pa.Table) -> None:
    rows = table.drop_columns(["jpeg"]).to_pylist()
    text = repr([[f"{value:.5e}" if isinstance(value, float) else value for value in row.values()] for row in rows])
    assert table.schema == SCHEMA
    assert hashlib.sha256(text.encode()).hexdigest() == TABLE_DIGEST
    np.testing.assert_allclose([picture.mean() for picture in pictures(table)[:8]], PICTURE_MEANS, atol=0.01)


def test_lenses_leave_the_other_galaxies_as_they_are(table: pa.Table) -> None:
    survey = replace(SMALL, lens_fraction=0.3)
    mixed = simulate_chunk(survey, 5, 0, 24)
    is_lens = np.array(mixed["truth_class"]) == LENS
    assert mixed.schema == schema_of(survey)
    assert 2 <= is_lens.sum() <= 14
    kept = pa.array(~is_lens)
    assert mixed.drop_columns(list(LENS_COLUMNS)).filter(kept).equals(table.filter(kept))
    assert all((np.array(mixed[name])[~is_lens] == 0).all() for name in LENS_COLUMNS)
    assert (np.array(mixed["truth_arc_flux"])[is_lens] > 0).all()


def test_another_telescope_shows_the_same_galaxies(table: pa.Table) -> None:
    deep = simulate_chunk(replace(SMALL, telescope=DEEP), 5, 0, 24)
    same = ["objid", "ra", "petro_r90", "truth_class", "truth_magnitude", "truth_axis_ratio", "truth_pitch_angle"]
    assert deep.select(same).equals(table.select(same))
    np.testing.assert_allclose(deep["truth_psf_fwhm"], np.array(table["truth_psf_fwhm"]) * 0.8 / SDSS_PSF)
    middles = [np.stack([image[12:36, 12:36].ravel() for image in pictures(some)]) for some in (deep, table)]
    correlation = np.corrcoef(*middles)[:24, 24:]
    assert (correlation.argmax(axis=1) == np.arange(24)).mean() > 0.9
    assert np.diag(correlation).max() < 0.995


def test_light_does_not_depend_on_the_pixels() -> None:
    truth = draw_truth(np.random.default_rng(3))
    coarse, fine = galaxy_light(truth, 1).sum(axis=(1, 2)), galaxy_light(truth, 1, DEEP).sum(axis=(1, 2))
    np.testing.assert_allclose(fine, coarse, rtol=2e-3)


@pytest.mark.parametrize("exposure", [1.0, 16.0])
def test_noise_falls_with_the_square_root_of_the_exposure(exposure: float) -> None:
    sky = np.zeros((3, 200, 200), np.float32)
    noise = [
        observe(sky, 1.0, np.random.default_rng(0), telescope).std(axis=(1, 2))
        for telescope in (SDSS, Telescope(exposure=exposure))
    ]
    np.testing.assert_allclose(noise[1], noise[0] / np.sqrt(exposure), rtol=1e-3)


def test_noise_per_area_does_not_depend_on_the_pixels() -> None:
    sky = np.zeros((3, 240, 240), np.float32)
    coarse, fine = (
        observe(sky, 1.0, np.random.default_rng(0), Telescope(pixel_scale=scale)) for scale in (0.396, 0.198)
    )
    coarse, fine = (noise - noise.mean(axis=(1, 2), keepdims=True) for noise in (coarse, fine))
    binned = [coarse.reshape(3, 40, 6, 40, 6).sum(axis=(2, 4)), fine.reshape(3, 20, 12, 20, 12).sum(axis=(2, 4))]
    np.testing.assert_allclose(binned[1].std(), binned[0].std(), rtol=0.1)


def test_smaller_stretch_is_brighter() -> None:
    truth = draw_truth(np.random.default_rng(3))
    assert render(truth, 64, 1, Telescope(stretch=0.1)).mean() > 1.3 * render(truth, 64, 1).mean()


def test_volunteers_see_more_through_the_better_telescope() -> None:
    truth = draw_truth(np.random.default_rng(3))
    assert clarity(replace(truth, psf_fwhm=truth.psf_fwhm * 0.8 / 1.3), DEEP) > clarity(truth)


def test_arcs_lie_at_the_einstein_radius_and_are_blue(lenses: list[Truth]) -> None:
    truth = replace(lenses[0], source_offset=0.0, einstein_radius=0.6, arc_flux=0.5)
    arcs = galaxy_light(truth, 1) - galaxy_light(replace(truth, arc_flux=0.0), 1)
    side = arcs.shape[1]
    axis = (np.arange(side) - (side - 1) / 2) * 0.396 / truth.petro_r90
    radius = np.hypot(*np.meshgrid(axis, axis))
    profile = [arcs[1][(radius >= r) & (radius < r + 0.1)].mean() for r in np.arange(0, 1.5, 0.1)]
    ring = np.arange(0, 1.5, 0.1)[int(np.argmax(profile))] + 0.05
    assert ring == pytest.approx(0.6, abs=0.25)  # R90 and 3.9 scale lengths differ by the profile
    flux = arcs.sum(axis=(1, 2))
    galaxy = galaxy_light(replace(truth, arc_flux=0.0), 1).sum(axis=(1, 2))
    assert flux[1] / galaxy[1] == pytest.approx(0.5, rel=0.01)
    assert flux[0] / flux[1] > 1.3 * galaxy[0] / galaxy[1]


def test_volunteers_find_most_lenses_and_invent_few(lenses: list[Truth]) -> None:
    tree = BUILTIN_TREES["gz2-9-lens"]
    assert tree.names[:9] == BUILTIN_TREES["gz2-9"].names
    others = [draw_truth(np.random.default_rng(k)) for k in range(200)]

    def share(truths: list[Truth]) -> float:
        rows = [ask_volunteers(truth, np.random.default_rng([k, 2])) for k, truth in enumerate(truths)]
        votes = np.array([[row[f"{stem}_weighted_fraction"] for stem in GZ2.answers] for row in rows])
        return float((tree.confidence(votes).argmax(axis=1) == LENS).mean())

    assert share(lenses) > 0.7
    assert share(others) < 0.02


def test_truth_of_lenses_is_written(tmp_path: Path) -> None:
    survey = replace(SMALL, lens_fraction=0.5)
    write_survey(tmp_path, [simulate_chunk(survey, 5, 0, 6)], schema_of(survey))
    header = (tmp_path / "truth.csv").read_text().splitlines()[0].replace('"', "").split(",")
    assert header[-4:] == list(LENS_COLUMNS)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"psf_fwhm": 0.0}, "psf_fwhm is 0; give a number from 0.3 to 3"),
        ({"pixel_scale": 26.2}, "pixel_scale is 26.2; give a number from 0.1 to 1"),
        ({"exposure": float("nan")}, "exposure is nan"),
        ({"band_weights": (1.0, 0.0, 1.0)}, "band_weights is"),
    ],
)
def test_impossible_telescope_is_an_error(wrong: dict[str, float], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Telescope(**wrong)  # type: ignore[arg-type]


def test_impossible_fraction_of_lenses_is_an_error() -> None:
    with pytest.raises(ConfigError, match="lens_fraction is 1; give a number >= 0 and < 1"):
        SimulatedSurvey(lens_fraction=1.0)
