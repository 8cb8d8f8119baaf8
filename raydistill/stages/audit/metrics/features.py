"""Compute the features of pictures that need no trained network."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import fft

from raydistill.statistics.permutation import Floats

# Describe texture and structure of pictures by a wavelet scattering transform.
#
# It needs no training.
#
# A picture is filtered by oriented Morlet wavelets of several scales; the moduli are averaged (first
# order). The moduli are filtered again by the wavelets of larger scales, and averaged (second order).
# The averages do not change when the picture is shifted, and change little when it is deformed.
#
# Bruna & Mallat 2013, arXiv:1203.1513. The wavelets have the parameters of Kymatio (Andreux et al.
# 2020, arXiv:1812.11214). Cheng et al. 2020 (arXiv:2006.08561) use them for astronomical images.

NUM_ANGLES = 4
FLOOR = 1e-4  # added before the logarithm: a fortieth of a brightness step of 1/255
BATCH = 64  # pictures: keeps the moduli in the processor's cache
_BANDWIDTH, _FREQUENCY = 0.8, 3 * math.pi / 4  # of the finest wavelet, as in Kymatio


def num_scales(side: int) -> int:
    """Return the number of scales J: the coarsest wavelet fits twice into the picture."""
    return max(2, round(math.log2(side)) - 2)


def scattering(pictures_NHWC: npt.NDArray[np.floating]) -> Floats:
    """Return the logarithms of the scattering coefficients of each colour channel.

    Parameters
    ----------
    pictures_NHWC
        Pictures [N, H, H, 3], black 0 and white 1.

    Returns
    -------
    ndarray
        float64 [N, 3 (1 + J L + L² J (J - 1) / 2)] with J = `num_scales(H)` and L = `NUM_ANGLES`:
        183 features of 32 pixels. For each channel: the mean, the first and the second order.

    Notes
    -----
    The picture repeats beyond its borders, which are dark around a galaxy.
    """
    pictures = np.ascontiguousarray(np.moveaxis(pictures_NHWC, -1, 1), dtype=np.float32)
    parts = [_coefficients(pictures[n : n + BATCH]) for n in range(0, len(pictures), BATCH)]
    side = pictures.shape[-1]
    empty = np.empty((0, 3, num_coefficients(side)))
    coefficients_NCK = np.concatenate([empty, *parts])
    return np.log(coefficients_NCK + FLOOR).reshape(len(pictures), 3 * num_coefficients(side))


def num_coefficients(side: int) -> int:
    """Return the number of coefficients of one channel."""
    scales = num_scales(side)
    return 1 + scales * NUM_ANGLES + NUM_ANGLES**2 * scales * (scales - 1) // 2


def _coefficients(pictures: npt.NDArray[np.float32]) -> Floats:
    """Return the coefficients [n, channels, K] of a batch [n, channels, H, H]."""
    filters = wavelets(pictures.shape[-1])
    means = [np.abs(pictures.mean((-2, -1)))]
    seconds = []
    for scale, first in _moduli(pictures, filters, 0):
        means.append(first.mean((-2, -1)))
        seconds += [second.mean((-2, -1)) for _, second in _moduli(first, filters, scale + 1)]
    return np.stack([*means, *seconds], axis=-1).astype(float)


def _moduli(
    pictures: npt.NDArray[np.float32], filters: npt.NDArray[np.float32], first_scale: int
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Yield scale and modulus of the filtered pictures, per wavelet from a scale on."""
    spectrum = fft.fft2(pictures)
    for scale in range(first_scale, len(filters)):
        for wavelet in filters[scale]:
            yield scale, np.abs(fft.ifft2(spectrum * wavelet))


@functools.cache
def wavelets(side: int) -> npt.NDArray[np.float32]:
    """Return the Fourier transforms of the wavelets, float32 [J, L, side, side], real.

    Angle l is l π / L; angle 0 oscillates along the second axis (x). All wavelets have mean 0.
    """
    scales = num_scales(side)
    return np.stack(
        [
            [_morlet(side, 2.0**scale, math.pi * angle / NUM_ANGLES) for angle in range(NUM_ANGLES)]
            for scale in range(scales)
        ]
    ).astype(np.float32)


def _morlet(side: int, scale: float, angle: float) -> Floats:
    """Return the periodic Fourier transform of a Morlet wavelet.

    It is a Gaussian off the origin, less one at the origin.
    """
    frequencies = 2 * math.pi * fft.fftfreq(side)
    total, correction = np.zeros((side, side)), np.zeros((side, side))
    for alias_y in (-1, 0, 1):  # frequencies beyond Nyquist fold back
        for alias_x in (-1, 0, 1):
            y = frequencies[:, None] + 2 * math.pi * alias_y
            x = frequencies[None, :] + 2 * math.pi * alias_x
            along = x * math.cos(angle) + y * math.sin(angle)
            across = (y * math.cos(angle) - x * math.sin(angle)) * NUM_ANGLES / 4  # slant 4 / L
            width = _BANDWIDTH * scale
            total += np.exp(-((along - _FREQUENCY / scale) ** 2 + across**2) * width**2 / 2)
            correction += np.exp(-(along**2 + across**2) * width**2 / 2)
    return total - correction * total[0, 0] / correction[0, 0]
