"""Measure where the galaxy of a picture is, and the ellipse that its light fills."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from raydistill.galaxies.pictures.alignment import MEASUREMENT_SIDE, central_light, pixel_offsets

NUM_ITERATIONS = 20
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
    (_, minor), (_, major) = (_axis(covariance, which) for which in (0, 1))
    angle = _axis(covariance, 1)[0] if major > minor else 0.0
    values = (*centre.tolist(), major * factor, minor * factor, angle)
    return Shape(*(round(float(value), 2) for value in values))


def _adaptive_moments(light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the centre [2] and the covariance [2, 2] of the light, x first [px]."""
    y_H1, x_1W = pixel_offsets(light)
    side = min(light.shape)
    centre, covariance = np.zeros(2), np.eye(2) * (DEFAULT_SIGMA * side) ** 2
    for _ in range(NUM_ITERATIONS):
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


def _axis(covariance: np.ndarray, which: int) -> tuple[float, float]:
    """Return the angle [deg, in [-90, 90]] and standard deviation [px] of one axis."""
    values, vectors = np.linalg.eigh(covariance)
    x, y = vectors[:, which]
    angle = math.degrees(math.atan2(y, x))
    return (angle + 90) % 180 - 90, math.sqrt(values[which])
