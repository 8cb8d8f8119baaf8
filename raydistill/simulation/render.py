"""Render the picture of a simulated galaxy from its true parameters.

A galaxy is a sum of components: bulge, disk, arms, bar, ring, companion. Each component is a map of
relative light with a share of the flux and a colour. A dust lane may absorb part of the light.

The steps are:

1. Render the sum in nanomaggies at the SDSS pixel scale, 0.396 arcsec.
2. Blur it with the PSF, and add neighbours and noise.
3. Apply the stretch of Lupton et al. 2004 (PASP 116, 133).
4. Resample to the picture, which is 8.48 Petrosian R90 wide. So noise is correlated as in Galaxy
   Zoo 2.

Geometry: north is up and east is left. `u` runs along the major axis, and `v` is anticlockwise of
it. The winding sense multiplies `v`. So a galaxy of the other winding at the mirrored position
angle is exactly the mirror image.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from astropy.visualization import make_lupton_rgb
from PIL import Image
from scipy import fft, ndimage

from raydistill.seeding import fold_in
from raydistill.simulation.config import SimulatedSurvey

Floats = npt.NDArray[np.float32]

FRAME_R90 = SimulatedSurvey.frame_r90  # width of a picture
NATIVE_ARCSEC = 0.396  # SDSS pixel
ZERO_POINT = 22.5  # magnitude of one nanomaggy
MARGIN = 6  # native px around the frame, so that the periodic blur does not wrap into it
SKY_SIGMA = np.array([0.018, 0.025, 0.042], np.float32)  # nmgy per native pixel in g, r, i: one SDSS exposure
ELECTRONS = np.array([1000.0, 940.0, 740.0], np.float32)  # per nmgy in g, r, i: sets the photon noise
EXTINCTION = np.array([1.25, 1.0, 0.75], np.float32)  # of dust in g, r, i relative to r
WARP = 0.5  # native px: blur of signal and noise when the cutout server rotates the picture to north up
PSF_OF_BAND = (1.08, 1.0, 0.96)  # seeing relative to r
K_CORRECTION = 1.0  # mag of g-r and r-i per unit of redshift: fixed bands redden with distance
# Mean colours of SDSS, with r-i redder by 0.04 to 0.08, to match the published channel means and
# spreads.
OLD, DISK, YOUNG = (0.78, 0.42), (0.52, 0.33), (0.22, 0.18)  # g-r and r-i of the stars of each component


@dataclass(frozen=True)
class Truth:
    """The true parameters of one simulated galaxy.

    Lengths are in units of 3.9 scale lengths of the disk, about `petro_r90`. The scale length is
    set so that a circle of radius `petro_r90` holds 90 % of the light. 0 means none.
    """

    class_: int  # 0 to 8, the class order of the paper
    petro_r90: float  # arcsec
    magnitude: float  # r band, total
    redshift: float
    psf_fwhm: float  # arcsec, r band
    axis_ratio: float  # apparent, of the disk or of the smooth body; for an edge-on disk its thickness
    position_angle: float  # deg, east of north, of the major axis
    bulge_fraction: float  # of the light without bar, arms and ring
    bulge_radius: float  # half-light, relative to the disk's scale length
    sersic_n: float  # of the bulge
    reddening: float = 0.0  # mag added to g-r (and half of it to r-i) of all components
    num_arms: int = 0
    pitch_angle: float = 0.0  # deg
    winding: int = 0  # +1: going outwards along an arm turns anticlockwise in the picture; -1: clockwise; 0: no arms
    arm_fraction: float = 0.0  # of the disk's light that sits in the arms
    bar_length: float = 0.0  # half length
    bar_fraction: float = 0.0  # of the light
    bar_angle: float = 0.0  # deg, from the major axis, in the plane of the disk
    ring: float = 0.0  # radius
    dust_lane: float = 0.0  # optical depth in r
    clumpiness: float = 0.0  # standard deviation of the log of the young stars' light
    companion: float = 0.0  # flux of a disturbing neighbour relative to the galaxy's


class Component(NamedTuple):
    light: Floats  # any scale
    fraction: float  # of the galaxy's r-band flux, before dust
    colour: tuple[float, float]  # g-r, r-i


def render(truth: Truth, image_size: int, seed: int) -> npt.NDArray[np.uint8]:
    """Render a galaxy as a survey would show it.

    Parameters
    ----------
    truth : Truth
    image_size : int
        Side of the picture [px]; it spans 8.48 `petro_r90`.
    seed : int
        Determines clumps, neighbours and noise.

    Returns
    -------
    uint8 `[image_size, image_size, 3]`
        Row 0 at the top. Equal arguments give equal bits.

    References
    ----------
    Lupton et al. 2004, PASP 116, 133.
    """
    light = galaxy_light(truth, seed)
    rng = np.random.default_rng(fold_in(seed, "sky"))
    add_neighbours(light, rng)
    sky = observe(light, truth.psf_fwhm, rng)[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
    with np.errstate(invalid="ignore"):  # astropy divides 0 by 0 where all bands are below the minimum, then drops it
        rgb = make_lupton_rgb(0.8 * sky[2], sky[1], 1.4 * sky[0], minimum=0.01, stretch=0.35, Q=10)
    return np.asarray(Image.fromarray(rgb).resize((image_size, image_size), Image.Resampling.BICUBIC))


def encode_jpeg(picture: npt.NDArray[np.uint8]) -> bytes:
    """Encode as JPEG of quality 85, like the public Galaxy Zoo 2 pictures."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def galaxy_light(truth: Truth, seed: int) -> Floats:
    """Return the galaxy with margin, but without blur or noise.

    The array is float32 `[3 (g, r, i), n, n]`, in nmgy per native px.
    """
    texture = clump_texture(seed)
    unit = length_unit(truth, texture)
    num_pixels = round(FRAME_R90 * truth.petro_r90 / NATIVE_ARCSEC) + 2 * MARGIN
    pixel = NATIVE_ARCSEC / truth.petro_r90 / unit

    coarse, dust = describe(truth, texture, *grid(num_pixels, pixel))
    half = num_pixels // 8  # the steep centre, 1 R90 around, is sampled three times finer
    core = slice(num_pixels // 2 - half, num_pixels - num_pixels // 2 + half)
    width = core.stop - core.start
    fine, fine_dust = describe(truth, texture, *grid(3 * width, pixel / 3))
    dust[core, core] = bin3(fine_dust)

    flux = 10 ** (0.4 * (ZERO_POINT - truth.magnitude))
    light = np.zeros((3, num_pixels, num_pixels), np.float32)
    for whole, centre in zip(coarse, fine, strict=True):
        whole.light[core, core] = bin3(centre.light)
        scaled = whole.light * np.float32(flux * whole.fraction / whole.light.sum(dtype=np.float64))
        light += band_ratios(*observed_colour(truth, whole.colour))[:, None, None] * scaled
    if truth.dust_lane:
        light *= np.exp(-EXTINCTION[:, None, None] * dust)
    return light


def describe(truth: Truth, texture: Floats, x: Floats, y: Floats) -> tuple[list[Component], Floats]:
    """Return the components and the r-band optical depth of the dust at points (x right, y up)."""
    angle = math.radians(truth.position_angle)
    u = -math.sin(angle) * x + math.cos(angle) * y
    v = (-math.cos(angle) * x - math.sin(angle) * y) * np.float32(truth.winding or 1)
    if truth.class_ in (3, 4):
        parts = edge_on_components(truth, u, v)
    elif truth.class_ <= 2:
        parts = smooth_components(truth, u, v)
    else:
        parts = face_on_components(truth, texture, u, v / np.float32(truth.axis_ratio))
    if truth.companion:
        parts = [*parts, companion_component(truth, u, v)]
    width = 0.055 if truth.class_ in (3, 4) else 0.12 * truth.axis_ratio
    dust = np.float32(truth.dust_lane) * np.exp(-(((v - 0.03) / width) ** 2) / 2 - (u / 0.75) ** 4)
    return parts, dust.astype(np.float32)


SCALE_LENGTH = 1 / 3.9  # an exponential disk has 90 % of its light within 3.9 scale lengths


def smooth_components(truth: Truth, u: Floats, v: Floats) -> list[Component]:
    radius = elliptical_radius(u, v, truth.axis_ratio)
    envelope_colour = OLD if truth.reddening >= 0 else DISK
    return [
        Component(sersic(radius / (truth.bulge_radius * SCALE_LENGTH), truth.sersic_n), truth.bulge_fraction, OLD),
        Component(np.exp(-radius / SCALE_LENGTH), 1 - truth.bulge_fraction, envelope_colour),
    ]


def edge_on_components(truth: Truth, u: Floats, v: Floats) -> list[Component]:
    """Return a bulge and a disk exp(-R/h) sech²(z/h_z) with h_z = 1.7 `axis_ratio` h.

    The disk has a soft edge at 4.5 h.
    """
    along = np.sqrt(u**2 + (0.15 * SCALE_LENGTH) ** 2) / SCALE_LENGTH
    height = np.minimum(np.abs(v) / (1.7 * truth.axis_ratio * SCALE_LENGTH), 20)
    disk = np.exp(-along - (along / 4.5) ** 6) / np.cosh(height) ** 2
    bulge = sersic(elliptical_radius(u, v, 0.72) / (truth.bulge_radius * SCALE_LENGTH), truth.sersic_n)
    return [Component(bulge, truth.bulge_fraction, OLD), Component(disk, 1 - truth.bulge_fraction, DISK)]


def face_on_components(truth: Truth, texture: Floats, u: Floats, v: Floats) -> list[Component]:
    """Return an inclined thin disk with a rounder bulge; `u`, `v` are coordinates in its plane."""
    radius = np.sqrt(u**2 + v**2)
    bulge_axis_ratio = truth.axis_ratio**0.4
    bulge_radius = elliptical_radius(u, v * np.float32(truth.axis_ratio), bulge_axis_ratio)
    bulge = sersic(bulge_radius / (truth.bulge_radius * SCALE_LENGTH), truth.sersic_n)
    disk = np.exp(-radius / SCALE_LENGTH)
    rest = 1 - truth.bar_fraction
    ring_fraction = 0.22 if truth.ring else 0.0
    young = truth.arm_fraction * (1 - truth.bulge_fraction)
    parts = [
        Component(bulge, rest * truth.bulge_fraction, OLD),
        Component(disk, rest * (1 - truth.bulge_fraction - young) * (1 - ring_fraction), DISK),
    ]
    clumps = clump_map(texture, u, v, truth.clumpiness) if truth.clumpiness else np.ones_like(disk)
    if truth.arm_fraction:
        shape = arms(truth, texture, u, v, radius) if truth.num_arms else np.ones_like(disk)
        broad = np.exp(-radius / (1.25 * SCALE_LENGTH))
        parts.append(Component(broad * shape * clumps, rest * young * (1 - ring_fraction), YOUNG))
    if truth.ring:
        band = np.exp(-(((radius - truth.ring) / 0.075) ** 2) / 2) * clumps
        parts.append(Component(band, rest * (1 - truth.bulge_fraction) * ring_fraction, YOUNG))
    if truth.bar_length:
        parts.append(Component(bar(truth, u, v), truth.bar_fraction, OLD))
    return parts


def arms(truth: Truth, texture: Floats, u: Floats, v: Floats, radius: Floats) -> Floats:
    """Return logarithmic spirals.

    Their ridges are at num_arms * (angle - ln(r/r0) / tan(pitch)) = 0 mod 2 pi.
    They start at the ends of the bar, or at 0.5 scale lengths. They deviate a little, like real
    arms.
    """
    start = truth.bar_length or 0.5 * SCALE_LENGTH
    turns = np.log(np.maximum(radius, 0.02) / start) / math.tan(math.radians(truth.pitch_angle))
    wander = 0.55 * sample(texture, 0.35 * u + 1.1, 0.35 * v - 0.7)
    phase = truth.num_arms * (np.arctan2(v, u) - math.radians(truth.bar_angle) - turns) + wander
    ridge = np.exp(2.2 * (np.cos(phase) - 1))
    begin = 1 / (1 + (0.9 * start / np.maximum(radius, 1e-3)) ** 6)
    return np.asarray((ridge + 0.04) * begin, np.float32)


def bar(truth: Truth, u: Floats, v: Floats) -> Floats:
    """Return a super-Gaussian bar with a sharp end, in the plane of the disk."""
    angle = math.radians(truth.bar_angle)
    along = (math.cos(angle) * u + math.sin(angle) * v) / np.float32(truth.bar_length)
    across = (math.cos(angle) * v - math.sin(angle) * u) / np.float32(0.24 * truth.bar_length)
    return np.exp(-((along**2 + 0.02) ** 1.6) - np.abs(across) ** 1.7)


def companion_component(truth: Truth, u: Floats, v: Floats) -> Component:
    """Return a second nucleus or satellite, elongated towards the galaxy as by a tide."""
    light = np.exp(-np.hypot((u - 0.32) / 0.2, (v - 0.42) / 0.13))
    return Component(light, truth.companion, DISK)


def elliptical_radius(u: Floats, v: Floats, axis_ratio: float) -> Floats:
    return np.sqrt(u**2 + (v / np.float32(axis_ratio)) ** 2)


def sersic(radius: Floats, n: float) -> Floats:
    """Return the Sérsic profile; `radius` in half-light radii.

    b_n is that of Ciotti & Bertin 1999 (n > 0.5).
    """
    b = 2 * n - 1 / 3 + 4 / (405 * n)
    return np.exp(np.float32(-b) * (radius ** np.float32(1 / n) - 1))


def observed_colour(truth: Truth, colour: tuple[float, float]) -> tuple[float, float]:
    """Return g-r and r-i [mag] of a component after reddening and redshift."""
    shift = K_CORRECTION * truth.redshift
    return colour[0] + truth.reddening + shift, colour[1] + truth.reddening / 2 + shift


def band_ratios(g_r: float, r_i: float) -> Floats:
    """Return the flux in g, r, i for unit flux in r."""
    return np.array([10 ** (-0.4 * g_r), 1.0, 10 ** (0.4 * r_i)], np.float32)


def length_unit(truth: Truth, texture: Floats) -> float:
    """Return `petro_r90` per unit length: 1 / radius of the circle that holds 90 % of the light."""
    num_pixels, pixel = 64, 6.0 / 64
    x, y = grid(num_pixels, pixel)
    parts, _ = describe(replace(truth, clumpiness=0.0, companion=0.0), texture, x, y)
    total = sum(part.light * np.float32(part.fraction / part.light.sum(dtype=np.float64)) for part in parts)
    radius = np.sqrt(x**2 + y**2).ravel()
    order = np.argsort(radius, kind="stable")
    enclosed = np.cumsum(np.asarray(total).ravel()[order], dtype=np.float64)
    return float(1.0 / radius[order][np.searchsorted(enclosed, 0.9 * enclosed[-1])])


def grid(num_pixels: int, pixel: float) -> tuple[Floats, Floats]:
    """Return x (right) and y (up) of the pixel centres, float32 `[num_pixels, num_pixels]` each."""
    axis = ((np.arange(num_pixels) - (num_pixels - 1) / 2) * pixel).astype(np.float32)
    x, y = np.meshgrid(axis, -axis)
    return x, y


def bin3(fine: Floats) -> Floats:
    side = fine.shape[0] // 3
    return fine.reshape(side, 3, side, 3).mean(axis=(1, 3), dtype=np.float32)


def clump_texture(seed: int) -> Floats:
    """Return periodic smoothed noise with mean 0 and variance 1, float32 `[128, 128]`."""
    rng = np.random.default_rng(fold_in(seed, "texture"))
    field = ndimage.gaussian_filter(rng.standard_normal((128, 128), np.float32), 2.5, mode="wrap")
    return (field - field.mean()) / field.std()


def sample(texture: Floats, u: Floats, v: Floats) -> Floats:
    """Return the texture at (u, v), linearly interpolated, with 36 of its pixels per unit length."""
    return ndimage.map_coordinates(texture, np.stack([36 * u, 36 * v]), order=1, mode="grid-wrap", output=np.float32)


def clump_map(texture: Floats, u: Floats, v: Floats, clumpiness: float) -> Floats:
    """Return star-forming clumps: log-normal noise with mean about 1 in the plane of the disk."""
    return np.exp(np.float32(clumpiness) * sample(texture, u, v) - np.float32(clumpiness**2 / 2))


def add_neighbours(light: Floats, rng: np.random.Generator) -> None:
    """Add uniformly distributed stars and faint galaxies to `light`, in place.

    Their numbers are those of high galactic latitude.
    """
    side = light.shape[1]
    arcmin2 = (side * NATIVE_ARCSEC / 60) ** 2
    for magnitude in magnitudes(rng, rng.poisson(1.6 * arcmin2), slope=0.2, faintest=21.5):
        temperature = rng.uniform()
        add_stamp(light, rng, magnitude, (0.2 + 1.2 * temperature, 0.05 + 1.0 * temperature**2), radius=0.0)
    for magnitude in magnitudes(rng, rng.poisson(3.0 * arcmin2), slope=0.4, faintest=22.0):
        add_stamp(light, rng, magnitude, (rng.uniform(0.3, 1.5), rng.uniform(0.1, 0.6)), radius=rng.uniform(0.5, 2.2))


def magnitudes(rng: np.random.Generator, count: int, slope: float, faintest: float) -> list[float]:
    """Draw magnitudes from counts that grow as 10**(slope * magnitude) up to `faintest`.

    None is brighter than 15.
    """
    return [max(15.0, float(faintest + np.log10(u) / slope)) for u in rng.uniform(1e-6, 1.0, count)]


def add_stamp(
    light: Floats, rng: np.random.Generator, magnitude: float, colour: tuple[float, float], radius: float
) -> None:
    """Add a star (radius 0) or a small exponential galaxy at a random place.

    `radius` is the scale length in native px.
    """
    side, half = light.shape[1], 9
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


def observe(light: Floats, psf_fwhm: float, rng: np.random.Generator) -> Floats:
    """Return the recorded light [nmgy per px]: blurred, with small shifts between bands, with noise."""
    side = light.shape[1]
    shifts = rng.normal(0, 0.12, (3, 2))  # native px: they cause the coloured rims of real SDSS composites
    pedestal = rng.normal((0.002, 0.006, 0.005), 0.002)  # nmgy: residual of the sky subtraction
    noise = rng.standard_normal(light.shape, np.float32)
    recorded = np.empty_like(light)
    for band, scale in enumerate(PSF_OF_BAND):
        sigma = scale * psf_fwhm / NATIVE_ARCSEC / 2.355
        blurred = fft.irfft2(fft.rfft2(light[band]) * psf_transfer(side, sigma, *shifts[band]), s=(side, side))
        variance = SKY_SIGMA[band] ** 2 + np.maximum(blurred, 0) / ELECTRONS[band]
        noisy = blurred + np.float32(pedestal[band]) + np.sqrt(variance) * noise[band]
        recorded[band] = ndimage.gaussian_filter(noisy, WARP, mode="wrap", truncate=3)
    return recorded


def psf_transfer(side: int, sigma: float, down: float, right: float) -> npt.NDArray[np.complex64]:
    """Return the Fourier transform, for `rfft2`, of a shifted PSF with two wider wings.

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
