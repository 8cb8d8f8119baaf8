"""Define the record of one metric: value, interval, floor and significance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from raydistill.audit.statistics import Floats, Metric, Worse

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
        Whether the p-value is below the significance level of the audit.
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
    return [
        Finding(
            metric.name,
            metric.feature,
            metric.worse,
            significant=row[-1] <= SIGNIFICANCE,
            **dict(zip(numbers, row, strict=True)),
        )
        for metric, row in zip(metrics, rows, strict=True)
    ]


def combine(*families: list[Finding]) -> list[Finding]:
    """Return the findings of several tests, adjusted so that all share one `SIGNIFICANCE` (Bonferroni)."""
    used = [family for family in families if family]
    return [
        replace(one, p_value=p_value, significant=p_value <= SIGNIFICANCE)
        for family in used
        for one in family
        for p_value in [min(1.0, len(used) * one.p_value)]
    ]
