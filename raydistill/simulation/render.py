"""Render the picture of a simulated galaxy from its true parameters.

A galaxy is a sum of components: bulge, disk, arms, bar, ring, companion. Each component is a map of
relative light with a share of the flux and a colour. A dust lane may absorb part of the light.

The steps are:

1. Render the sum in nanomaggies at the pixel scale of the telescope, 0.396 arcsec for SDSS.
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
from PIL import Image
from scipy import ndimage

from raydistill.seeding import fold_in
from raydistill.simulation.config import SDSS, SimulatedSurvey, Telescope
from raydistill.simulation.injections.base import bin_points
from raydistill.simulation.sky import ZERO_POINT, Floats, add_neighbours, band_ratios, observe, stretch

FRAME_R90 = SimulatedSurvey.frame_r90  # width of a picture
MARGIN = 6  # native px around the frame, so that next to none of the periodic blur wraps into it
EXTINCTION = np.array([1.25, 1.0, 0.75], np.float32)  # of dust in g, r, i relative to r
K_CORRECTION = 1.0  # mag of g-r and r-i per unit of redshift: fixed bands redden with distance
# Mean colours of SDSS, with r-i redder by 0.04 to 0.08, to match the published channel means and
# spreads.
OLD, DISK, YOUNG = (0.78, 0.42), (0.52, 0.33), (0.22, 0.18)  # g-r and r-i of the stars of each component
LENS = 9  # the class
SOURCE = (-0.05, 0.05)  # g-r and r-i of a lensed galaxy
SOURCE_SIZE = 0.12  # its scale length, relative to the Einstein radius


@dataclass(frozen=True)
class Truth:
    """The true parameters of one simulated galaxy.

    Lengths are in units of 3.9 scale lengths of the disk. The scale length is set so that a circle
    of radius `petro_r90` holds 90 % of the light (`length_unit`); `petro_r90` is .4 to 1.6 units, and
    1 for a face-on disk alone. The profile of a steep bulge is sampled coarsely there, and the circle
    then holds up to 98 %. 0 means none.
    """

    class_: int  # 0 to 8, the class order of the paper; 9: a gravitational lens
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
    einstein_radius: float = 0.0  # of a lens
    arc_flux: float = 0.0  # of the lensed images, relative to the galaxy's
    source_offset: float = 0.0  # of the lensed galaxy from the centre, relative to the Einstein radius
    source_angle: float = 0.0  # deg, from the major axis


class Component(NamedTuple):
    light: Floats  # any scale
    fraction: float  # of the galaxy's r-band flux, before dust
    colour: tuple[float, float]  # g-r, r-i


def render(truth: Truth, image_size: int, seed: int, telescope: Telescope = SDSS) -> npt.NDArray[np.uint8]:
    """Render a galaxy as a survey would show it.

    Parameters
    ----------
    truth : Truth
    image_size : int
        Side of the picture [px]; it spans 8.48 `petro_r90`.
    seed : int
        Determines clumps, neighbours and noise.
    telescope : Telescope
        The PSF is that of `truth`.

    Returns
    -------
    uint8 `[image_size, image_size, 3]`
        Row 0 at the top. Equal arguments give equal bits.

    References
    ----------
    Lupton et al. 2004, PASP 116, 133.
    """
    light = galaxy_light(truth, seed, telescope)
    rng = np.random.default_rng(fold_in(seed, "sky"))
    add_neighbours(light, rng, telescope)
    recorded = observe(light, truth.psf_fwhm, rng, telescope)[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
    rgb = stretch(recorded, telescope)
    return np.asarray(Image.fromarray(rgb).resize((image_size, image_size), Image.Resampling.BICUBIC))


def encode_jpeg(picture: npt.NDArray[np.uint8]) -> bytes:
    """Encode as JPEG of quality 85, like the public Galaxy Zoo 2 pictures."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def galaxy_light(truth: Truth, seed: int, telescope: Telescope = SDSS) -> Floats:
    """Return the galaxy with margin, but without blur or noise.

    The array is float32 `[3 (g, r, i), n, n]`, in nmgy per native px.
    """
    texture = clump_texture(seed)
    unit = length_unit(truth, texture)
    num_pixels = round(FRAME_R90 * truth.petro_r90 / telescope.pixel_scale) + 2 * MARGIN
    pixel = telescope.pixel_scale / truth.petro_r90 / unit

    coarse, dust = describe(truth, texture, *grid(num_pixels, pixel))
    half = num_pixels // 8  # the steep centre, 1 R90 around, is sampled three times finer
    core = slice(num_pixels // 2 - half, num_pixels - num_pixels // 2 + half)
    width = core.stop - core.start
    fine, fine_dust = describe(truth, texture, *grid(3 * width, pixel / 3))
    dust[core, core] = bin_points(fine_dust, 3)

    flux = 10 ** (0.4 * (ZERO_POINT - truth.magnitude))
    light = np.zeros((3, num_pixels, num_pixels), np.float32)
    for whole, centre in zip(coarse, fine, strict=True):
        whole.light[core, core] = bin_points(centre.light, 3)
        scaled = whole.light * np.float32(flux * whole.fraction / whole.light.sum(dtype=np.float64))
        light += band_ratios(*observed_colour(truth, whole.colour))[:, None, None] * scaled
    if truth.dust_lane:
        light *= np.exp(-EXTINCTION[:, None, None] * dust)
    return light


def describe(truth: Truth, texture: Floats, x: Floats, y: Floats) -> tuple[list[Component], Floats]:
    """Return the components and r-band optical depth of dust at (x right, y up)."""
    angle = math.radians(truth.position_angle)
    u = -math.sin(angle) * x + math.cos(angle) * y
    v = (-math.cos(angle) * x - math.sin(angle) * y) * np.float32(truth.winding or 1)
    if truth.class_ in (3, 4):
        parts = edge_on_components(truth, u, v)
    elif truth.class_ <= 2 or truth.class_ == LENS:
        parts = smooth_components(truth, u, v)
    else:
        parts = face_on_components(truth, texture, u, v / np.float32(truth.axis_ratio))
    if truth.companion:
        parts = [*parts, companion_component(truth, u, v)]
    if truth.arc_flux:
        parts = [*parts, lensed_component(truth, u, v)]
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
    """Return an inclined thin disk with a rounder bulge; `u`, `v` lie in its plane."""
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


def lensed_component(truth: Truth, u: Floats, v: Floats) -> Component:
    """Return the arcs: a young disk behind a singular isothermal sphere.

    The sphere's deflection is constant.
    """
    distance = np.maximum(np.hypot(u, v), np.float32(1e-3))
    angle = math.radians(truth.source_angle)
    shrink = 1 - np.float32(truth.einstein_radius) / distance
    offset = truth.source_offset * truth.einstein_radius
    behind = np.hypot(u * shrink - math.cos(angle) * offset, v * shrink - math.sin(angle) * offset)
    light = np.exp(-behind / np.float32(SOURCE_SIZE * truth.einstein_radius))
    return Component(light, truth.arc_flux, SOURCE)


def elliptical_radius(u: Floats, v: Floats, axis_ratio: float) -> Floats:
    return np.sqrt(u**2 + (v / np.float32(axis_ratio)) ** 2)


def sersic(radius: np.ndarray, n: float) -> np.ndarray:
    """Return the Sérsic profile; `radius` in half-light radii.

    b_n is that of Ciotti & Bertin 1999 (n > 0.5).
    """
    b = 2 * n - 1 / 3 + 4 / (405 * n)
    return np.exp(np.float32(-b) * (radius ** np.float32(1 / n) - 1))


def observed_colour(truth: Truth, colour: tuple[float, float]) -> tuple[float, float]:
    """Return g-r and r-i [mag] of a component after reddening and redshift."""
    shift = K_CORRECTION * truth.redshift
    return colour[0] + truth.reddening + shift, colour[1] + truth.reddening / 2 + shift


def length_unit(truth: Truth, texture: Floats) -> float:
    """Return `petro_r90` per unit length: 1 / radius that holds 90 % of the light."""
    num_pixels, pixel = 64, 6.0 / 64
    x, y = grid(num_pixels, pixel)
    parts, _ = describe(replace(truth, clumpiness=0.0, companion=0.0, arc_flux=0.0), texture, x, y)
    total = sum(part.light * np.float32(part.fraction / part.light.sum(dtype=np.float64)) for part in parts)
    radius = np.sqrt(x**2 + y**2).ravel()
    order = np.argsort(radius, kind="stable")
    enclosed = np.cumsum(np.asarray(total).ravel()[order], dtype=np.float64)
    return float(1.0 / radius[order][np.searchsorted(enclosed, 0.9 * enclosed[-1])])


def grid(num_pixels: int, pixel: float) -> tuple[Floats, Floats]:
    """Return x (right) and y (up) of pixel centres.

    Each is float32 `[num_pixels, num_pixels]`.
    """
    axis = ((np.arange(num_pixels) - (num_pixels - 1) / 2) * pixel).astype(np.float32)
    x, y = np.meshgrid(axis, -axis)
    return x, y


def clump_texture(seed: int) -> Floats:
    """Return periodic smoothed noise with mean 0 and variance 1, float32 `[128, 128]`."""
    rng = np.random.default_rng(fold_in(seed, "texture"))
    field = ndimage.gaussian_filter(rng.standard_normal((128, 128), np.float32), 2.5, mode="wrap")
    return (field - field.mean()) / field.std()


def sample(texture: Floats, u: Floats, v: Floats) -> Floats:
    """Return the texture at (u, v), linearly interpolated; 36 pixels per unit length."""
    return ndimage.map_coordinates(texture, np.stack([36 * u, 36 * v]), order=1, mode="grid-wrap", output=np.float32)


def clump_map(texture: Floats, u: Floats, v: Floats, clumpiness: float) -> Floats:
    """Return star-forming clumps: log-normal noise, mean about 1, in the disk's plane."""
    return np.exp(np.float32(clumpiness) * sample(texture, u, v) - np.float32(clumpiness**2 / 2))
