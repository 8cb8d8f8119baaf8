"""Statistics of two samples for permutation tests, on features of one scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

# Define statistics of two samples as functions of the groups of pooled pictures.
#
# A distance between real and synthetic pictures is evaluated thousands of times: once as it is, once
# for every permutation of the groups, and once for every part that the jackknife leaves out. So each
# metric prepares what does not depend on the groups (a distance matrix, an order) once. It then maps
# groups to values.
#
# Shape suffixes: N pooled pictures, D features, B rows of groups, M metrics.

Floats = npt.NDArray[np.float64]
Groups = npt.NDArray[np.int8]
Bools = npt.NDArray[np.bool_]

REAL, LEFT_OUT, SYNTHETIC = -1, 0, 1

Worse = Literal["higher", "lower", "different"]


@dataclass(frozen=True)
class Metric:
    """A name, and the direction in which a synthetic set is worse.

    Attributes
    ----------
    name
        Name of the metric, such as "coverage".
    feature
        The features that it measures: a feature space such as "scattering", or one quantity.
    worse
        The direction that counts against the synthetic set. "different" counts both.
    bounds
        The smallest and the largest possible value.
    """

    name: str
    feature: str
    worse: Worse = "higher"
    bounds: tuple[float, float] = (-np.inf, np.inf)


@dataclass(frozen=True)
class PooledStatistic:
    """One or more metrics of two groups of pooled pictures.

    Attributes
    ----------
    metrics
        The M metrics.
    evaluate
        Maps groups int8 [B, N] (-1 real, 0 left out, 1 synthetic) to float64 [B, M].
    """

    metrics: tuple[Metric, ...]
    evaluate: Callable[[Groups], Floats]


def two_groups(num_real: int, num_synthetic: int) -> Groups:
    """Return the groups int8 [N] of real pictures, followed by synthetic ones."""
    return np.repeat(np.array([REAL, SYNTHETIC], np.int8), [num_real, num_synthetic])


def concatenate(statistics: Sequence[PooledStatistic]) -> PooledStatistic:
    """Return one statistic with the metrics of all."""

    def evaluate(groups_BN: Groups) -> Floats:
        return np.concatenate([statistic.evaluate(groups_BN) for statistic in statistics], axis=1)

    return PooledStatistic(tuple(metric for statistic in statistics for metric in statistic.metrics), evaluate)


def row_by_row(evaluate: Callable[[Groups], Floats]) -> Callable[[Groups], Floats]:
    """Turn a function of one row of groups, [N] -> [M], into one of [B, N] -> [B, M]."""

    def evaluate_rows(groups_BN: Groups) -> Floats:
        return np.stack([np.atleast_1d(evaluate(groups_N)) for groups_N in groups_BN])

    return evaluate_rows


# Standardise features to a common scale, and keep their principal components.

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
