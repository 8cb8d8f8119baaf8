"""Prepare pictures for measurements: cut impossible values, and subtract the sky.

Galaxies and prototypes are stretched RGB pictures, black 0 and white 1. A prototype is optimised
freely, so some of its values lie outside. They are cut to [0, 1], which the 8 bits of a real
picture do as well, and the share of cut values is reported. The stretch is not undone. So no number
here is photometry: it serves to compare a prototype with galaxies in pictures of the same kind and
size.

Shape suffixes of this package: N pictures, H rows and W columns of pixels, P = H * W, C channels, R
rings, M orders of Fourier components.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from raydistill.morphology.pictures import subtract_sky
from raydistill.statistics.permutation import Floats

MIN_SIDE = 16  # px: one pixel a ring needs 32, half a pixel 16
MIN_LIGHT = 0.04  # ten of 255 steps: fainter light in a ring has neither a colour nor a pattern


class Light(NamedTuple):
    """Pictures without sky.

    Attributes
    ----------
    values_NHWC
        float64 [N, H, W, 3]; the sky of each channel, the median of the picture's corners, is 0.
    clipped_N
        float64 [N]: the share of values that lay outside [0, 1].
    """

    values_NHWC: Floats
    clipped_N: Floats


def light_above_sky(pictures_NHWC: npt.NDArray[np.floating]) -> Light:
    """Return the light of square pictures [N, H, H, 3], black 0, white 1, without sky."""
    shape = pictures_NHWC.shape
    if len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3 or shape[1] < MIN_SIDE:
        raise ValueError(f"pictures must be [N, H, H, 3] with H of {MIN_SIDE} or more, got {list(shape)}")
    pictures = np.asarray(pictures_NHWC, np.float64)
    clipped = pictures.clip(0, 1)
    outside_N = (clipped != pictures).mean(axis=(1, 2, 3))
    return Light(subtract_sky(clipped).reshape(pictures.shape), outside_N)
