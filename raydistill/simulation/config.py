"""The config of a simulated survey, without the renderer.

Every process reads configs, and few render.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from raydistill.errors import ConfigError

NUM_CLASSES = 9
SDSS_PSF, SDSS_PIXEL = 1.3, 0.396  # arcsec


@dataclass(frozen=True)
class Telescope:
    """The instrument of a simulated survey, and how its pictures are stretched.

    The defaults are those of SDSS.

    Parameters
    ----------
    psf_fwhm
        Median full width at half maximum of the r-band PSF [arcsec]; it scatters by 9 %.
    pixel_scale
        Side of a pixel [arcsec].
    exposure
        Light collected per unit area of the sky, relative to SDSS. Noise falls with its square root,
        and fainter neighbours appear.
    stretch, softening
        Parameters of the stretch of Lupton et al. 2004 (PASP 116, 133): the light per SDSS pixel
        [nmgy] at which it turns from linear to logarithmic, and Q. A smaller stretch is brighter.
    band_weights
        Weights of i, r and g in the red, green and blue channel.
    """

    psf_fwhm: float = SDSS_PSF
    pixel_scale: float = SDSS_PIXEL
    exposure: float = 1.0
    stretch: float = 0.35
    softening: float = 10.0
    band_weights: tuple[float, float, float] = (0.8, 1.0, 1.4)

    def __post_init__(self) -> None:
        where = "survey.telescope"
        for name, lowest, highest in (
            ("psf_fwhm", 0.3, 3.0),
            ("pixel_scale", 0.1, 1.0),
            ("exposure", 0.01, 1000.0),
            ("stretch", 0.001, 10.0),
            ("softening", 0.1, 100.0),
        ):
            value = getattr(self, name)
            if not lowest <= value <= highest:
                raise ConfigError(f"{name} is {value:g}", where, f"give a number from {lowest:g} to {highest:g}")
        if not all(0 < weight < math.inf for weight in self.band_weights):
            raise ConfigError(f"band_weights is {list(self.band_weights)}", where, "give three numbers > 0")


SDSS = Telescope()


@dataclass(frozen=True)
class SimulatedSurvey:
    """A survey of simulated galaxies.

    Parameters
    ----------
    num_galaxies
        Number of galaxies.
    image_size
        Side of a picture [px]; it spans 8.48 Petrosian R90.
    class_weights
        Relative frequencies of the nine classes. None draws all classes equally often.
    telescope
        Instrument and stretch. Galaxies of the same seed are the same in every telescope.
    lens_fraction
        Fraction of the galaxies that are gravitational lenses, a tenth class: a smooth galaxy with
        blue arcs. The other galaxies do not depend on it. `curate.classes: gz2-9-lens` selects them.
    """

    kind: Literal["simulated"] = "simulated"
    num_galaxies: int = 1500
    image_size: int = 424
    class_weights: tuple[float, ...] | None = None
    telescope: Telescope = SDSS
    lens_fraction: float = 0.0
    frame_r90: ClassVar[float] = 8.48  # side of a picture / petroR90_r, as in Galaxy Zoo 2

    def __post_init__(self) -> None:
        where = "survey"
        if self.num_galaxies < 1:
            raise ConfigError(f"num_galaxies is {self.num_galaxies}", where, "give at least 1")
        if self.image_size < 32:
            raise ConfigError(
                f"image_size is {self.image_size} px", where, "give at least 32 (the real survey has 424)"
            )
        weights = self.class_weights
        if weights is not None and (len(weights) != NUM_CLASSES or min(weights) < 0 or not 0 < sum(weights) < math.inf):
            raise ConfigError(f"class_weights is {weights}", where, "give 9 numbers >= 0, not all of them 0, or null")
        if not 0 <= self.lens_fraction < 1:
            raise ConfigError(f"lens_fraction is {self.lens_fraction:g}", where, "give a number >= 0 and < 1")
