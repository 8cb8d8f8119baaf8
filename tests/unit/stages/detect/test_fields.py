"""Test fields: their light, exact masks and sky, and that they show no seams."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raydistill.morphology.structure import find_sources
from raydistill.simulation.injections.base import SDSS_CONTRAST, to_light, to_picture
from raydistill.stages.detect.config import FieldModel
from raydistill.stages.detect.scenes.fields import STAR, Sky, Stamp, cut_stamp, make_field, measure_sky
from tests.unit.stages.detect.galaxies import SKY, disk, observed

MODEL = FieldModel(side=128, min_area=12)
QUIET = Sky((SKY,) * 3, (0.004,) * 3, 0.0)


def stamp(light: np.ndarray, label: int = 0, width: float = 64) -> Stamp:
    return Stamp(light.astype(np.float32), width, label, f"picture-{label}")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_stamp_has_the_light_of_the_galaxy_and_nothing_else() -> None:
    galaxy, neighbour = disk(64, 32, 32, 4), disk(64, 32, 57, 1.5, peak=1.0)
    light = cut_stamp(observed(galaxy + neighbour), MODEL)
    assert light is not None
    assert light[20:45, 20:45].sum() == pytest.approx(galaxy[20:45, 20:45].sum(), rel=0.06)
    assert light[28:37, 53:62].sum() < 0.02 * neighbour.sum()
    edge = np.concatenate([light[0], light[-1], light[:, 0], light[:, -1]])
    assert edge.max() < 0.1 * 0.008, "the light must end within the stamp, below the noise"


def test_the_stretch_of_pictures_may_differ_from_that_of_fields() -> None:
    galaxy = disk(64, 32, 32, 4)
    noise = rng().normal(SKY, 0.008, galaxy.shape)
    light = cut_stamp(to_picture(galaxy + noise, 8.81), FieldModel(min_area=12, picture_contrast=8.81))
    assert light is not None
    assert light[20:45, 20:45].sum() == pytest.approx(galaxy[20:45, 20:45].sum(), rel=0.06)


def test_a_picture_without_a_galaxy_gives_no_stamp() -> None:
    assert cut_stamp(observed(np.zeros((64, 64, 3))), MODEL) is None


def test_a_galaxy_that_reaches_the_edge_gives_no_stamp() -> None:
    assert cut_stamp(observed(disk(64, 32, 32, 7)), MODEL) is not None
    assert cut_stamp(observed(disk(64, 32, 52, 9)), MODEL) is None


def test_overlapping_galaxies_add_their_light() -> None:
    """Without noise the field is sky plus galaxies; its brightest pixels show this."""
    model = FieldModel(side=64, galaxies=400, stars=0, scales=(1.0, 1.0), min_area=12)
    source = disk(64, 31.5, 31.5, 3, peak=0.002)
    field = make_field([stamp(source)], Sky((0.0,) * 3, (1e-9,) * 3, 0.0), model, rng())
    light = to_light(field.picture, SDSS_CONTRAST)
    assert 0.6 * 400 < light.sum() / source.sum() < 1.1 * 400, "some light falls beside the field"
    assert light.max() > 2 * source.max()


def test_masks_are_what_photutils_finds_where_nothing_overlaps() -> None:
    model = FieldModel(side=256, galaxies=5, stars=3, min_area=12)
    stamps = [stamp(disk(64, 31.5, 31.5, 3 + label), label) for label in range(2)]
    field = make_field(stamps, QUIET, model, rng(3))
    assert {source.label for source in field.sources} == {0, 1, STAR}
    result = find_sources(to_light(field.picture, SDSS_CONTRAST), 3.0, 12) > 0
    union = np.any([source.mask for source in field.sources], axis=0)
    assert (result & union).sum() / (result | union).sum() > 0.85


def test_masks_overlap_where_galaxies_do() -> None:
    model = FieldModel(side=128, galaxies=14, stars=0, min_area=12)
    field = make_field([stamp(disk(64, 31.5, 31.5, 4))], QUIET, model, rng(3))
    assert np.sum([source.mask for source in field.sources], axis=0).max() >= 2


def test_the_scale_changes_the_size_and_not_the_brightness() -> None:
    sizes, peaks = [], []
    for scale in (0.5, 1.0):
        model = FieldModel(side=256, galaxies=0, stars=0, scales=(scale, scale), min_area=12)
        field = make_field([stamp(disk(64, 31.5, 31.5, 4))], QUIET, model, rng(1))
        sizes.append(field.sources[0].mask.sum())
        peaks.append(to_light(field.picture, SDSS_CONTRAST).max())
    assert 3 < sizes[1] / sizes[0] < 4.2, "the filter widens small galaxies"
    assert peaks[1] == pytest.approx(peaks[0], rel=0.2)


def test_equal_seeds_give_equal_bits_and_missing_stamps_are_left_out() -> None:
    stamps = [stamp(disk(64, 31.5, 31.5, 4)), None]
    first, again, other = (make_field(stamps, QUIET, MODEL, rng(seed)) for seed in (5, 5, 6))
    assert np.array_equal(first.picture, again.picture)
    assert not np.array_equal(first.picture, other.picture)
    assert not [source for source in make_field([None], QUIET, MODEL, rng()).sources if source.label != STAR]


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_the_sky_of_a_field_is_the_sky_that_was_measured(correlation: float) -> None:
    sky = Sky((0.06, 0.05, 0.04), (0.012, 0.01, 0.008), correlation)
    model = FieldModel(side=256, galaxies=0, stars=0)
    light = to_light(make_field([None], sky, model, rng()).picture, SDSS_CONTRAST)
    measured = measure_sky(light, np.zeros((256, 256), np.int32))
    np.testing.assert_allclose(measured.level, sky.level, rtol=0.05)
    np.testing.assert_allclose(measured.noise, sky.noise, rtol=0.15)  # a level of 8 bits is half of the noise
    assert measured.correlation == pytest.approx(correlation, abs=0.08)


def test_a_field_of_real_galaxies_shows_no_seams(data_root: Path) -> None:
    """Beside the masks the field has the median and the spread of its sky."""
    pictures = sorted((data_root / "gz2_hart16" / "images").glob("*.jpg"))[:12]
    stamps = []
    for number, path in enumerate(pictures):
        whole = Image.open(path).convert("RGB")
        side = whole.size[0]
        half = whole.crop((side // 4, side // 4, 3 * side // 4, 3 * side // 4)).resize(
            (64, 64), Image.Resampling.LANCZOS
        )
        light = cut_stamp(np.asarray(half), MODEL)
        stamps.append(None if light is None else stamp(light, number))
    assert sum(stamp is not None for stamp in stamps) >= 11
    sky = Sky((0.03,) * 3, (0.01,) * 3, 0.4)
    model = FieldModel(side=256, galaxies=12, stars=0)
    field = make_field(stamps, sky, model, rng(2))
    light = to_light(field.picture, SDSS_CONTRAST).mean(axis=2)
    far = ~np.any([source.mask for source in field.sources], axis=0)
    assert np.median(light[far]) == pytest.approx(0.03, rel=0.15)
    assert np.percentile(light[far], 99.5) < 0.03 + 8 * 0.01


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"side": 100}, "side must be a multiple of 16"),
        ({"scales": (0.5, 0.2)}, "scales must be"),
        ({"stars": -1.0}, "stars must lie in"),
        ({"sigmas": float("nan")}, "sigmas and min_area must be positive"),
        ({"contrast": 0.0}, "contrast must be positive"),
    ],
)
def test_wrong_numbers_are_rejected(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FieldModel(**values)  # type: ignore[arg-type]
