"""Stacks and breaks of spectra with known answers."""

import numpy as np
import pytest

from raydistill.stages.analyse.prototypes.spectra import Spectrum, Stack, break_4000, rest_grid, to_rest_frame

WAVELENGTH = 10 ** np.arange(np.log10(3700), np.log10(9200), 1e-4)


def step(redshift: float, ratio: float) -> Spectrum:
    """Return a spectrum whose F_nu rises at 3975 Å in the rest frame by a ratio."""
    rest = WAVELENGTH / (1 + redshift)
    return Spectrum(WAVELENGTH, np.where(rest > 3975, ratio, 1.0) / rest**2, redshift)


@pytest.mark.parametrize("redshift", [0.02, 0.1, 0.25])
@pytest.mark.parametrize("ratio", [1.0, 1.8])
def test_break_is_the_ratio_of_both_sides_at_any_redshift(redshift: float, ratio: float) -> None:
    spectrum = step(redshift, ratio)
    grid = rest_grid([spectrum])
    flux = to_rest_frame(spectrum, grid)
    assert break_4000(grid, flux) == pytest.approx(ratio, rel=1e-6)


def test_stack_of_two_spectra_has_their_mean_and_spread() -> None:
    spectra = [step(0.1, 1.5), step(0.2, 1.5)]
    grid = rest_grid(spectra)
    scaled = [Spectrum(s.wavelength_W, 7 * n * s.flux_W, s.redshift) for n, s in enumerate(spectra, 1)]
    stack = Stack(grid, np.stack([to_rest_frame(s, grid) for s in scaled]))
    mean, spread = stack.mean_and_spread()
    number_known = np.isfinite(stack.flux_NW).sum(axis=0)
    both = number_known == 2
    assert 0 < both.sum() < len(grid)
    smooth = both & (np.abs(grid - 3975) > 5)  # interpolation softens the break by a pixel
    np.testing.assert_allclose(
        mean[smooth], stack.flux_NW[0][smooth], rtol=2e-5
    )  # the unit of the flux does not matter
    assert spread[smooth].max() < 2e-4
    assert np.isnan(spread[number_known == 1]).all()  # one spectrum has no spread


def test_masked_or_short_spectrum_is_unknown_there() -> None:
    spectrum = step(0.1, 1.5)
    flux = spectrum.flux_W.copy()
    flux[(WAVELENGTH > 4300) & (WAVELENGTH < 4320)] = np.nan
    grid = rest_grid([spectrum])
    rest = to_rest_frame(spectrum._replace(flux_W=flux), grid)
    masked = (grid * 1.1 > 4300) & (grid * 1.1 < 4320)
    assert np.isnan(rest[masked]).all()
    short = Spectrum(WAVELENGTH[WAVELENGTH < 4000], spectrum.flux_W[WAVELENGTH < 4000], 0.1)
    assert to_rest_frame(short, grid) is None
    assert np.isnan(break_4000(grid[grid > 4050], rest[grid > 4050]))
