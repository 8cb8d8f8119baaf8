"""Ranges of true parameters are checked before anything is drawn."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from raydistill.errors import ConfigError
from raydistill.pipeline.checks import SIMULATED
from raydistill.simulation.parameters import ANGLE, BOUNDS, LENSES, SHOWN_BY, check_parameters
from raydistill.simulation.render import Truth, galaxy_light
from raydistill.simulation.simulate import draw_lens, draw_truth

CLASSES = {name: number for number, name in enumerate(SIMULATED.names)}
SHOWN_BY_LENSES = [
    name for name, classes in SHOWN_BY.items() if classes == LENSES
]  # without a radius there is no light


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
    truth = replace(drawn(number), petro_r90=4.0)

    def lights(values: tuple[float, float]) -> list[np.ndarray]:
        return [galaxy_light(replace(truth, **{name: type(getattr(truth, name))(value)}), 1) for value in values]

    if number not in SHOWN_BY.get(name, CLASSES.values()):
        if number < 5 and name not in SHOWN_BY_LENSES:
            np.testing.assert_array_equal(*lights(BOUNDS[name]))
        with pytest.raises(ConfigError, match=f"galaxies of {label} do not show it"):
            check_parameters({name: (BOUNDS[name][1],) * 2}, {label: number}, "x")
        return
    least, most = lights(BOUNDS[name] if BOUNDS[name] != ANGLE else (10, 70))
    assert all(np.isfinite(light).all() and light.max() > 0 for light in (least, most))
    if name != "psf_fwhm":  # the light is not blurred yet
        assert not np.array_equal(least, most)


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
