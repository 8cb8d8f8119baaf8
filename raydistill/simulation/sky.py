"""Add what lies between a galaxy and its picture: neighbours, PSF, noise, stretch.

Light is in nanomaggies per pixel of the telescope, float32 `[3 (g, r, i), n, n]`. The constants
hold for SDSS; a `Telescope` scales them.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from astropy.visualization import make_lupton_rgb
from scipy import fft, ndimage

from raydistill.simulation.config import SDSS, SDSS_PIXEL, Telescope

Floats = npt.NDArray[np.float32]

ZERO_POINT = 22.5  # magnitude of one nanomaggy
SKY_SIGMA = np.array([0.018, 0.025, 0.042], np.float32)  # nmgy per SDSS pixel in g, r, i: one SDSS exposure
ELECTRONS = np.array([1000.0, 940.0, 740.0], np.float32)  # per nmgy in g, r, i: sets the photon noise
WARP = 0.5  # native px: blur of signal and noise when the cutout server rotates the picture to north up
PSF_OF_BAND = (1.08, 1.0, 0.96)  # seeing relative to r


def sky_sigma(telescope: Telescope) -> Floats:
    """Return the noise of the sky in g, r, i [nmgy per pixel of the telescope]."""
    return SKY_SIGMA * np.float32(telescope.pixel_scale / SDSS_PIXEL / math.sqrt(telescope.exposure))


def electrons(telescope: Telescope) -> Floats:
    """Return the recorded electrons per nmgy in g, r, i."""
    return ELECTRONS * np.float32(telescope.exposure)


def band_ratios(g_r: float, r_i: float) -> Floats:
    """Return the flux in g, r, i for unit flux in r."""
    return np.array([10 ** (-0.4 * g_r), 1.0, 10 ** (0.4 * r_i)], np.float32)


def stretch(sky: Floats, telescope: Telescope = SDSS) -> npt.NDArray[np.uint8]:
    """Return the colour picture, uint8 `[n, n, 3]`, of recorded light."""
    per_sdss_pixel = sky * np.float32((SDSS_PIXEL / telescope.pixel_scale) ** 2)
    red, green, blue = telescope.band_weights
    with np.errstate(invalid="ignore"):  # astropy divides 0 by 0 where all bands are below the minimum, then drops it
        rgb: npt.NDArray[np.uint8] = make_lupton_rgb(
            red * per_sdss_pixel[2],
            green * per_sdss_pixel[1],
            blue * per_sdss_pixel[0],
            minimum=0.01,
            stretch=telescope.stretch,
            Q=telescope.softening,
        )
    return rgb


def add_neighbours(light: Floats, rng: np.random.Generator, telescope: Telescope = SDSS) -> None:
    """Add uniformly distributed stars and faint galaxies to `light`, in place.

    Their numbers are those of high galactic latitude.
    """
    side = light.shape[1]
    arcmin2 = (side * telescope.pixel_scale / 60) ** 2
    deeper = 1.25 * math.log10(telescope.exposure)  # mag
    finer = SDSS_PIXEL / telescope.pixel_scale
    count = rng.poisson(1.6 * arcmin2 * 10 ** (0.2 * deeper))
    for magnitude in magnitudes(rng, count, slope=0.2, faintest=21.5 + deeper):
        temperature = rng.uniform()
        add_stamp(light, rng, magnitude, (0.2 + 1.2 * temperature, 0.05 + 1.0 * temperature**2), radius=0.0)
    count = rng.poisson(3.0 * arcmin2 * 10 ** (0.4 * deeper))
    for magnitude in magnitudes(rng, count, slope=0.4, faintest=22.0 + deeper):
        colour = rng.uniform(0.3, 1.5), rng.uniform(0.1, 0.6)
        add_stamp(light, rng, magnitude, colour, radius=rng.uniform(0.5, 2.2) * finer)


def magnitudes(rng: np.random.Generator, count: int, slope: float, faintest: float) -> list[float]:
    """Draw magnitudes; counts grow as 10**(slope * magnitude) up to `faintest`.

    None is brighter than 15.
    """
    return [max(15.0, float(faintest + np.log10(u) / slope)) for u in rng.uniform(1e-6, 1.0, count)]


def add_stamp(
    light: Floats, rng: np.random.Generator, magnitude: float, colour: tuple[float, float], radius: float
) -> None:
    """Add a star (radius 0) or a small exponential galaxy at a random place.

    `radius` is the scale length in native px.
    """
    side, half = light.shape[1], max(9, round(4 * radius))
    row, column = rng.uniform(0, side, 2)
    angle, axis_ratio = rng.uniform(0, np.pi), rng.uniform(0.3, 1.0)
    top, left = max(0, int(row) - half), max(0, int(column) - half)
    rows = np.arange(top, min(side, int(row) + half + 1), dtype=np.float32)[:, None] - np.float32(row)
    columns = np.arange(left, min(side, int(column) + half + 1), dtype=np.float32)[None] - np.float32(column)
    if radius:
        along = math.cos(angle) * columns + math.sin(angle) * rows
        across = (math.cos(angle) * rows - math.sin(angle) * columns) / axis_ratio
        shape = np.exp(-np.sqrt(along**2 + across**2 + 0.1) / radius)
    else:
        shape = np.maximum(0, 1 - np.abs(rows)) * np.maximum(0, 1 - np.abs(columns))
    total = shape.sum()
    if total > 0:
        flux = 10 ** (0.4 * (ZERO_POINT - magnitude)) / total
        stamp = band_ratios(*colour)[:, None, None] * (shape * flux)
        light[:, top : top + shape.shape[0], left : left + shape.shape[1]] += stamp


def observe(light: Floats, psf_fwhm: float, rng: np.random.Generator, telescope: Telescope = SDSS) -> Floats:
    """Return the recorded light [nmgy per px]: blurred, shifted between bands, noisy.

    The shifts are small.
    """
    sky, gain = sky_sigma(telescope), electrons(telescope)
    side = light.shape[1]
    shifts = rng.normal(0, 0.12, (3, 2))  # native px: they cause the coloured rims of real SDSS composites
    pedestal = rng.normal((0.002, 0.006, 0.005), 0.002)  # nmgy per SDSS pixel: residual of the sky subtraction
    pedestal *= (telescope.pixel_scale / SDSS_PIXEL) ** 2
    noise = rng.standard_normal(light.shape, np.float32)
    recorded = np.empty_like(light)
    for band, scale in enumerate(PSF_OF_BAND):
        sigma = scale * psf_fwhm / telescope.pixel_scale / 2.355
        blurred = fft.irfft2(fft.rfft2(light[band]) * psf_transfer(side, sigma, *shifts[band]), s=(side, side))
        variance = sky[band] ** 2 + np.maximum(blurred, 0) / gain[band]
        noisy = blurred + np.float32(pedestal[band]) + np.sqrt(variance) * noise[band]
        recorded[band] = ndimage.gaussian_filter(noisy, WARP, mode="wrap", truncate=3)
    return recorded


def psf_transfer(side: int, sigma: float, down: float, right: float) -> npt.NDArray[np.complex64]:
    """Return the Fourier transform (`rfft2`) of a shifted PSF with two wider wings.

    The later blur `WARP` of signal and noise is subtracted. The core of both together has the
    width `sigma` [px].
    """
    fy, fx = np.fft.fftfreq(side), np.fft.rfftfreq(side)
    shape = np.zeros((side, fx.size), np.float32)
    for weight, widening in ((0.89, 1.0), (0.1, 6.0), (0.01, 30.0)):
        falloff = -2 * np.pi**2 * (widening * sigma**2 - WARP**2)
        shape += np.outer(weight * np.exp(falloff * fy**2), np.exp(falloff * fx**2)).astype(np.float32)
    shift = np.outer(np.exp(-2j * np.pi * fy * down), np.exp(-2j * np.pi * fx * right)).astype(np.complex64)
    return shape * shift
