"""Test what injected defects do to a picture."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from raydistill.simulation.defects import BORDER, REASONS, Reason, central, show, wide_side

VIEW = 48
CROPS = (0.5, 1.0)  # with and without sky around the view


def galaxy(crop: float, seed: int = 0) -> np.ndarray:
    """Return a wide picture of a round galaxy on noise, uint8 `[W, W, 3]`."""
    side, rng = wide_side(VIEW, crop), np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    light = 180 * np.exp(-(x**2 + y**2) / (2 * 5.0**2))
    return np.clip(np.rint(rng.normal(20, 3, (side, side, 3)) + light[..., None]), 0, 255).astype(np.uint8)


def centre(picture: np.ndarray) -> np.ndarray:
    """Return row and column of the light's centre, from -0.5 to 0.5 of the side."""
    light = np.maximum(picture.astype(float).mean(axis=2) - 40, 0)
    where = np.mgrid[: len(picture), : len(picture)] + 0.5
    return (where * light).sum(axis=(1, 2)) / light.sum() / len(picture) - 0.5


def shown(reason: Reason | None, crop: float, count: int = 40) -> list[tuple[np.ndarray, str]]:
    other = galaxy(crop, 1)
    return [show(reason, galaxy(crop), other, VIEW, np.random.default_rng(seed)) for seed in range(count)]


def test_wide_picture_never_exceeds_the_original() -> None:
    assert [wide_side(VIEW, crop) for crop in (0.3, 0.5, 0.7, 1.0)] == [96, 96, 68, 48]
    assert all(crop * wide_side(VIEW, crop) / VIEW <= 1 for crop in np.linspace(0.5, 1, 200))


@pytest.mark.parametrize("crop", CROPS)
def test_views_depend_on_the_generator_alone(crop: float) -> None:
    for reason in (None, *REASONS):
        for (view, kind), (again, again_kind) in zip(shown(reason, crop, 5), shown(reason, crop, 5), strict=True):
            np.testing.assert_array_equal(view, again)
            assert (view.shape, view.dtype, kind) == ((VIEW, VIEW, 3), np.uint8, again_kind)


def test_clean_view_is_an_unchanged_part_of_the_picture_near_its_centre() -> None:
    wide = galaxy(0.5)
    parts = {
        wide[row : row + VIEW, column : column + VIEW].tobytes() for row in range(22, 27) for column in range(22, 27)
    }
    assert {picture.tobytes() for picture, _ in shown(None, 0.5)} <= parts
    np.testing.assert_array_equal(central(wide, VIEW), wide[24:72, 24:72])


@pytest.mark.parametrize("crop", CROPS)
def test_faint_galaxy_keeps_the_noise_of_the_sky(crop: float) -> None:
    sky = galaxy(crop)[: round(BORDER * wide_side(VIEW, crop))].astype(float)
    for picture, _ in shown("low-surface-brightness", crop):
        middle = picture[18:30, 18:30].astype(float)
        assert middle.mean() - 20 < 0.1 * 180
        corner = picture[:12, :12].astype(float)
        assert 0.7 < corner.std() / sky.std() < 1.3


@pytest.mark.parametrize("crop", CROPS)
def test_off_centre_galaxy_is_displaced_by_a_sixth_to_a_third_of_the_side(crop: float) -> None:
    distances = [np.hypot(*centre(picture)) for picture, _ in shown("off-centre", crop)]
    assert 0.13 < min(distances) < max(distances) < 0.36
    assert max(np.hypot(*centre(picture)) for picture, _ in shown(None, crop)) < 0.05


@pytest.mark.parametrize("crop", CROPS)
def test_truncated_galaxy_is_cut_by_the_frame_or_by_a_part_without_data(crop: float) -> None:
    kinds = Counter()
    for picture, kind in shown("truncated-galaxy", crop):
        kinds[kind] += 1
        if kind == "frame":
            assert abs(centre(picture)).max() > 0.3
        else:
            _, counts = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
            assert counts.max() > 0.25 * VIEW**2  # one colour fills the part
    assert set(kinds) == {"frame", "blank"}


def test_every_kind_of_artifact_changes_part_of_the_picture() -> None:
    wide, changed = galaxy(0.5), {}
    for seed in range(200):
        picture, kind = show("artifact", wide, wide, VIEW, np.random.default_rng(seed))
        clean, _ = show(None, wide, wide, VIEW, np.random.default_rng(seed))
        share = (abs(picture.astype(int) - clean).max(axis=2) > 20).mean()
        changed.setdefault(kind, []).append(share)
    assert set(changed) == {"trail", "cosmic-rays", "saturated-star", "missing"}
    for shares in changed.values():
        assert np.quantile(shares, 0.1) > 0.003
        assert np.median(shares) < 0.6


@pytest.mark.parametrize("crop", CROPS)
def test_blended_view_has_the_light_of_a_second_galaxy(crop: float) -> None:
    pairs = zip(shown("blended", crop), shown(None, crop), strict=True)  # equal seeds: equal places
    for (picture, _), (clean, _) in pairs:
        assert picture.mean() > clean.mean() + 1
        assert (picture.astype(int) - clean).min() >= -1
        assert np.hypot(*centre(picture)) < 0.25  # the first galaxy is still there
