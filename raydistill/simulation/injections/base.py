"""Define what injection models share: ranges of parameters, and how to draw them."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import numpy as np

from raydistill.simulation.config import SimulatedSurvey

Range = tuple[float, float]  # the lowest and the highest value
Parameters = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class InjectionModel(abc.ABC):
    """A physical model that adds something to a real picture, or takes light from it.

    Every field of a subclass that is a pair of numbers is the range of a parameter. Lengths are in
    units of the galaxy's radius: the geometric mean of the standard deviations of its brightness
    (`galaxies.pictures.shapes`). Angles are counter-clockwise from its major axis [deg].

    Parameters
    ----------
    contrast
        Of the pictures' stretch (`simulation.injections.light`). None: 4.7, that of SDSS pictures;
        the stage `sample` takes that of the stretch itself where the survey is simulated.
    """

    kind: str
    contrast: float | None = None
    LOGARITHMIC: ClassVar[tuple[str, ...]] = ()  # parameters whose logarithm is uniform
    BOUNDS: ClassVar[Mapping[str, Range]] = {}  # where the range of a parameter must lie

    def __post_init__(self) -> None:
        if self.contrast is not None and not 0 < self.contrast < 100:
            raise ValueError(f"contrast must be positive and below 100, got {self.contrast:g}")
        for name, (low, high) in self.ranges().items():
            least, most = self.BOUNDS.get(name, (-math.inf, math.inf))
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise ValueError(f"{name} must be [lowest, highest], got [{low:g}, {high:g}]")
            if low < least or high > most:
                raise ValueError(f"{name} must lie in [{least:g}, {most:g}], got [{low:g}, {high:g}]")
            if name in self.LOGARITHMIC and low <= 0:
                raise ValueError(f"{name} must be positive, got [{low:g}, {high:g}]")

    @property
    def stretch(self) -> float:
        """Return the contrast of the pictures' stretch."""
        return SDSS_CONTRAST if self.contrast is None else self.contrast

    def ranges(self) -> dict[str, Range]:
        """Return the range of each parameter, in order."""
        values = {parameter.name: getattr(self, parameter.name) for parameter in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, tuple)}

    def with_ranges(self, ranges: Mapping[str, Range]) -> Self:
        """Return the model with other ranges of some parameters."""
        changed: dict[str, Any] = dict(ranges)
        return replace(self, **changed)

    def draw(self, rng: np.random.Generator) -> dict[str, float]:
        """Return parameters uniform in their ranges, or uniform in their logarithm.

        Equal states of `rng` give equal positions within the ranges, whatever the ranges are.
        """
        drawn = {}
        for name, (low, high) in self.ranges().items():
            share = rng.uniform()
            value = low * (high / low) ** share if name in self.LOGARITHMIC else low + (high - low) * share
            drawn[name] = float(min(max(value, low), high))
        return drawn

    @abc.abstractmethod
    def apply(self, picture: np.ndarray, parameters: Parameters) -> np.ndarray:
        """Return the picture with the model in it.

        Parameters
        ----------
        picture : uint8 `[H, W, 3]`
            A galaxy at its centre, row 0 at the top.
        parameters : mapping of str to float
            A value for each name of `ranges`.

        Returns
        -------
        uint8 `[H, W, 3]`
            Equal arguments give equal bits.
        """


# Convert the levels of a picture to linear light, change it, and convert it back.
#
# The pictures of SDSS have the stretch of Lupton et al. 2004 (PASP 116, 133): with the mean m of the
# three channels, in units of white, the light of a channel is
#
#     light = level * sinh(contrast * m) / (contrast * m).
#
# The inverse is monotone and keeps the colours. Two things are guessed:
#
# - `contrast` is not recorded in a picture. `SDSS_CONTRAST` was measured on 787 pictures of Galaxy
#   Zoo 2: with it, faint and bright stars of one picture have the same width (docs/benchmarks.md).
# - A saturated pixel had more light than its level says. It is treated as if it had just reached
#   white.
#
# Pixels are sums of light of the galaxy, of its neighbours, and of the sky with its noise. `absorb`
# acts on light that stands out of the noise, so the noise of the sky stays.

