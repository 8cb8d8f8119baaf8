"""Tests of the simulated survey: reproducible, not mirrored, plausible votes."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from raydistill.errors import CatalogError, ConfigError
from raydistill.galaxies.catalog import read_catalog, read_filename_mapping, votes_array
from raydistill.galaxies.classes import GZ2_NINE
from raydistill.galaxies.trees import GZ2
from raydistill.simulation.render import FRAME_R90, MARGIN, Truth, galaxy_light, render
from raydistill.simulation.simulate import (
    SCHEMA,
    SimulatedSurvey,
    answer_odds,
    ask_volunteers,
    clarity,
    draw_truth,
    simulate_chunk,
    vote_columns,
    write_survey,
)
from raydistill.simulation.sky import ZERO_POINT

SMALL = SimulatedSurvey(num_galaxies=24, image_size=48)
FEATURES = "t01_smooth_or_features_a02_features_or_disk"


def galaxy(class_: int, seed: int = 0, **changes: float) -> Truth:
    """Return a large, bright galaxy of one class."""
    only = tuple(float(k == class_) for k in range(9))
    drawn = draw_truth(np.random.default_rng(seed), only)
    return replace(drawn, **{"petro_r90": 13.0, "magnitude": 14.8, "psf_fwhm": 1.2, **changes})


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return simulate_chunk(SMALL, 5, 0, 24)


@pytest.fixture(scope="module")
def crowd() -> tuple[list[Truth], list[dict[str, float]]]:
    """Return truth and votes of 450 galaxies, without pictures."""
    truths = [draw_truth(np.random.default_rng(k)) for k in range(450)]
    return truths, [ask_volunteers(truth, np.random.default_rng([k, 1])) for k, truth in enumerate(truths)]


# ---- reproducible in any split ----


def test_galaxy_has_the_same_bits_in_any_chunk_and_survey_size(table: pa.Table) -> None:
    chunks = [simulate_chunk(SMALL, 5, start, stop) for start, stop in ((7, 24), (1, 7), (0, 1))]
    assert pa.concat_tables(chunks[::-1]).equals(table)
    assert simulate_chunk(replace(SMALL, num_galaxies=9), 5, 3, 9).equals(table.slice(3, 6))


def test_seeds_and_galaxies_differ(table: pa.Table) -> None:
    assert len(set(table["jpeg"].to_pylist())) == len(table)
    assert simulate_chunk(SMALL, 6, 0, 1)["ra"] != table["ra"].slice(0, 1)


def test_table_has_the_documented_columns_and_ranges(table: pa.Table) -> None:
    assert table.schema == SCHEMA
    assert table["objid"].to_pylist()[3] == "sim-000003"
    assert all(not column.null_count for column in table.columns)
    assert Image.open(io.BytesIO(table["jpeg"][0].as_py())).size == (48, 48)
    assert simulate_chunk(SMALL, 5, 4, 4).schema == SCHEMA


def test_class_weights_are_the_frequencies() -> None:
    drawn = [draw_truth(np.random.default_rng(k), (0, 0, 3, 0, 0, 0, 1, 0, 0)).class_ for k in range(400)]
    assert set(drawn) == {2, 6}
    assert abs(np.mean(np.array(drawn) == 2) - 0.75) < 4 * np.sqrt(0.75 * 0.25 / 400)


@pytest.mark.parametrize(
    "wrong",
    [{"num_galaxies": 0}, {"image_size": 8}, {"class_weights": (1.0,) * 8}, {"class_weights": (0.0,) * 9}],
)
def test_invalid_survey_is_an_error_with_the_key(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        SimulatedSurvey(**wrong)  # type: ignore[arg-type]


def test_chunk_outside_the_survey_is_an_error() -> None:
    with pytest.raises(ConfigError, match="24"):
        simulate_chunk(SMALL, 0, 20, 25)


# ---- the renderer ----


@pytest.mark.parametrize("class_", range(9))
def test_light_adds_up_to_the_magnitude_within_the_radius(class_: int) -> None:
    truth = galaxy(class_, seed=3, dust_lane=0.0, companion=0.0, ring=0.0)
    light = galaxy_light(truth, 1)[1].astype(float)
    assert light.sum() == pytest.approx(10 ** (0.4 * (ZERO_POINT - truth.magnitude)), rel=1e-4)
    side = light.shape[0]
    axis = (np.arange(side) - (side - 1) / 2) * FRAME_R90 / (side - 2 * MARGIN)
    radius = np.hypot(*np.meshgrid(axis, axis))
    assert light[radius < 1].sum() / light.sum() == pytest.approx(0.9, abs=0.04)


@pytest.mark.parametrize("angle", [20.0, 75.0, 150.0])
def test_position_angle_is_east_of_north(angle: float) -> None:
    light = galaxy_light(galaxy(4, position_angle=angle, dust_lane=0.0), 1)[1]
    half = (light.shape[0] - 1) / 2
    rows, columns = np.indices(light.shape) - half
    north, east = -rows, -columns  # north up, east left
    cross, difference = (light * north * east).sum(), (light * (north**2 - east**2)).sum()
    assert np.rad2deg(np.arctan2(2 * cross, difference) / 2) % 180 == pytest.approx(angle, abs=0.5)


@pytest.mark.parametrize("class_", [5, 7])
def test_other_winding_at_the_mirrored_angle_is_the_mirror_image(class_: int) -> None:
    truth = galaxy(class_, seed=1, position_angle=33.0, winding=1)
    light = galaxy_light(truth, 9)
    mirrored = galaxy_light(replace(truth, winding=-1, position_angle=-33.0), 9)
    np.testing.assert_allclose(mirrored, light[:, :, ::-1], rtol=2e-3, atol=1e-4)
    assert np.abs(light - light[:, :, ::-1]).max() > 0.1 * light.max()


def measured_winding(picture: np.ndarray, num_arms: int) -> int:
    """Return +1 if arms turn anticlockwise going outwards, else -1.

    The stronger log-spiral harmonic decides.
    """
    light = picture.astype(float).sum(axis=2)
    side = light.shape[0]
    axis = (np.arange(side) - (side - 1) / 2) * FRAME_R90 / side
    x, y = np.meshgrid(axis, -axis)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    disk = (radius > 0.3) & (radius < 1.3)

    def power(winding: int) -> float:
        pitches = np.deg2rad(np.arange(8, 36, 3))
        phases = [num_arms * (angle[disk] - winding * np.log(radius[disk]) / np.tan(pitch)) for pitch in pitches]
        return max(abs((light[disk] * np.exp(1j * phase)).sum()) for phase in phases)

    return 1 if power(1) > power(-1) else -1


def test_picture_has_the_winding_of_the_truth() -> None:
    changes = {"axis_ratio": 0.95, "arm_fraction": 0.75, "clumpiness": 0.25, "bar_length": 0.0, "num_arms": 2}
    for seed in range(8):
        winding = 1 if seed % 2 else -1
        truth = galaxy(7, seed, **changes, pitch_angle=20.0, ring=0.0, bar_fraction=0.0, winding=winding)
        assert measured_winding(render(truth, 128, seed), 2) == winding


def test_dust_lane_reddens_and_dims() -> None:
    truth = galaxy(3, dust_lane=0.0)
    clear, dusty = galaxy_light(truth, 1), galaxy_light(replace(truth, dust_lane=1.5), 1)
    loss = 1 - dusty.sum(axis=(1, 2)) / clear.sum(axis=(1, 2))
    assert loss[0] > loss[1] > loss[2] > 0.02


def test_central_half_is_as_bright_as_in_the_real_survey() -> None:
    """Compare with the published mean and standard deviation.

    Real samples differ by up to 60 %.
    """
    pictures = simulate_chunk(SimulatedSurvey(num_galaxies=45, image_size=96), 1, 0, 45)["jpeg"].to_pylist()
    middle = np.stack([np.asarray(Image.open(io.BytesIO(jpeg)))[24:72, 24:72] / 255 for jpeg in pictures])
    mean, std = middle.mean(axis=(0, 1, 2)), middle.std(axis=(0, 1, 2))
    np.testing.assert_allclose(mean, (0.0635, 0.0561, 0.0446), rtol=0.3)
    np.testing.assert_allclose(std, (0.112, 0.0948, 0.0833), rtol=0.3)
    assert mean[0] > mean[1] > mean[2]


# ---- the volunteers ----


def test_votes_are_consistent_down_the_tree(crowd: tuple[list[Truth], list[dict[str, float]]]) -> None:
    for row in crowd[1]:
        for task in GZ2.tasks:
            for kind in ("fraction", "weighted_fraction", "debiased"):
                total = sum(row[f"{answer.column}_{kind}"] for answer in task.answers)
                is_unasked = any(row[f"{stem}_fraction"] == 0 for stem in task.asked_after)
                assert total == pytest.approx(0 if is_unasked else 1) or (total == 0 and task.number != 1)
        count, features = row["total_classifications"], row[f"{FEATURES}_fraction"]
        artifact = row["t01_smooth_or_features_a03_star_or_artifact_fraction"]
        edge_on, spiral = row["t02_edgeon_a04_yes_fraction"], row["t04_spiral_a08_spiral_fraction"]
        odd = row["t06_odd_a14_yes_fraction"]
        answers = 1 + (1 - artifact) * (1 + odd) + (1 - features - artifact)
        answers += features * (1 + edge_on + (1 - edge_on) * (3 + 2 * spiral))
        assert row["total_votes"] == pytest.approx(count * answers)


def test_every_question_has_odds_for_every_answer() -> None:
    odds = answer_odds(galaxy(5))
    assert {task.key: len(task.answers) for task in GZ2.tasks} == {key: len(chances) for key, chances in odds.items()}


def agreement(truths: list[Truth], rows: list[dict[str, float]], kind: str = "weighted_fraction") -> np.ndarray:
    votes = np.array([[row[f"{stem}_{kind}"] for stem in GZ2.answers] for row in rows])
    return GZ2_NINE.confidence(votes).argmax(axis=1) == [truth.class_ for truth in truths]


def test_volunteers_are_mostly_right_about_clear_galaxies(
    crowd: tuple[list[Truth], list[dict[str, float]]],
) -> None:
    right, clear = agreement(*crowd), np.array([clarity(truth) for truth in crowd[0]])
    third = np.quantile(clear, [1 / 3, 2 / 3])
    worst, best = right[clear < third[0]].mean(), right[clear > third[1]].mean()
    assert 0.45 < worst < 0.8 < best < 1
    resolution = np.array([truth.psf_fwhm / truth.petro_r90 for truth in crowd[0]])
    magnitude = np.array([truth.magnitude for truth in crowd[0]])
    assert right[resolution < 0.15].mean() > right[resolution > 0.2].mean() + 0.1
    assert right[magnitude < 15.8].mean() > right[magnitude > 16.5].mean()


def test_unresolved_galaxy_is_called_smooth() -> None:
    near, far = galaxy(7, petro_r90=14.0), galaxy(7, petro_r90=3.5)
    assert answer_odds(near)["smooth_or_features"][0] < 0.3 < answer_odds(far)["smooth_or_features"][0]


def test_debiasing_removes_the_redshift_dependence_of_features(
    crowd: tuple[list[Truth], list[dict[str, float]]],
) -> None:
    featured = [(truth.redshift, row) for truth, row in zip(*crowd, strict=True) if truth.class_ >= 3]
    redshift = [z for z, _ in featured]
    biased, corrected = (
        np.corrcoef(redshift, [row[f"{FEATURES}_{kind}"] for _, row in featured])[0, 1]
        for kind in ("weighted_fraction", "debiased")
    )
    assert biased < -0.2
    assert abs(corrected) < abs(biased) / 2


# ---- the written survey ----


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_written_bytes_do_not_depend_on_the_chunks(tmp_path: Path, table: pa.Table) -> None:
    assert write_survey(tmp_path / "whole", [table]) == 24
    assert write_survey(tmp_path / "parts", (table.slice(start, 5) for start in range(0, 24, 5))) == 24
    whole = contents(tmp_path / "whole")
    assert whole == contents(tmp_path / "parts")
    names = {"catalog.csv", "truth.csv", "filename_mapping.csv", "README.txt"}
    assert set(whole) == names | {f"images/{asset_id}.jpg" for asset_id in table["asset_id"].to_pylist()}
    assert b"simulated" in whole["README.txt"]


def test_catalogue_can_be_read_like_a_real_one(tmp_path: Path, table: pa.Table) -> None:
    write_survey(tmp_path, [table])
    catalog = read_catalog(str(tmp_path / "catalog.csv"))
    assert catalog["object_id"].to_pylist() == table["objid"].to_pylist()
    np.testing.assert_allclose(catalog["petro_r90"], table["petro_r90"])
    weighted = np.stack([table[f"{stem}_weighted_fraction"].to_numpy() for stem in GZ2.answers], axis=1)
    np.testing.assert_allclose(np.nan_to_num(votes_array(catalog)), weighted, atol=1e-6)
    mapping = read_filename_mapping(str(tmp_path / "filename_mapping.csv"))
    assets = [asset for objid in table["objid"].to_pylist() for asset in mapping[objid]]
    assert len(assets) == len(table)
    assert all((tmp_path / "images" / f"{asset}.jpg").exists() for asset in assets)


def test_truth_is_not_in_the_catalogue(tmp_path: Path, table: pa.Table) -> None:
    write_survey(tmp_path, [table])
    with open(tmp_path / "catalog.csv", newline="") as lines:
        catalog = list(csv.DictReader(lines))
    with open(tmp_path / "truth.csv", newline="") as lines:
        truth = list(csv.DictReader(lines))
    assert not [name for name in catalog[0] if "truth" in name]
    assert {row["sample"] for row in catalog + truth} == {"simulated"}
    assert [int(row["truth_class"]) for row in truth] == table["truth_class"].to_pylist()


def test_empty_survey_is_an_error_and_leaves_no_catalogue(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no galaxy"):
        write_survey(tmp_path, [])
    assert not (tmp_path / "catalog.csv").exists()


def test_vote_columns_are_those_of_the_real_release(data_root: Path) -> None:
    with open(data_root / "gz2_hart16" / "gz2_hart16.csv", newline="") as lines:
        real = next(csv.reader(lines))
    assert [name for name in real if name[0] == "t" and name[1:3].isdigit()] == vote_columns()
