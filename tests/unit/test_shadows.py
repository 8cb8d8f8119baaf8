"""The simulated faint galaxies of `benchmarks/shadows.py`, and their measures."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import shadows

TELESCOPE = shadows.TELESCOPES["second"]
QUIET = dataclasses.replace(TELESCOPE, exposure=1000)


@pytest.mark.parametrize("kind", ["galaxy", *shadows.KINDS])
def test_an_object_is_decided_by_its_seed(kind: str) -> None:
    one, again, other = (shadows.simulate(kind, TELESCOPE, seed) for seed in (1, 1, 2))
    assert one.picture.shape == (shadows.SIZE, shadows.SIZE, 3)
    np.testing.assert_array_equal(one.picture, again.picture)
    assert (one.picture != other.picture).mean() > 0.1
    assert one.picture.std() > 1


def test_measured_galaxies_follow_the_true_ones() -> None:
    galaxies = [shadows.simulate("galaxy", QUIET, seed) for seed in range(60)]
    brightness, radius = np.array([shadows.measure(one.picture, QUIET) for one in galaxies]).T
    errors = brightness - [one.brightness for one in galaxies], np.log10(radius / [one.radius for one in galaxies])
    scatters = [1.4826 * np.median(abs(error - np.median(error))) for error in errors]
    assert scatters[0] < 0.4  # mag / arcsec²; the zero point is arbitrary
    assert scatters[1] < 0.12  # dex
    assert -0.25 < np.median(errors[1]) < 0  # the aperture ends inside large galaxies


def test_a_survey_has_half_galaxies_and_every_artifact(tmp_path) -> None:
    objects = shadows.write_survey(tmp_path, TELESCOPE, 20, 0)
    assert len(list((tmp_path / "galaxy").iterdir())) == 10
    assert {one.kind for one in objects.values()} == {"galaxy", *shadows.KINDS}
    truth = shadows.truth_of(objects, [f"folder/{name}.png" for name in objects])
    assert truth.sum() == 10


def test_accuracy_counts_objects() -> None:
    found = shadows.accuracy(np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), np.array([0, 1, 1]))
    assert found.value == pytest.approx(2 / 3)
    assert found.low < 2 / 3 < found.high