SDSS_CONTRAST = 4.7
FRAME = 16  # the sky is measured in a frame of 1/16 of the side
WINDOW = 5  # px: side of the window that separates light from noise
INNER = slice(WINDOW // 2, -(WINDOW // 2))  # without the padding for the window

# Scales of the bands i, r, g in the red, green and blue channel, and their extinction relative to
# r, as in `simulation.render`.
BAND_SCALES = np.array([0.8, 1.0, 1.4])
EXTINCTION = np.array([0.75, 1.0, 1.25])


def lupton_contrast(softening: float) -> float:
    """Return the contrast of astropy's stretch with Q = `softening`.

    Simulated surveys have this stretch.

    >>> round(lupton_contrast(10), 2)
    8.81
    """
    return 10 * math.asinh(softening / 10)


def contrast_of(survey: object) -> float:
    """Return the contrast of a survey's pictures: its own if simulated, else of SDSS."""
    return lupton_contrast(survey.telescope.softening) if isinstance(survey, SimulatedSurvey) else SDSS_CONTRAST


def to_light(picture: np.ndarray, contrast: float) -> np.ndarray:
    """Return the linear light of a picture.

    Parameters
    ----------
    picture : uint8 `[H, W, 3]`
    contrast : float
        Of the stretch. Faint light is `level`; a white pixel is sinh(contrast) / contrast.

    Returns
    -------
    float64 `[H, W, 3]`
    """
    level = picture / 255
    return np.asarray(level * _gain(level.mean(axis=2, keepdims=True), contrast))


def to_picture(light: np.ndarray, contrast: float) -> np.ndarray:
    """Return the picture of linear light; the inverse of `to_light`.

    A pixel that exceeds white is scaled down, so that it keeps its colour.

    Parameters
    ----------
    light : float `[H, W, 3]`
        Negative light is black.
    contrast : float
        Of the stretch.

    Returns
    -------
    uint8 `[H, W, 3]`
    """
    light = np.maximum(light, 0)
    mean = np.arcsinh(contrast * light.mean(axis=2, keepdims=True)) / contrast
    level = light / _gain(mean, contrast)
    level = level / np.maximum(level.max(axis=2, keepdims=True), 1)
    return np.asarray(np.rint(255 * level), np.uint8)


def _gain(mean: np.ndarray, contrast: float) -> np.ndarray:
    """Return light / level at a mean level."""
    x = contrast * np.maximum(mean, 1e-9)
    return np.asarray(np.sinh(x) / x)


def sky_of(light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the level of the sky and its noise, in each channel.

    Parameters
    ----------
    light : float `[H, W, 3]`

    Returns
    -------
    sky, noise : float64 `[3]`
        Median of the frame of the picture, and 1.48 of its median absolute deviation.
    """
    width = max(1, min(light.shape[:2]) // FRAME)
    edges = light[:width], light[-width:], light[width:-width, :width], light[width:-width, -width:]
    frame = np.concatenate([edge.reshape(-1, 3) for edge in edges])
    sky = np.median(frame, axis=0)
    return sky, 1.4826 * np.median(np.abs(frame - sky), axis=0)


def above_sky(light: np.ndarray) -> np.ndarray:
    """Return the light above the sky without noise, float64 `[H, W, 3]`.

    Its mean in the sky is 0.

    Notes
    -----
    Each pixel is shrunk towards the mean m of its window, by the share of the noise in the variance
    of the window (Wiener's filter, see Lim 1990, Two-Dimensional Signal and Image Processing). All
    is then multiplied by m² / (m² + noise²), because the noise of neighbouring pixels is
    correlated.
    """
    from scipy import ndimage  # imported late, because configs import this module
    from scipy.signal import wiener

    sky, noise = sky_of(light)
    channels = []
    for channel, sigma in zip(np.moveaxis(light - sky, 2, 0), noise, strict=True):
        if sigma > 0:
            mean = ndimage.uniform_filter(channel, WINDOW, mode="reflect")
            padded = np.pad(channel, WINDOW // 2, mode="symmetric")
            with np.errstate(divide="ignore", invalid="ignore"):  # windows of constant light
                estimate = wiener(padded, WINDOW, sigma**2)[INNER, INNER]
            channel = np.nan_to_num(estimate) * mean**2 / (mean**2 + sigma**2)
        channels.append(channel)
    return np.stack(channels, axis=-1)


def absorb(picture: np.ndarray, transmission: np.ndarray, contrast: float) -> np.ndarray:
    """Return the picture after a part of the light above the sky was absorbed.

    Parameters
    ----------
    picture : uint8 `[H, W, 3]`
    transmission : float `[H, W, 3]` or `[H, W, 1]`
        The share of the light that stays, in [0, 1].
    contrast : float
        Of the stretch.

    Returns
    -------
    uint8 `[H, W, 3]`
        Pixels with transmission 1 are unchanged.
    """
    light = to_light(picture, contrast)
    return to_picture(light + (transmission - 1) * above_sky(light), contrast)


def add(picture: np.ndarray, light: np.ndarray, contrast: float) -> np.ndarray:
    """Return the picture with added light that has no noise, float `[H, W, 3]`."""
    return to_picture(to_light(picture, contrast) + light, contrast)


def light_of_level(level: float, contrast: float) -> float:
    """Return the light of a grey pixel of this level, relative to white; may exceed 1."""
    return float(np.sinh(contrast * level) / contrast)


def channels_of(g_r: float, r_i: float) -> np.ndarray:
    """Return the light in red, green and blue for a mean of 1, float64 `[3]`.

    Parameters
    ----------
    g_r, r_i
        Colours g - r and r - i [mag].
    """
    bands = BAND_SCALES * np.array([10 ** (0.4 * r_i), 1.0, 10 ** (-0.4 * g_r)])
    return np.asarray(bands / bands.mean())


def bin_points(values: np.ndarray, oversample: int) -> np.ndarray:
    """Return the means over the points of each pixel.

    The first two axes are oversampled.
    """
    height, width = values.shape[0] // oversample, values.shape[1] // oversample
    blocks = values.reshape(height, oversample, width, oversample, *values.shape[2:])
    return np.asarray(blocks.mean(axis=(1, 3)))
