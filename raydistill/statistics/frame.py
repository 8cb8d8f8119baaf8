"""Standardise features to a common scale, and keep their principal components."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raydistill.statistics.permutation import Floats

MAX_COMPONENTS = 64  # distances of more features need more pictures than an audit has


@dataclass(frozen=True)
class Frame:
    """A linear map of features, fitted to a sample.

    Attributes
    ----------
    mean_D, scale_D
        float64 [D]: the sample's mean and standard deviation. A constant feature has scale 1.
    components_DC
        float64 [D, C]: the directions of largest variance, or the identity.
    """

    mean_D: Floats
    scale_D: Floats
    components_DC: Floats

    @staticmethod
    def fit(sample_ND: Floats) -> Frame:
        """Return the frame of a sample: at most `MAX_COMPONENTS` components, not whitened.

        A test stays exact if the sample is independent of the compared pictures, or is all of them.
        """
        scale_D = sample_ND.std(0)
        scale_D = np.where(scale_D > 1e-12, scale_D, 1.0)
        frame = Frame(sample_ND.mean(0), scale_D, np.eye(sample_ND.shape[1]))
        if sample_ND.shape[1] <= MAX_COMPONENTS:
            return frame
        _, _, directions = np.linalg.svd(frame.apply(sample_ND), full_matrices=False)
        return Frame(frame.mean_D, scale_D, directions[:MAX_COMPONENTS].T)

    def apply(self, features_ND: Floats) -> Floats:
        """Return the features in the frame, float64 [N, C]."""
        return (features_ND - self.mean_D) / self.scale_D @ self.components_DC
