"""Define the model of fields (`stages.detect.science.fields`), without scipy."""

from __future__ import annotations

from dataclasses import dataclass

from raydistill.simulation.injections.light import SDSS_CONTRAST


@dataclass(frozen=True, kw_only=True)
class FieldModel:
    """Fields of synthetic galaxies.

    Parameters
    ----------
    side
        Side of a field [px]. A field shows as much sky as a frame of the survey.
    galaxies
        Mean number of galaxies in a field. At least one is drawn.
    scales
        Smallest and largest scale of a galaxy; 1 is its size in a frame of the survey. The logarithm
        of the scale is uniform.
    stars
        Mean number of stars in a field.
    star_width
        Narrowest and widest full width at half maximum of the stars of a field, relative to its side.
    sigmas
        Threshold of photutils above the sky, in units of the noise of the smoothed brightness.
    min_area
        Smallest area of a source [px].
    contrast
        Of the stretch of frames and fields: 4.7 for SDSS, 8.81 for simulated surveys.
    picture_contrast
        Of the stretch of the synthetic pictures. None: `contrast`.
    """

    side: int = 128
    galaxies: float = 3.0
    scales: tuple[float, float] = (0.25, 1.2)
    stars: float = 3.0
    star_width: tuple[float, float] = (0.012, 0.03)
    sigmas: float = 3.0
    min_area: int = 30
    contrast: float = SDSS_CONTRAST
    picture_contrast: float | None = None

    def __post_init__(self) -> None:
        if not 64 <= self.side <= 1024 or self.side % 16:
            raise ValueError(f"side must be a multiple of 16 in [64, 1024], got {self.side}")
        for name, (low, high) in (("scales", self.scales), ("star_width", self.star_width)):
            if not 0 < low <= high <= 4:
                raise ValueError(f"{name} must be [lowest, highest] in (0, 4], got [{low:g}, {high:g}]")
        for name in ("galaxies", "stars"):
            if not 0 <= getattr(self, name) <= 1000:
                raise ValueError(f"{name} must lie in [0, 1000], got {getattr(self, name):g}")
        if not (0 < self.sigmas < 100 and self.min_area > 0):
            raise ValueError(f"sigmas and min_area must be positive, got {self.sigmas:g} and {self.min_area}")
        for name, contrast in (("contrast", self.contrast), ("picture_contrast", self.contrast_of_pictures)):
            if not 0 < contrast < 100:
                raise ValueError(f"{name} must be positive and below 100, got {contrast:g}")

    @property
    def contrast_of_pictures(self) -> float:
        """The contrast of the synthetic pictures."""
        return self.contrast if self.picture_contrast is None else self.picture_contrast
