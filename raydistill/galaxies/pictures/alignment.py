"""Measure where the galaxy of a picture is and its ellipse, and turn it upright."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

# Turn a picture so that the major axis of its galaxy is horizontal.
#
# Galaxies have random orientations, and a network with few training pictures must learn that.
# `curate.align` removes the orientation from every split. It measures the position angle of the
# major axis from the second moments of the light, so it needs no labels. A rotation is not a
# mirror image: the winding sense of a spiral stays. Two ambiguities remain:
#
# - which end of the major axis is on the left, and
# - the whole angle of a round galaxy.

MEASUREMENT_SIDE = 100  # px: the central square is shrunk by a whole factor, to at least this side
ALIGNMENT_STEPS = 8
DETECTION_SIGMA = 2.0  # smoothed pixels this many sigma above the sky belong to the galaxy
SMOOTHING = 0.01  # sigma of the smoothing, relative to the side
MAX_WEIGHT_SIGMA = 0.25  # largest sigma of the weight, relative to the side


def position_angle(image: np.ndarray, side: float) -> float:
    """Return the angle of the galaxy's major axis from the horizontal.

    Parameters
    ----------
    image : uint8 `[H, W, 3]`
        A picture with a galaxy at its centre, row 0 at the top.
    side : float
        Side of the central square that matters [px].

    Returns
    -------
    float
        Angle in [-90, 90] deg, counter-clockwise as seen in the picture. 0 if no pixel is brighter
        than the sky.

    Notes
    -----
    The angle comes from the second moments of the central bright region, so separate neighbours do
    not count. A round Gaussian weight, as wide as the light itself, damps neighbours that touch.
    These are the adaptive moments of [1]_, but the weight stays round.

    References
    ----------
    .. [1] Bernstein & Jarvis 2002, AJ 123, 583.
    """
    if (factor := int(side // MEASUREMENT_SIDE)) > 1:
        image, side = np.asarray(Image.fromarray(image).reduce(factor)), side / factor
    red, green, blue = (image[..., channel].astype(np.float64) for channel in range(3))
    light = central_light(red + green + blue, side)  # numpy's sum over the last axis is 10 times slower
    y_H1, x_1W = pixel_offsets(light)
    squared = x_1W**2 + y_H1**2
    max_sigma = MAX_WEIGHT_SIGMA * side
    sigma = max_sigma
    for _ in range(ALIGNMENT_STEPS):
        weighted = light * np.exp(-squared / (2 * sigma**2))
        total = weighted.sum()
        if total <= 0:
            return 0.0
        # A weight as wide as a Gaussian halves its variance; <r²> sums two directions.
        # So sigma² = <r²>.
        sigma = min(max(math.sqrt((weighted * squared).sum() / total), 1.0), max_sigma)
    difference = (weighted * (x_1W**2 - y_H1**2)).sum()  # <x²> - <y²>
    cross = 2 * (weighted * x_1W * y_H1).sum()
    return math.degrees(math.atan2(cross, difference) / 2)


def align_major_axis(image: np.ndarray, side: float, pixels: int) -> tuple[np.ndarray, float]:
    """Rotate the centre of a picture so that the galaxy's major axis is horizontal.

    Parameters
    ----------
    image : uint8 `[H, W, 3]`
        A picture with a galaxy at its centre, row 0 at the top.
    side : float
        Side of the central square that matters [px].
    pixels : int
        The picture is first shrunk to this many pixels per `side`, because rotation is slow. A
        picture with fewer pixels keeps its size.

    Returns
    -------
    rotated : float32 `[h, w, 3]`
        The centre of the picture, with the same centre as `image`. Values may lie a little outside
        [0, 255]. Corners beyond the picture have the value of its sky. They occur if `side` is
        more than 0.7 of the picture's side.
    side : float
        The length of `side` in pixels of `rotated`.
    """
    angle = round(position_angle(image, side), 2)  # rounding hides the summation order of different CPUs
    scale = min(1.0, pixels / side)
    kept_lengths = [int(min(length, math.sqrt(2) * side + 4) * scale) for length in (image.shape[1], image.shape[0])]
    starts = [
        (length - kept_length / scale) / 2
        for length, kept_length in zip((image.shape[1], image.shape[0]), kept_lengths, strict=True)
    ]
    ends = [start + kept_length / scale for start, kept_length in zip(starts, kept_lengths, strict=True)]
    rotated = []
    for channel in np.moveaxis(image, 2, 0):
        shrunk = Image.fromarray(channel.astype(np.float32)).resize(
            (kept_lengths[0], kept_lengths[1]), Image.Resampling.LANCZOS, box=(*starts, *ends)
        )
        sky = float(np.median(_frame(channel)))
        rotated.append(np.asarray(shrunk.rotate(-angle, Image.Resampling.BICUBIC, fillcolor=sky)))
    return np.stack(rotated, axis=-1), side * scale


def central_light(grey: np.ndarray, side: float) -> np.ndarray:
    """Return the central bright region's flux above sky within `side / 2`, else 0."""
    inner, edge = _central_rectangle(grey, side), _frame(grey)
    sky, bright = np.quantile(edge, [0.5, 0.84])
    # A sky clipped at black has a median deviation of 0, so take the larger of two estimates of its
    # sigma. Rounding to whole levels gives at least 1.
    noise = max(bright - sky, 1.4826 * np.median(np.abs(edge - sky)), 1.0)
    from scipy import ndimage  # imported late, because configs import this module

    regions, _ = ndimage.label(ndimage.gaussian_filter(inner, SMOOTHING * side) > sky + DETECTION_SIGMA * noise)
    distance = np.hypot(*pixel_offsets(inner))
    nearest = np.where(regions > 0, distance, np.inf).argmin()
    galaxy = (regions == regions.flat[nearest]) & (regions > 0) & (distance <= side / 2)
    return np.where(galaxy, np.maximum(inner - sky, 0), 0)


