"""Check ranges of the true parameters of simulated galaxies, without the renderer."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from raydistill.errors import ConfigError, nearest
from raydistill.simulation.config import NUM_CLASSES

ANGLE = (-360.0, 360.0)  # deg
WHOLE = ("num_arms", "winding")

# Where the ranges of the parameters (`render.Truth`) may lie.
BOUNDS: dict[str, tuple[float, float]] = {
    "petro_r90": (1, 60), "magnitude": (8, 25), "redshift": (0, 1), "psf_fwhm": (0.3, 5), "axis_ratio": (0.02, 1),
    "position_angle": ANGLE, "bulge_fraction": (0, 1), "bulge_radius": (0.05, 10), "sersic_n": (0.5, 8),
    "reddening": (-2, 2), "num_arms": (1, 8), "pitch_angle": (1, 89), "winding": (-1, 1), "arm_fraction": (0, 1),
    "bar_length": (0.02, 2), "bar_fraction": (0, 0.9), "bar_angle": ANGLE, "ring": (0, 2), "dust_lane": (0, 20),
    "clumpiness": (0, 3), "companion": (0, 3), "einstein_radius": (0.02, 3), "arc_flux": (0, 5),
    "source_offset": (0, 3), "source_angle": ANGLE,
}  # fmt: skip
# The numbers of the classes that show a parameter; all others are shown by all classes.
LENSES, FACE_ON, BARRED, SPIRAL = range(NUM_CLASSES, NUM_CLASSES + 1), range(5, 9), (5, 6), (5, 7)
SHOWN_BY: dict[str, Collection[int]] = {
    **dict.fromkeys(("num_arms", "pitch_angle", "winding"), SPIRAL),
    **dict.fromkeys(("bar_length", "bar_fraction"), BARRED),
    **dict.fromkeys(("arm_fraction", "ring", "clumpiness"), FACE_ON),
    "bar_angle": (*BARRED, 7),  # where arms begin, too
    **dict.fromkeys(("einstein_radius", "arc_flux", "source_offset", "source_angle"), LENSES),
}


def check_parameters(ranges: Mapping[str, tuple[float, float]], classes: Mapping[str, int], where: str) -> None:
    """Raise ConfigError for an unknown parameter, a wrong range or classes without it.

    Parameters
    ----------
    ranges
        Lowest and highest value of some parameters.
    classes
        The numbers of the classes that are drawn, by name, as far as they are known.
    where
        Key of the config.
    """
    for name, (low, high) in ranges.items():
        if name not in BOUNDS:
            raise ConfigError(f"there is no parameter '{name}'", where, nearest(name, tuple(BOUNDS)))
        least, most = BOUNDS[name]
        key, shown = f"{where}.{name}", f"it is [{low:g}, {high:g}]"
        if not least <= low <= high <= most:
            raise ConfigError(shown, key, f"give [lowest, highest] in [{least:g}, {most:g}]")
        if name in WHOLE and not (low == int(low) and high == int(high)):
            raise ConfigError(shown, key, "give whole numbers")
        if name == "winding" and low * high != 1:
            raise ConfigError(shown, key, "give [1, 1] for anticlockwise arms or [-1, -1] for clockwise ones")
        without = [of for of, number in classes.items() if number not in SHOWN_BY.get(name, classes.values())]
        if without:
            what = f"galaxies of {', '.join(without)} do not show it"
            raise ConfigError(what, key, "name other classes in sample.source.classes, or leave it out")
