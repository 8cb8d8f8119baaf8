r"""Predict quantities from frozen features, with intervals that cover.

A ridge regression f gives the value. A second one gives the expected size s of its error, from
galaxies that were left out of the fit. Of n calibration galaxies, which neither has seen, let q be
the k-th smallest ratio :math:`|y - f(x)| / s(x)`, k = ceil((n + 1) c). The interval

.. math:: [f(x) - q\,s(x),\ f(x) + q\,s(x)]

holds the value of a new galaxy with a chance of at least c, whatever the model and the errors, if
new and calibration galaxies are exchangeable: split conformal prediction, locally weighted (Lei et
al. 2018, doi:10.1080/01621459.2017.1307116, Sections 2.2 and 5.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

COVERAGE = 0.95
RATES = tuple(10.0 ** np.arange(-2, 7))  # candidates for the penalty, by leave-one-out errors
FOLDS = 5
MIN_CALIBRATION = math.ceil(1 / (1 - COVERAGE)) - 1  # fewer galaxies give an infinite interval
MIN_FIT = 20
LEAST_ERROR = 0.01  # of the deviation of the values: an error of 0 has no logarithm


class Estimates(NamedTuple):
    """Values [N], and the ends of their intervals [N]."""

    value_N: Floats
    low_N: Floats
    high_N: Floats


@dataclass(frozen=True)
class Regression:
    """A fitted regression; `fit` makes it, and calling it gives estimates.

    Attributes
    ----------
    value, size
        Ridge regressions of the value, and of the logarithm of the error's size.
    quantile
        q.
    """

    value: Any
    size: Any
    quantile: float

    @classmethod
    def fit(cls, features_ND: Floats, values_N: Floats, calibrates_N: npt.NDArray[np.bool_], seed: int) -> Regression:
        """Return the regression of values on features.

        Parameters
        ----------
        features_ND, values_N
            Of galaxies whose value is known; finite.
        calibrates_N
            Which of them calibrate the intervals; the others are fitted.
        seed
            Divides the fitted galaxies into `FOLDS` parts.

        Raises
        ------
        ValueError
            There are fewer than `MIN_FIT` or `MIN_CALIBRATION` galaxies, or all values are equal.
        """
        from sklearn.model_selection import KFold, cross_val_predict

        num_calibration = int(calibrates_N.sum())
        if len(values_N) - num_calibration < MIN_FIT or num_calibration < MIN_CALIBRATION:
            raise ValueError(f"an interval needs {MIN_FIT} galaxies to fit and {MIN_CALIBRATION} to calibrate")
        features, values = features_ND[~calibrates_N], values_N[~calibrates_N]
        if not (deviation := float(values.std())):
            raise ValueError("all values are equal")
        folds = KFold(FOLDS, shuffle=True, random_state=seed % 2**32)
        errors = np.abs(values - cross_val_predict(_ridge(), features, values, cv=folds))
        value = _ridge().fit(features, values)
        size = _ridge().fit(features, np.log(errors + LEAST_ERROR * deviation))
        uncalibrated = cls(value, size, 1.0)(features_ND[calibrates_N])
        ratios = np.abs(values_N[calibrates_N] - uncalibrated.value_N) / (uncalibrated.high_N - uncalibrated.value_N)
        return cls(value, size, float(np.sort(ratios)[math.ceil((num_calibration + 1) * COVERAGE) - 1]))

    def __call__(self, features_ND: Floats) -> Estimates:
        """Return the estimates of galaxies [N, D]."""
        value_N = self.value.predict(features_ND)
        half_N = self.quantile * np.exp(self.size.predict(features_ND))
        return Estimates(value_N, value_N - half_N, value_N + half_N)


def _ridge() -> Any:
    """Return an unfitted ridge regression of standardised features."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), RidgeCV(RATES))
