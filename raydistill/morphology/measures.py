"""Measure pictures: one row per picture with this package's profiles and numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raydistill.morphology.pictures import colours, find_extent, high_frequency, light_above_sky
from raydistill.morphology.shapes import (
    COLOURS,
    ORDERS,
    colour_profiles,
    fourier_components,
    gradients,
    moment_ellipses,
    pattern,
    radial_profiles,
)
from raydistill.morphology.structure import SERSIC, STRUCTURE, WORST_VALID, structure
from raydistill.statistics.permutation import Bools, Floats


@dataclass(frozen=True)
class Measure:
    """A number that is compared between a prototype and its class.

    Attributes
    ----------
    title
        Its name in a sentence.
    description
        Its definition.
    unit
        A unit that astropy reads; "" for a number without one.
    """

    title: str
    description: str
    unit: str = ""


_MAGNITUDES = "in magnitudes of the picture's values"
_GRADIENT = f"slope against the radius, {_MAGNITUDES} per half-frame"
# Compared with the class, in the order of tables and figures.
MEASURES = {
    "half_light_radius": Measure("half-light radius", "statmorph's rhalf_ellip as a fraction of the half-frame"),
    "concentration": Measure("concentration", "statmorph's C, 5 log10(r80 / r20)"),
    "asymmetry": Measure("asymmetry", "statmorph's A: light that changes in half a turn"),
    "smoothness": Measure("smoothness", "statmorph's S: light in small clumps"),
    "gini": Measure("Gini coefficient", "statmorph's G: inequality of the pixels' light"),
    "m20": Measure("M20", "statmorph's M20: log10 of the second moment of the brightest 20 % of the light"),
    "sersic_n": Measure("Sérsic index", "index n of statmorph's Sérsic fit, not deconvolved"),
    "ellipticity": Measure("ellipticity", "1 - b / a of the ellipse of second moments"),
    "m1_amplitude": Measure("m = 1 amplitude", "mean Fourier amplitude of lopsidedness, radius 0.2 to 0.6"),
    "m2_amplitude": Measure("m = 2 amplitude", "mean Fourier amplitude of bars and arms, radius 0.2 to 0.6"),
    "m2_coherence": Measure("m = 2 coherence", "1 where the m = 2 crest has one direction at all radii"),
    "red_green": Measure("red-green colour", f"2.5 log10 of red over green, {_MAGNITUDES}", "mag"),
    "green_blue": Measure("green-blue colour", f"2.5 log10 of green over blue, {_MAGNITUDES}", "mag"),
    "red_green_gradient": Measure("red-green gradient", f"red-green colour: {_GRADIENT}", "mag"),
    "green_blue_gradient": Measure("green-blue gradient", f"green-blue colour: {_GRADIENT}", "mag"),
    "high_frequency": Measure(
        "power at high spatial frequency", "log10 of the brightness variance's share above a quarter cycle per pixel"
    ),
    "clipped": Measure("clipped share", "share of the picture's values outside [0, 1], which were clipped"),
}
# Directions and the rest of the Sérsic fit: measured, and not compared.
FURTHER = {
    "position_angle": Measure("position angle", "direction of the major axis, from horizontal to the top", "deg"),
    "m2_phase": Measure("m = 2 phase", "mean direction of the m = 2 crest, from horizontal to the top", "deg"),
    "sersic_radius": Measure("Sérsic radius", "effective radius of the Sérsic fit, as a fraction of the half-frame"),
    "sersic_ellipticity": Measure("Sérsic ellipticity", "1 - b / a of the Sérsic fit"),
}
PROFILES = {
    "brightness_profile": "mean of the channels in elliptical rings, above the sky",
    **{f"{name}_profile": f"{MEASURES[name].title} in elliptical rings, {_MAGNITUDES}" for name in COLOURS},
    **{f"m{order}_profile": f"Fourier amplitude A{order} / A0 in circular rings" for order in ORDERS},
}
FLAG, SERSIC_FLAG, REASON = "flag", "sersic_flag", "reason"

SCHEMA = pa.schema(
    [
        *((name, pa.float64()) for name in (*MEASURES, *FURTHER)),
        (FLAG, pa.int64()),
        (SERSIC_FLAG, pa.int64()),
        (REASON, pa.string()),
        *((name, pa.list_(pa.float64())) for name in PROFILES),
    ]
)


def measure(pictures_NHWC: npt.NDArray[np.floating]) -> pa.Table:
    """Return all profiles and numbers of pictures.

    Parameters
    ----------
    pictures_NHWC
        Square pictures [N, H, H, 3], black 0 and white 1. Values outside [0, 1] are clipped.

    Returns
    -------
    pyarrow.Table
        A row of `SCHEMA` for each picture. NaN stands for a number that cannot be measured.
        Profiles have a value for each ring of `profiles.ring_centres`.
    """
    light = light_above_sky(pictures_NHWC)
    brightness_NHW = light.values_NHWC.mean(-1)
    ellipses = moment_ellipses(brightness_NHW)
    profiles_NRC = radial_profiles(light.values_NHWC, *ellipses)
    components_NRM = fourier_components(brightness_NHW)
    by_colour = colour_profiles(profiles_NRC)
    first, second = (pattern(components_NRM, order) for order in (1, 2))
    columns: dict[str, object] = {
        "ellipticity": ellipses.ellipticity_N,
        "position_angle": ellipses.position_angle_N,
        "m1_amplitude": first.amplitude_N,
        "m2_amplitude": second.amplitude_N,
        "m2_coherence": second.coherence_N,
        "m2_phase": second.phase_N,
        "clipped": light.clipped_N,
        "high_frequency": high_frequency(pictures_NHWC),
        **dict(zip(COLOURS, _total_colours(light.values_NHWC), strict=True)),
        **{f"{name}_gradient": gradients(values) for name, values in by_colour.items()},
        "brightness_profile": profiles_NRC.mean(-1).tolist(),
        **{f"{name}_profile": values.tolist() for name, values in by_colour.items()},
        **{f"m{order}_profile": np.abs(components_NRM[..., m]).tolist() for m, order in enumerate(ORDERS)},
    }
    fits = [structure(light_HWC) for light_HWC in light.values_NHWC]
    columns |= {name: [fit.values[name] for fit in fits] for name in STRUCTURE}
    columns |= {FLAG: [fit.flag for fit in fits], SERSIC_FLAG: [fit.sersic_flag for fit in fits]}
    columns[REASON] = [fit.reason for fit in fits]
    return pa.table({name: pa.array(columns[name], SCHEMA.field(name).type) for name in SCHEMA.names}, SCHEMA)


def is_valid(table: pa.Table, name: str) -> Bools:
    """Return whether a number per row is finite and not flagged as bad, bool [N].

    The rows are those of `measure`.
    """
    valid = np.isfinite(values_of(table, name))
    if name in STRUCTURE:
        valid &= table[FLAG].to_numpy() <= WORST_VALID
    if name in SERSIC:
        valid &= table[SERSIC_FLAG].to_numpy() == 0
    return valid


def values_of(table: pa.Table, name: str) -> Floats:
    """Return a number of all rows, float64 [N]."""
    return np.asarray(table[name].to_numpy(), np.float64)


def profiles_of(table: pa.Table, name: str) -> Floats:
    """Return a profile of all rows, float64 [N, R]."""
    return np.array(table[name].to_pylist(), np.float64)


def _total_colours(light_NHWC: Floats) -> list[Floats]:
    """Return the colours of the light inside 1.5 Petrosian radii; NaN without light."""
    side = light_NHWC.shape[1]
    light_NPC = light_NHWC.reshape(len(light_NHWC), -1, 3)
    inside_NP = find_extent(light_NPC.mean(-1), side).inside_NP
    dark_N = (light_NPC.mean(-1) * inside_NP).sum(1) <= 0
    return [np.where(dark_N, np.nan, values) for values in colours(light_NPC, inside_NP)]
