"""Ranges of true parameters are checked before anything is drawn."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from raydistill.errors import ConfigError
from raydistill.pipeline.checks import SIMULATED
from raydistill.simulation.parameters import BOUNDS, SHOWN_BY, check_parameters
from raydistill.simulation.render import Truth, galaxy_light
from raydistill.simulation.simulate import draw_lens, draw_truth

CLASSES = {name: number for number, name in enumerate(SIMULATED.names)}


def drawn(number: int) -> Truth:
    """Return a galaxy of a class that shows all that its class can show."""
    weights = tuple(float(number == label) for label in range(9)) if number < 9 else None
    truth = draw_truth(np.random.default_rng(3), weights)
    if number == 9:
        return draw_lens(truth, np.random.default_rng(4))
    return replace(truth, arm_fraction=0.5, ring=0.4) if number >= 5 else truth


def test_every_true_parameter_has_bounds() -> None:
    assert set(BOUNDS) == {field.name for field in fields(Truth)} - {"class_"}


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("label", CLASSES)
def test_both_ends_of_the_bounds_can_be_drawn_where_a_class_shows_the_parameter(name: str, label: str) -> None:
    number = CLASSES[label]
    if number not in SHOWN_BY.get(name, CLASSES.values()):
        with pytest.raises(ConfigError, match=f"galaxies of {label} do not show it"):
            check_parameters({name: (BOUNDS[name][1],) * 2}, {label: number}, "x")
        return
    truth = replace(drawn(number), petro_r90=4.0)
    lights = [galaxy_light(replace(truth, **{name: type(getattr(truth, name))(value)}), 1) for value in BOUNDS[name]]
    assert all(np.isfinite(light).all() and light.max() > 0 for light in lights)
    if name not in ("redshift", "psf_fwhm", "position_angle", "bar_angle", "source_angle"):  # the same, or no light
        assert not np.array_equal(*lights) if lights[0].shape == lights[1].shape else name == "petro_r90"


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"dust": (0, 1)}, "there is no parameter 'dust'"),
        ({"axis_ratio": (0, 0)}, r"axis_ratio: it is \[0, 0\]"),
        ({"petro_r90": (9, 3)}, r"give \[lowest, highest\] in \[1, 60\]"),
        ({"num_arms": (2.5, 3)}, "give whole numbers"),
        ({"winding": (-1, 1)}, "for anticlockwise arms"),
        ({"magnitude": (float("nan"), 16)}, "magnitude: it is"),
    ],
)
def test_wrong_ranges_are_config_errors(ranges: dict[str, tuple[float, float]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_parameters(ranges, {"spiral": 7}, "sample.source.parameters")
