r"""Stack spectra in the rest frame, and measure the 4000 Å break of a stack.

Shapes: N spectra, W wavelengths.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

STEP = 1e-4  # of log10(wavelength): that of SDSS, 69 km/s
NORMALISED = (4150.0, 4250.0)  # Å, rest frame: continuum beside the break, without strong lines
BREAK = ((3850.0, 3950.0), (4000.0, 4100.0))  # Å: Balogh et al. 1999, ApJ 527, 54
MIN_PIXELS = 10  # of a window in which a mean is taken


class Spectrum(NamedTuple):
    """A spectrum in the observed frame.

    Attributes
    ----------
    wavelength_W
        Vacuum wavelengths in Å, increasing.
    flux_W
        Flux density per unit wavelength, in any unit; NaN where masked.
    redshift
        Redshift of the galaxy.
    """

    wavelength_W: Floats
    flux_W: Floats
    redshift: float


class Stack(NamedTuple):
    """Spectra on one grid in the rest frame.

    Attributes
    ----------
    wavelength_W
        Rest wavelengths in Å.
    flux_NW
        Flux densities relative to their mean in `NORMALISED`; NaN where a spectrum has no value.
    """

    wavelength_W: Floats
    flux_NW: Floats

    def mean_and_spread(self, rows: npt.NDArray[np.integer] | slice = slice(None)) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of spectra by wavelength; NaN without values."""
        chosen = self.flux_NW[rows]
        known = np.isfinite(chosen)
        count = known.sum(axis=0)
        filled = np.where(known, chosen, 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = filled.sum(axis=0) / count
            spread = np.sqrt((np.where(known, chosen - mean, 0.0) ** 2).sum(axis=0) / (count - 1))
        return mean, spread


def to_rest_frame(spectrum: Spectrum, grid_W: Floats) -> Floats | None:
    """Return the normalised flux on a rest-frame grid.

    None if the spectrum does not cover `NORMALISED`.

    Parameters
    ----------
    spectrum
        The observed spectrum.
    grid_W
        Rest wavelengths in Å, increasing.

    Returns
    -------
    ndarray or None
        float64 [W]; NaN outside of the spectrum and beside masked pixels. The flux is interpolated
        linearly.
    """
    rest = spectrum.wavelength_W / (1 + spectrum.redshift)
    flux = np.interp(grid_W, rest, spectrum.flux_W, left=np.nan, right=np.nan)
    level = window_mean(grid_W, flux, NORMALISED)
    return flux / level if np.isfinite(level) and level > 0 else None


def rest_grid(spectra: list[Spectrum]) -> Floats:
    """Return a logarithmic grid of rest wavelengths in Å that covers all spectra."""
    low = min(np.log10(one.wavelength_W[0] / (1 + one.redshift)) for one in spectra)
    high = max(np.log10(one.wavelength_W[-1] / (1 + one.redshift)) for one in spectra)
    grid: Floats = 10 ** np.arange(np.ceil(low / STEP) * STEP, high, STEP)
    return grid


def window_mean(wavelength_W: Floats, flux_W: Floats, window: tuple[float, float]) -> float:
    """Return the mean flux in a wavelength window.

    NaN if fewer than `MIN_PIXELS` are known.
    """
    inside = (wavelength_W >= window[0]) & (wavelength_W <= window[1]) & np.isfinite(flux_W)
    return float(flux_W[inside].mean()) if inside.sum() >= MIN_PIXELS else float("nan")


def break_4000(wavelength_W: Floats, flux_W: Floats) -> float:
    r"""Return the narrow 4000 Å break of a rest-frame spectrum.

    Old stars have a large break: about 1.3 in star-forming and 1.8 in quiescent galaxies.

    Notes
    -----
    The mean of :math:`F_\nu` in 4000 to 4100 Å over that in 3850 to 3950 Å (Balogh et al. 1999, ApJ
    527, 54). :math:`F_\nu \propto \lambda^2 F_\lambda`. NaN where a window is not covered.
    """
    frequency_flux = flux_W * wavelength_W**2
    blue, red = (window_mean(wavelength_W, frequency_flux, window) for window in BREAK)
    return red / blue if blue > 0 else float("nan")