def pixel_offsets(channel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pixel coordinates from the centre: y up `[H, 1]`, x right `[1, W]`."""
    height, width = channel.shape
    return (height - 1) / 2 - np.arange(height)[:, None], np.arange(width)[None, :] - (width - 1) / 2


def _central_rectangle(image: np.ndarray, side: float) -> np.ndarray:
    """Return a centred view of at least `side` pixels each way, or the whole picture."""
    top, left = (max(0, int((length - side) / 2)) for length in image.shape[:2])
    return image[top : image.shape[0] - top, left : image.shape[1] - left]


def _frame(channel: np.ndarray) -> np.ndarray:
    """Return a channel's outer frame of pixels, 1/50 of the shorter side wide."""
    width = max(1, min(channel.shape) // 50)
    edges = channel[:width], channel[-width:], channel[width:-width, :width], channel[width:-width, -width:]
    return np.concatenate([edge.ravel() for edge in edges])


ELLIPSE_STEPS = 20
MIN_SIGMA = 0.7  # px
MAX_SIGMA = 1 / 3  # relative to the side
DEFAULT_SIGMA = 1 / 8  # relative to the side: of a picture without a galaxy, and the first weight


@dataclass(frozen=True)
class Shape:
    """The ellipse of a galaxy.

    Attributes
    ----------
    x, y
        Its centre, from the centre of the picture [px]; x to the right, y upwards.
    major, minor
        Standard deviations of the Gaussian that fits its brightness in the picture best [px].
    angle
        Of the major axis from the horizontal, counter-clockwise, in [-90, 90] deg.
    """

    x: float
    y: float
    major: float
    minor: float
    angle: float

    @property
    def radius(self) -> float:
        """Return the geometric mean of both standard deviations [px]."""
        return math.sqrt(self.major * self.minor)

    def coordinates(self, height: int, width: int, oversample: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Return the coordinates along the major axis and across it, in units of `radius`.

        Parameters
        ----------
        height, width
            Of the picture [px].
        oversample
            Points per pixel and axis.

        Returns
        -------
        along, across : numpy.ndarray
            float64 [height * oversample, width * oversample]. `across` grows counter-clockwise of
            `along`.
        """
        rows = (np.arange(height * oversample) + 0.5) / oversample
        columns = (np.arange(width * oversample) + 0.5) / oversample
        y_H1 = (height / 2 - rows)[:, None] - self.y
        x_1W = (columns - width / 2)[None, :] - self.x
        cosine, sine = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        return (cosine * x_1W + sine * y_H1) / self.radius, (cosine * y_H1 - sine * x_1W) / self.radius


def measure_shape(image: np.ndarray) -> Shape:
    """Return the ellipse of the central galaxy.

    Parameters
    ----------
    image : uint8 `[H, W, 3]`
        A picture with a galaxy at its centre, row 0 at the top.

    Returns
    -------
    Shape
        Rounded to 0.01 px and 0.01 deg, which hides the summation order of different CPUs. A
        picture without light at its centre gives a circle at the centre.

    Notes
    -----
    These are the adaptive moments of [1]_: the second moments under an elliptical Gaussian weight
    that has the shape of the light itself. They use the levels of the picture, not its flux.

    References
    ----------
    .. [1] Bernstein & Jarvis 2002, AJ 123, 583.
    """
    height, width = image.shape[:2]
    factor = max(1, min(height, width) // MEASUREMENT_SIDE)
    if factor > 1:
        image = np.asarray(Image.fromarray(image).reduce(factor))
    # A partial block at the right or the lower end moves the centre of the shrunken picture.
    shift = np.array([image.shape[1] * factor - width, height - image.shape[0] * factor]) / 2
    light = central_light(image.astype(np.float64).sum(axis=2), min(image.shape[:2]))
    centre, covariance = _adaptive_moments(light)
    centre = centre * factor + shift
    values, vectors = np.linalg.eigh(covariance)
    minor, major = map(math.sqrt, values)
    x, y = vectors[:, 1]
    angle = (math.degrees(math.atan2(y, x)) + 90) % 180 - 90 if major > minor else 0.0
    rounded = (*centre.tolist(), major * factor, minor * factor, angle)
    return Shape(*(round(float(value), 2) for value in rounded))


def _adaptive_moments(light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the centre [2] and the covariance [2, 2] of the light, x first [px]."""
    y_H1, x_1W = pixel_offsets(light)
    side = min(light.shape)
    centre, covariance = np.zeros(2), np.eye(2) * (DEFAULT_SIGMA * side) ** 2
    for _ in range(ELLIPSE_STEPS):
        x, y = x_1W - centre[0], y_H1 - centre[1]
        inverse = np.linalg.inv(covariance)
        squared = inverse[0, 0] * x**2 + 2 * inverse[0, 1] * x * y + inverse[1, 1] * y**2
        weighted = light * np.exp(-squared / 2)
        total = weighted.sum()
        if total <= 0:
            break
        # A Gaussian weight of the same width halves the covariance of Gaussian light.
        moments = [(weighted * x * x).sum(), (weighted * x * y).sum(), (weighted * y * y).sum()]
        covariance = 2 * np.array([moments[:2], moments[1:]]) / total
        values, vectors = np.linalg.eigh(covariance)
        values = np.clip(values, MIN_SIGMA**2, (MAX_SIGMA * side) ** 2)
        covariance = vectors @ np.diag(values) @ vectors.T
        centre = centre + np.array([(weighted * x).sum(), (weighted * y).sum()]) / total
    return centre, covariance
