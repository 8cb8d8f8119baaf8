"""Take galaxies apart, and put parts of different ones together.

A picture is the sum of a bulge, a disk, the structure on them (bars, arms, lanes), companions, and
the rest, which is sky and noise. A recombined galaxy has bulge and structure of a donor, which
decide its class, and disk, size, colours, inclination and noise of a host, whose companions move.

The idea is that of DecAug (Fang et al. 2020, arXiv:2010.01007): appearance is exchanged between
similar objects, and parts move to places where they may be. The decomposition here is our own.
Light is linear, in units of white, see `simulation.injections.base`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from raydistill.galaxies.pictures.alignment import MIN_SIGMA, Shape, measure_shape, pixel_offsets
from raydistill.morphology.structure import central_source, find_sources
from raydistill.simulation.injections.base import above_sky, to_light, to_picture

Light = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Range = tuple[float, float]

SIGMAS, MIN_AREA = 3.0, 5  # threshold of a source, and its smallest area [px]
OUTSKIRTS = (1.2, 3.0)  # radii, in standard deviations, between which the disk alone shines
EXTENT = (2.5, 4.0)  # the light of a galaxy fades to none between these radii
RINGS_PER_SIGMA = 4
FAINTEST = 1e-4  # mean light of a pixel below which a galaxy counts as absent
PLACES = 8  # random directions that are tried for a companion
FREE = 0.8  # share of its light that must lie outside the galaxy and inside the picture


class Parts(NamedTuple):
    """The parts of a picture, each float64 [H, W, 3]. They sum to its light.

    Attributes
    ----------
    bulge, disk
        Symmetric light: the same everywhere on an ellipse. The disk falls exponentially.
    structure
        What the galaxy has beside them. It may be negative.
    companions
        Other sources.
    background
        Sky and noise.
    shape
        The ellipse of the galaxy.
    """

    bulge: Light
    disk: Light
    structure: Light
    companions: Light
    background: Light
    shape: Shape

    @property
    def galaxy(self) -> Light:
        """Return the light of the galaxy."""
        return self.bulge + self.disk + self.structure


def decompose(picture: np.ndarray, contrast: float) -> Parts:
    """Return the parts of a picture.

    Parameters
    ----------
    picture : uint8 `[H, W, 3]`
        A galaxy at its centre, row 0 at the top.
    contrast
        Of its stretch.

    Notes
    -----
    Sources are separated by photutils. The symmetric light of the galaxy is, in each channel, the
    median of rings that have its shape, made to fall outwards. An exponential is fitted to its
    outskirts; what the profile has above it is the bulge. A profile that does not fall there has no
    disk.
    """
    light = to_light(picture, contrast)
    above, sources = above_sky(light), find_sources(light, SIGMAS, MIN_AREA)
    central = central_source(sources)
    shape = _shape(above.mean(axis=2) * (sources == central)) if central else measure_shape(picture)
    radius_HW = _elliptical_radius(shape, *picture.shape[:2])
    other_HW1 = ((sources > 0) & (sources != central))[..., None]
    ramp_HW1 = np.clip((EXTENT[1] - radius_HW) / (EXTENT[1] - EXTENT[0]), 0, 1)[..., None] * (central > 0)
    taper_HW1 = ramp_HW1**2 * (3 - 2 * ramp_HW1)
    symmetric, disk = (light * taper_HW1 for light in _profiles(above, radius_HW, ~other_HW1[..., 0] & (central > 0)))
    companions = np.where(other_HW1, np.maximum(above - symmetric, 0.0), 0.0)
    structure = np.where(other_HW1, np.minimum(above - symmetric, 0.0), above * taper_HW1 - symmetric)
    return Parts(symmetric - disk, disk, structure, companions, light - symmetric - structure - companions, shape)


def recombine(donor: Parts, host: Parts, contrast: float, rng: np.random.Generator) -> np.ndarray:
    """Return a galaxy with parts of two, uint8 `[H, W, 3]`.

    Parameters
    ----------
    donor
        Gives bulge and structure, and the disk's share of the light.
    host
        Gives the form of the disk, size, inclination, flux of each channel, sky and noise. Its
        companions keep their distance, and get another direction where they overlap no galaxy.
    contrast
        Of the stretch.
    rng
        Decides the handedness of the structure, and the places of the companions.

    Notes
    -----
    Without a galaxy in one of the two pictures that of the donor is returned.
    """
    given, wanted = _flux(donor.galaxy), _flux(host.galaxy)
    if min(wanted.min(), given.min()) <= FAINTEST * math.prod(host.background.shape[:2]):
        return to_picture(sum_of(donor), contrast)
    sides = rng.choice([-1.0, 1.0], 2)
    inner = _moved(donor.bulge + donor.structure, donor.shape, host.shape, sides)
    disk = host.disk if host.disk.sum() > 0 else _moved(donor.disk, donor.shape, host.shape, sides)
    area = donor.shape.radius**2 / host.shape.radius**2  # a larger galaxy of equal flux is fainter
    share = _flux(donor.disk) / np.maximum(_flux(disk), FAINTEST)
    light = host.background + wanted / given * (share * disk + area * inner)
    labels_HW, number = ndimage.label(host.companions.sum(axis=2) > 0)
    for companion in range(1, number + 1):
        layer = host.companions * (labels_HW == companion)[..., None]
        light = light + _placed(layer, host.shape, rng, lambda own: own, free=FREE)
    return to_picture(light, contrast)


def add_companion(
    donor: Parts, host: Parts, contrast: float, rng: np.random.Generator, separation: Range, flux: Range
) -> np.ndarray:
    """Return the host's picture with the donor's galaxy beside it, as in a pair.

    Parameters
    ----------
    donor, host, contrast
        As in `recombine`.
    rng
        Decides separation, direction and flux.
    separation
        Between the galaxies, in units of the host's `Shape.radius`.
    flux
        Of the companion, relative to the host's. 0: the picture stays as it is.

    Returns
    -------
    uint8 `[H, W, 3]`
    """
    far, share = host.shape.radius * rng.uniform(*separation), rng.uniform(*flux)
    scale = share * _flux(host.galaxy).sum() / max(_flux(donor.galaxy).sum(), FAINTEST)
    layer = _placed(donor.galaxy, host.shape, rng, lambda own: far, free=-math.inf)
    return to_picture(sum_of(host) + max(scale, 0.0) * layer, contrast)


def sum_of(parts: Parts) -> Light:
    """Return the light of the whole picture."""
    return parts.galaxy + parts.companions + parts.background


@dataclass(frozen=True)
class Likeness:
    """Find galaxies that are like a given one.

    Attributes
    ----------
    measured_NF
        float64 [N, 5]: logarithms of the radius, of the axis ratio, of the brightness and of two
        colours, standardised.
    """

    measured_NF: npt.NDArray[np.float64]

    @staticmethod
    def of(pictures: Iterable[np.ndarray]) -> Likeness:
        """Measure N pictures, each uint8 [H, W, 3]."""
        rows = []
        for picture in pictures:
            shape = measure_shape(picture)
            levels = picture[_elliptical_radius(shape, *picture.shape[:2]) < 1].reshape(-1, 3).astype(float)
            red, green, blue = levels.mean(axis=0) + 1 if len(levels) else np.ones(3)
            ratios = shape.radius, shape.minor / shape.major, green, red / green, blue / green
            rows.append([math.log(ratio) for ratio in ratios])
        measured = np.array(rows)
        return Likeness((measured - measured.mean(axis=0)) / np.maximum(measured.std(axis=0), 1e-9))

    def nearest(self, row: int, number: int) -> npt.NDArray[np.int64]:
        """Return the galaxies most like one, without it; itself if there is no other."""
        distance_N = ((self.measured_NF - self.measured_NF[row]) ** 2).sum(axis=1).round(9)
        distance_N[row] = np.inf if len(distance_N) > 1 else 0.0
        return np.argsort(distance_N, kind="stable")[: max(1, min(number, len(distance_N) - 1))]


def _shape(light_HW: Light) -> Shape:
    """Return the ellipse with the second moments of a lone source.

    `measure_shape` gives more weight to the middle, and so a small ellipse to a bright bulge in a
    faint disk.
    """
    weight_HW = np.maximum(light_HW, 0) / max(np.maximum(light_HW, 0).sum(), FAINTEST)
    y_H1, x_1W = pixel_offsets(light_HW)
    x, y = float((weight_HW * x_1W).sum()), float((weight_HW * y_H1).sum())
    xx, yy, xy = ((weight_HW * term).sum() for term in ((x_1W - x) ** 2, (y_H1 - y) ** 2, (x_1W - x) * (y_H1 - y)))
    root, mean = math.hypot((xx - yy) / 2, xy), (xx + yy) / 2
    major, minor = (math.sqrt(max(mean + part, MIN_SIGMA**2)) for part in (root, -root))
    return Shape(*(round(value, 2) for value in (x, y, major, minor, math.degrees(math.atan2(2 * xy, xx - yy)) / 2)))


def _elliptical_radius(shape: Shape, height: int, width: int) -> Light:
    """Return each pixel's radius on the galaxy's ellipses, in standard deviations."""
    along, across = shape.coordinates(height, width)
    return np.hypot(along * shape.radius / shape.major, across * shape.radius / shape.minor)


def _profiles(above: Light, radius_HW: Light, alone_HW: Bools) -> tuple[Light, Light]:
    """Return the symmetric light, and that of the disk in it.

    Pixels that are not `alone`, where a companion shines too, do not count.
    """
    edges = np.arange(0, EXTENT[1] + 1e-9, 1 / RINGS_PER_SIGMA)
    ring_HW = np.digitize(radius_HW, edges) - 1
    middles, rings = [], []
    for number in range(len(edges) - 1):
        of_ring = alone_HW & (ring_HW == number)
        if of_ring.any():
            middles.append(float(radius_HW[of_ring].mean()))
            rings.append(np.median(above[of_ring], axis=0))
    if not rings:
        return np.zeros_like(above), np.zeros_like(above)
    radii_R = np.array(middles)
    profile_RC = np.minimum.accumulate(np.maximum(np.array(rings), 0.0), axis=0)
    profile = np.stack([np.interp(radius_HW, radii_R, ring) for ring in profile_RC.T], axis=-1)
    return profile, np.minimum(_exponential(radii_R, profile_RC, radius_HW), profile)


def _exponential(radii_R: np.ndarray, profile_RC: np.ndarray, radius_HW: Light) -> Light:
    """Return the disk that fits the outskirts of a profile; 0 if it does not fall."""
    mean_R = profile_RC.mean(axis=1)
    outer = (radii_R >= OUTSKIRTS[0]) & (radii_R <= OUTSKIRTS[1]) & (mean_R > 0)
    if outer.sum() < 3:
        return np.zeros((*radius_HW.shape, 3))
    slope, intercept = np.polyfit(radii_R[outer], np.log(mean_R[outer]), 1, w=np.sqrt(mean_R[outer]))
    if slope >= 0:
        return np.zeros((*radius_HW.shape, 3))
    colour_C = profile_RC[outer].sum(axis=0) / mean_R[outer].sum()
    return np.exp(intercept + slope * radius_HW)[..., None] * colour_C


def _moved(light: Light, source: Shape, target: Shape, sides: np.ndarray) -> Light:
    """Return light of one ellipse on another; `sides` mirrors its axes."""
    height, width = light.shape[:2]
    along, across = target.coordinates(height, width)
    u = sides[0] * along * target.radius / target.major * source.major
    v = sides[1] * across * target.radius / target.minor * source.minor
    angle = math.radians(source.angle)
    x = source.x + math.cos(angle) * u - math.sin(angle) * v
    y = source.y + math.sin(angle) * u + math.cos(angle) * v
    points = [height / 2 - 0.5 - y, width / 2 - 0.5 + x]
    return np.stack([ndimage.map_coordinates(c, points, order=1) for c in np.moveaxis(light, 2, 0)], axis=-1)


def _placed(
    layer: Light, galaxy: Shape, rng: np.random.Generator, distance: Callable[[float], float], free: float
) -> Light:
    """Return a companion's light in a random direction; none if it finds no place.

    `distance` gives its distance from the galaxy [px] for its own one, and `free` is the share of
    its light that must lie outside the galaxy and inside the picture.
    """
    height, width = layer.shape[:2]
    weight_HW = np.maximum(layer.sum(axis=2), 0)
    if (total := weight_HW.sum()) <= 0:
        return np.zeros_like(layer)
    outside_HW = _elliptical_radius(galaxy, height, width) >= EXTENT[0]
    middle = np.array([height / 2 - 0.5 - galaxy.y, width / 2 - 0.5 + galaxy.x])
    own = np.array(ndimage.center_of_mass(weight_HW)) - middle
    far = distance(float(np.hypot(*own)))
    for azimuth in rng.uniform(0, 2 * math.pi, PLACES):
        down, right = far * np.array([-math.sin(azimuth), math.cos(azimuth)]) - own
        moved = ndimage.shift(layer, (down, right, 0), order=1)
        if moved[outside_HW].sum() >= free * total:
            return moved
    return np.zeros_like(layer)


def _flux(light: Light) -> npt.NDArray[np.float64]:
    """Return the light of each channel, [3]."""
    return light.sum(axis=(0, 1))
