"""Test what photutils finds in pictures with known sources."""

from __future__ import annotations

import numpy as np
import pytest

from raydistill.morphology.structure import (
    Box,
    border_sky,
    box_of,
    central_source,
    find_sources,
    smooth_brightness,
    visible_part,
)
from raydistill.simulation.injections.base import SDSS_CONTRAST, to_light
from tests.unit.stages.detect.galaxies import NOISE, SKY, disk, observed


def test_sources_are_found_and_separated_where_they_overlap() -> None:
    light = disk(96, 48, 40, 4) + disk(96, 48, 58, 4) + disk(96, 15, 15, 2)
    labels = find_sources(to_light(observed(light), SDSS_CONTRAST), 3.0, 12)
    numbers = {int(labels[row, column]) for row, column in ((48, 40), (48, 58), (15, 15))}
    assert len(numbers - {0}) == 3
    assert (labels > 0).mean() < 0.3


def test_noise_alone_has_no_source() -> None:
    labels = find_sources(to_light(observed(np.zeros((96, 96, 3))), SDSS_CONTRAST), 3.0, 12)
    assert not labels.any()
    assert central_source(labels) == 0


def test_the_sky_is_measured_beside_a_galaxy() -> None:
    light = to_light(observed(disk(96, 48, 48, 6)), SDSS_CONTRAST)
    level, noise = border_sky(smooth_brightness(light))
    assert level == pytest.approx(SKY, rel=0.1)
    # A Gaussian filter of 1 px leaves 1 / (2 sqrt(pi)) of white noise, and three channels average.
    assert noise == pytest.approx(NOISE / np.sqrt(3) / (2 * np.sqrt(np.pi)), rel=0.35)


def test_the_central_source_is_the_largest_near_the_centre() -> None:
    labels = np.zeros((32, 32), np.int32)
    labels[:8], labels[14:18, 14:18], labels[13, 13] = 1, 2, 3
    assert central_source(labels) == 2


def test_the_visible_part_of_a_disk_ends_at_the_threshold() -> None:
    """The light of an exponential disk falls to 3 sigma at a known radius."""
    mask = visible_part(disk(96, 48, 48, 6), noise=0.01, sigmas=3.0, min_area=12)
    radius = 6 * np.log(0.5 / 0.03)
    assert mask.sum() == pytest.approx(np.pi * radius**2, rel=0.05)
    assert not visible_part(disk(96, 48, 48, 6, peak=0.02), noise=0.01, sigmas=3.0, min_area=12).any()


def test_a_box_has_the_outer_edges_of_its_pixels() -> None:
    mask = np.zeros((8, 8), np.bool_)
    mask[2:4, 5] = True
    assert box_of(mask) == Box(5, 2, 6, 4)
