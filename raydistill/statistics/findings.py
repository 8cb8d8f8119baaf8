"""Define the record of one metric: value, interval, floor and significance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from raydistill.statistics.permutation import Floats, Metric, Worse

SIGNIFICANCE = 0.05  # chance that an audit of equal distributions reports any finding


@dataclass(frozen=True)
class Finding:
    """One metric of an audit.

    Attributes
    ----------
    metric
        Name of the metric, such as "coverage".
    feature
        Feature space or quantity that it measures.
    worse
        The direction that counts against the synthetic set.
    value
        Its value for the synthetic set.
    low, high
        95 % interval of the value.
    floor
        Its mean for real pictures against real pictures, at the same number of pictures.
    floor_low, floor_high
        Range that holds 95 % of such comparisons.
    p_value
        Chance of a value as extreme if both sets have one distribution, adjusted for the number of
        metrics.
    significant
        Whether the p-value is at most the significance level of the audit, and the value lies
        beyond the floor.
    """

    metric: str
    feature: str
    worse: Worse
    value: float
    low: float
    high: float
    floor: float
    floor_low: float
    floor_high: float
    p_value: float
    significant: bool

    @property
    def beyond_floor(self) -> bool:
        """Return whether the value is worse than 95 % of real-to-real comparisons."""
        above, below = self.value > self.floor_high, self.value < self.floor_low
        return {"higher": above, "lower": below, "different": above or below}[self.worse]

    def adjusted(self, p_value: float) -> Finding:
        """Return the finding with another p-value."""
        return replace(self, p_value=p_value, significant=p_value <= SIGNIFICANCE and self.beyond_floor)


def make_findings(
    metrics: Sequence[Metric], values_M: Floats, ends: tuple[Floats, Floats], floors_BM: Floats, p_values_M: Floats
) -> list[Finding]:
    """Return one finding per metric.

    Parameters
    ----------
    metrics
        The M metrics.
    values_M, ends
        Their values, and the ends of the intervals.
    floors_BM
        float64 [B, M], the values of B comparisons of real pictures with real pictures.
    p_values_M
        Adjusted p-values.
    """
    low, high = np.nanquantile(floors_BM, (0.025, 0.975), axis=0)
    columns = (values_M, *ends, floors_BM.mean(0), low, high, p_values_M)
    numbers = ("value", "low", "high", "floor", "floor_low", "floor_high", "p_value")
    rows = np.stack(columns, axis=1).tolist()
    found = [
        Finding(metric.name, metric.feature, metric.worse, **dict(zip(numbers, row, strict=True)), significant=False)
        for metric, row in zip(metrics, rows, strict=True)
    ]
    return [one.adjusted(one.p_value) for one in found]


def combine(*families: list[Finding]) -> list[Finding]:
    """Return all findings, Bonferroni-adjusted so that they share one `SIGNIFICANCE`."""
    used = [family for family in families if family]
    return [one.adjusted(min(1.0, len(used) * one.p_value)) for family in used for one in family]
