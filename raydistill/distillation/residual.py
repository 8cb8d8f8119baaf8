"""What a distillation adds to its initial images, with signal-to-noise.

With `init: mean` the initial image of a class is its mean galaxy. The residual, prototype minus
initial image, is then what the networks see in the class beyond the mean.

Shape letters: R distilled sets, S prototypes, H = W pixels, C channels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Residual(NamedTuple):
    """The mean of prototype minus initial image over R sets.

    Attributes
    ----------
    mean_SHWC
        float64, in units where black is 0 and white 1.
    signal_to_noise_SHW
        float64, the mean over its standard error, both of the mean over channels. NaN for one set.
    n
        Number R of sets.
    """

    mean_SHWC: Floats
    signal_to_noise_SHW: Floats
    n: int


def residual_of(residuals_RSHWC: Floats) -> Residual:
    """Return mean and signal-to-noise of residuals of independent sets."""
    grey_RSHW, n = residuals_RSHWC.mean(axis=4), len(residuals_RSHWC)
    if n < 2:
        return Residual(residuals_RSHWC.mean(axis=0), np.full(grey_RSHW.shape[1:], np.nan), n)
    error_SHW = grey_RSHW.std(axis=0, ddof=1) / np.sqrt(n)
    return Residual(residuals_RSHWC.mean(axis=0), grey_RSHW.mean(axis=0) / np.maximum(error_SHW, 1e-12), n)
