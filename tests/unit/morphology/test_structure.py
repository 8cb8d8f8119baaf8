"""Test the structure of Sérsic galaxies against theory.

Test the flags of pictures that cannot be measured.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.special import gammaincinv

from raydistill.morphology import structure as module
from raydistill.morphology.measures import MEASURES, PROFILES, SCHEMA, is_valid, measure, profiles_of, values_of
from raydistill.morphology.pictures import light_above_sky
from raydistill.morphology.shapes import NUM_RINGS
from raydistill.morphology.structure import NOT_MEASURED, Structure, structure
from tests.unit.morphology.galaxies import picture, sersic

SKY, NOISE = 0.08, 0.004


def observed(brightness: np.ndarray) -> np.ndarray:
    """Return a galaxy with sky and noise, as a picture [1, side, side, 3]."""
    noise = np.random.default_rng(1).normal(0, NOISE, (*brightness.shape, 3))
    return picture(brightness) + SKY + noise


def measured(brightness: np.ndarray) -> Structure:
    return structure(light_above_sky(observed(brightness)).values_NHWC[0])


@pytest.mark.parametrize(("n", "ellipticity"), [(0.7, 0.0), (1.0, 0.4)])
def test_sersic_galaxy_has_its_index_radius_and_ellipticity(n: float, ellipticity: float) -> None:
    result = measured(sersic(64, 7, n, ellipticity, 30.0))
    assert result.flag <= 1
    assert result.sersic_flag == 0
    assert result.values["sersic_n"] == pytest.approx(n, rel=0.05)
    assert result.values["sersic_radius"] == pytest.approx(7 / 32, rel=0.05)
    assert result.values["sersic_ellipticity"] == pytest.approx(ellipticity, abs=0.03)
    assert result.values["asymmetry"] == pytest.approx(0, abs=0.05)


def test_concentration_of_an_exponential_disk_is_that_of_theory() -> None:
    """The light within x scale lengths is 1 - (1 + x) exp(-x).

    This is the incomplete gamma function of 2.
    """
    result = measured(sersic(96, 10, 1))
    expected = 5 * math.log10(gammaincinv(2, 0.8) / gammaincinv(2, 0.2))
    assert result.values["concentration"] == pytest.approx(expected, rel=0.03)


def test_noise_alone_is_a_row_with_its_reason() -> None:
    result = measured(np.zeros((48, 48)))
    assert (result.flag, result.sersic_flag) == (NOT_MEASURED, NOT_MEASURED)
    assert "lies near the centre" in result.reason
    assert all(np.isnan(value) for value in result.values.values())


def test_an_error_of_statmorph_is_a_row_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("no minimum")

    monkeypatch.setattr(module, "_statmorph", fail)
    result = measured(sersic(48, 6, 1))
    assert result.flag == NOT_MEASURED
    assert result.reason == "statmorph failed: AssertionError: no minimum"


def test_reasons_name_only_warnings_that_set_a_flag() -> None:
    tilted = sersic(32, 6, 1) + 0.004 * np.arange(32)[:, None]
    result = measured(tilted)
    assert result.flag == 2
    assert result.reason.endswith("Image is not background-subtracted.")
    assert "skybox" not in result.reason
    assert measured(sersic(48, 6, 1)).reason == ""


def test_a_second_galaxy_is_masked() -> None:
    alone = sersic(64, 5, 1)
    beside = alone + np.roll(sersic(64, 3, 1), (-22, 22), axis=(0, 1))
    first, two = measured(alone), measured(beside)
    assert two.values["asymmetry"] == pytest.approx(first.values["asymmetry"], abs=0.05)
    assert two.values["gini"] == pytest.approx(first.values["gini"], abs=0.03)


def test_a_table_has_every_number_and_marks_the_invalid_ones() -> None:
    pictures = np.concatenate([observed(sersic(32, 7, 1, 0.3)), observed(np.zeros((32, 32)))])
    pictures[0, 16, 16, 0] = 1.4
    table = measure(pictures)
    assert table.schema == SCHEMA
    assert table["flag"].to_pylist()[1] == NOT_MEASURED
    assert table["reason"].to_pylist()[1]
    assert values_of(table, "clipped")[0] == pytest.approx(1 / (32 * 32 * 3))
    for name in MEASURES:
        assert is_valid(table, name)[0], name
    for name in ("gini", "sersic_n", "m2_amplitude", "red_green_gradient"):
        assert not is_valid(table, name)[1], name
    for name in PROFILES:
        assert profiles_of(table, name).shape == (2, NUM_RINGS)


def test_a_bad_sersic_fit_invalidates_only_its_own_numbers() -> None:
    table = measure(observed(sersic(32, 5, 1)))
    flagged = table.set_column(SCHEMA.get_field_index("sersic_flag"), "sersic_flag", [[1]])
    assert not is_valid(flagged, "sersic_n")[0]
    assert is_valid(flagged, "gini")[0]
    bad = table.set_column(SCHEMA.get_field_index("flag"), "flag", [[2]])
    assert not is_valid(bad, "gini")[0]
    assert is_valid(bad, "ellipticity")[0]
