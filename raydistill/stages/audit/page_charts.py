"""Compute the paths of the audit page's small charts, in units of SVG view boxes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raydistill.statistics.findings import Finding
from raydistill.text import format_number

Floats = npt.NDArray[np.float64]

HISTOGRAM_WIDTH, HISTOGRAM_HEIGHT, NUM_BINS = 240, 90, 24
RANGE_WIDTH, MARGIN = 160, 8
UNITS = {
    "flux": "log of the mean brightness",
    "half_light_radius": "in sides of the picture",
    "concentration": "5 log (r80 / r20)",
    "ellipticity": "1 \N{MINUS SIGN} b / a",
    "colour_red_green": "mag",
    "colour_green_blue": "mag",
}
OUTSIDE = 0.005  # share of values beyond each end of a histogram's axis; they count in the last bin


@dataclass(frozen=True)
class Histogram:
    """Two distributions of a quantity.

    Attributes
    ----------
    name, unit
        The quantity, and its unit or meaning.
    real, synthetic
        SVG paths; the area of both is the same.
    ticks
        Numbers at the left end, the middle and the right end of the axis.
    finding
        The Wasserstein distance of the two.
    """

    name: str
    unit: str
    real: str
    synthetic: str
    ticks: tuple[str, str, str]
    finding: Finding


def histogram(finding: Finding, real_N: Floats, synthetic_N: Floats) -> Histogram:
    """Return the histograms of a quantity on one axis."""
    both = np.concatenate([real_N, synthetic_N])
    low, high = np.quantile(both, (OUTSIDE, 1 - OUTSIDE))
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    counts = [np.histogram(one.clip(low, high), NUM_BINS, (low, high))[0] / len(one) for one in (real_N, synthetic_N)]
    top = max(count.max() for count in counts)
    ticks = (format_number(low), format_number((low + high) / 2), format_number(high))
    return Histogram(
        finding.feature,
        UNITS.get(finding.feature, ""),
        _steps(counts[0] / top),
        _steps(counts[1] / top),
        ticks,
        finding,
    )


def _steps(heights: Floats) -> str:
    width = HISTOGRAM_WIDTH / len(heights)
    tops = [f"V{HISTOGRAM_HEIGHT * (1 - height):.1f}H{width * (n + 1):.1f}" for n, height in enumerate(heights)]
    return f"M0 {HISTOGRAM_HEIGHT}{''.join(tops)}V{HISTOGRAM_HEIGHT}"


@dataclass(frozen=True)
class Range:
    """Positions of a finding on a line: floor as bar, interval as line, value as dot."""

    floor_low: float
    floor_width: float
    low: float
    high: float
    value: float


def value_range(finding: Finding) -> Range | None:
    """Return the positions; None if a number is not finite."""
    numbers = np.array([finding.floor_low, finding.floor_high, finding.low, finding.high, finding.value])
    if not np.isfinite(numbers).all():
        return None
    low, high = numbers.min(), numbers.max()
    span = high - low or 1.0
    at = MARGIN + (RANGE_WIDTH - 2 * MARGIN) * (numbers - low) / span
    positions = [round(float(position), 1) for position in at]
    return Range(positions[0], max(2.0, round(positions[1] - positions[0], 1)), *positions[2:])
