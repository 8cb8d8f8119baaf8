"""Standardise features that arrive block by block.

Shapes: N objects, F features.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Standardiser:
    """Map features to mean 0 and standard deviation 1 over a survey.

    Attributes
    ----------
    mean_F, std_F
        float64 [F]; the deviation of a constant feature is 0, and `apply` makes it 0.
    count
        Number of objects.
    """

    mean_F: Floats
    std_F: Floats
    count: int = 0

    @classmethod
    def of(cls, blocks: Iterable[npt.NDArray[np.floating]]) -> Standardiser:
        """Return the map of a survey whose features [n, F] arrive block by block.

        Means and deviations of the blocks are merged (Chan et al. 1983, doi:10.2307/2683386), so
        one block is in memory at a time.
        """
        count, mean_F, squares_F = 0, np.zeros(0), np.zeros(0)
        for block in blocks:
            own_NF = np.asarray(block, np.float64)
            if not len(own_NF):
                continue
            own_mean_F = own_NF.mean(axis=0)
            own_squares_F = np.square(own_NF - own_mean_F).sum(axis=0)
            if not count:
                count, mean_F, squares_F = len(own_NF), own_mean_F, own_squares_F
                continue
            total, step_F = count + len(own_NF), own_mean_F - mean_F
            squares_F = squares_F + own_squares_F + np.square(step_F) * count * len(own_NF) / total
            mean_F, count = mean_F + step_F * len(own_NF) / total, total
        return cls(mean_F, np.sqrt(squares_F / max(count, 1)), count)

    def apply(self, features_NF: npt.NDArray[np.floating]) -> Floats:
        """Return standardised features float64 [N, F]."""
        return (np.asarray(features_NF, np.float64) - self.mean_F) / np.where(self.std_F > 0, self.std_F, 1.0)
