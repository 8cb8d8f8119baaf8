"""Write the page of an audit: pictures, metrics, histograms and nearest pairs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raydistill.figures.pages import Picture, picture, render
from raydistill.stages.audit.artifact import SYNTHETIC, AuditSummary, Words
from raydistill.statistics.testing import AUDIT_LEVEL, Finding
from raydistill.text import format_number

# Compute the paths of the audit page's small charts, in units of SVG view boxes.

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
    counts = [np.histogram(x_N.clip(low, high), NUM_BINS, (low, high))[0] / len(x_N) for x_N in (real_N, synthetic_N)]
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


Pixels = npt.NDArray[np.uint8]

# Metric -> name, and the reading of it, with the adjectives of the two kinds of pictures. A range of
# values is only given where it has limits.
METRICS: dict[str, tuple[str, str]] = {
    "frechet": ("Fréchet distance", "distance of the means and covariances; 0 is equal"),
    "kernel": ("kernel distance", "squared maximum mean discrepancy; about 0 for equal distributions"),
    "sliced_wasserstein": ("sliced Wasserstein", "mean distance of random projections; 0 is equal"),
    "precision": ("precision", "share of {audited} pictures that lie among {reference} ones"),
    "recall": ("recall", "share of {reference} pictures that lie among {audited} ones"),
    "density": ("density", "how densely {reference} pictures surround {an_audited} one; 1 for equal distributions"),
    "coverage": ("coverage", "share of {reference} pictures with {an_audited} one nearby"),
    "diversity": ("diversity", "mean distance of two {audited} pictures, over that of two {reference} ones"),
    "classifier_auc": (
        "AUC of {reference} or {audited}",
        "how well a classifier tells both apart; 0.5 is chance, 1 is always",
    ),
    "wasserstein": (
        "Wasserstein distance",
        "Wasserstein distance: mean shift of the quantity, in its own unit; 0 is equal",
    ),
    "class_share": ("class share", "share of pictures that look like the class, {audited} less {reference}"),
    "total_variation": ("class proportions", "share of pictures whose label must change for equal proportions"),
    "class_kernel": (
        "kernel distance",
        "squared maximum mean discrepancy of the class's pictures; about 0 for equal ones",
    ),
    "wrong_labels": (
        "wrong labels",
        "log likelihood ratio per picture of 10 % wrong labels against none, {audited} less {reference}",
    ),
    "class_recognised": ("recognised", "share of the class's pictures that the experts assign to it"),
    "answer_predicted": ("answer", "correlation of the asked vote fraction with the experts' prediction"),
    "nearer_to_training": ("nearest is a training picture", "share of {audited} pictures"),
    "nearer_to_own_half": (
        "nearest is a training picture of its own generator",
        "share of the pictures of both generators; 0.5 for equal halves without memorisation",
    ),
    "own_half": (
        "nearer to its own training galaxies",
        "mean log of the distance to the nearest training picture of the other generator over that of its own",
    ),
    "closest_copies": (
        "closest copies",
        "-log10 of the chance that as many new pictures lie as near to a training picture, compared with the next ones",
    ),
    "twins": (
        "repeated pictures",
        "mean log of the distance to the fifth nearest picture of the set over that to the nearest one",
    ),
    "memorisation": (
        "memorisation",
        "mean log of the distance to the nearest held-out over that to the nearest training picture",
    ),
}
SPACE_TITLES = {
    "scattering": "Texture and structure (scattering transform)",
    "morphology": "Morphology, all quantities together",
    "experts": "Features of the trained experts",
    "encoder": "Features of an encoder",
}
NAMED = (
    "wasserstein",
    "class_share",
    "class_kernel",
    "wrong_labels",
    "class_recognised",
    "answer_predicted",
)  # their feature has a name of its own
NUM_PAIRS = 12


@dataclass(frozen=True)
class GridRow:
    """Pictures of one class, synthetic and real."""

    name: str
    synthetic: list[Picture]
    real: list[Picture]


@dataclass(frozen=True)
class Pair:
    """A synthetic picture, its nearest training and its nearest held-out picture."""

    synthetic: Picture
    training: Picture
    held_out: Picture


@dataclass(frozen=True)
class MetricRow:
    """A line of the table of metrics."""

    finding: Finding
    name: str
    reading: str
    value: str
    interval: str
    floor: str
    p_value: str
    range: Range | None


@dataclass(frozen=True)
class Group:
    """The metrics of one feature space."""

    title: str
    rows: list[MetricRow]

    @property
    def reading(self) -> str:
        """Return the metric's reading if the group has one metric of several features."""
        readings = {row.reading for row in self.rows}
        return readings.pop() if len(readings) == 1 and len(self.rows) > 1 else ""

    @property
    def significant(self) -> list[MetricRow]:
        """Return the metrics that chance does not explain."""
        return [row for row in self.rows if row.finding.significant]


def grid_row(name: str, audited: Pixels, real: Pixels, words: Words = SYNTHETIC) -> GridRow:
    """Return the pictures of a class, uint8 [n, H, W, 3] each."""
    return GridRow(
        name,
        [picture(pixels, f"{words.audited} {name}, number {n}") for n, pixels in enumerate(audited, 1)],
        [picture(pixels, f"{words.reference} {name}, number {n}") for n, pixels in enumerate(real, 1)],
    )


def pair(pixels: Sequence[Pixels], ids: Sequence[str], distances: Sequence[float], words: Words = SYNTHETIC) -> Pair:
    """Return a pair from pictures, ids and two distances; audited, training, held-out."""
    training, held_out = (f"distance {distance:.4f}" for distance in distances)
    return Pair(
        picture(pixels[0], f"{words.audited} picture {ids[0]}", ids[0]),
        picture(pixels[1], f"training galaxy {ids[1]}, {training}", f"{training}, {ids[1]}"),
        picture(pixels[2], f"held-out galaxy {ids[2]}, {held_out}", f"{held_out}, {ids[2]}"),
    )


def report_page(
    summary: AuditSummary,
    findings: Sequence[Finding],
    grid: Sequence[GridRow],
    pairs: Sequence[Pair],
    quantities: dict[str, tuple[Floats, Floats]],
) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    summary
        Sizes and names of what was compared.
    findings
        All metrics.
    grid
        Pictures of each class.
    pairs
        Synthetic pictures that are nearest to a training picture.
    quantities
        For each morphology quantity its values of real and of synthetic pictures.
    """
    distances = {finding.feature: finding for finding in findings if finding.metric == "wasserstein"}
    return render(
        "report.html",
        summary=summary,
        level=AUDIT_LEVEL,
        num_significant=sum(finding.significant for finding in findings),
        num_metrics=sum(finding.testable for finding in findings),
        groups=group_findings(findings, summary.words),
        grid=grid,
        pairs=pairs,
        histograms=[histogram(distances[name], *values) for name, values in quantities.items()],
        format_number=format_number,
        readable=readable,
    )


def group_findings(findings: Sequence[Finding], words: Words = SYNTHETIC) -> list[Group]:
    """Return metrics by feature space, then those of quantities, classes and copies."""
    by_space = [
        (title, [finding for finding in findings if finding.feature == name]) for name, title in SPACE_TITLES.items()
    ]
    others = {
        "Morphology, each quantity": ("wasserstein",),
        "Classes by their look": ("class_share",),
        "Classes by their labels": ("total_variation",),
        "Each class on its own": ("class_kernel",),
        "Labels that the pictures do not show": ("wrong_labels",),
        "Classes that the experts recognise": ("class_recognised",),
        "Answers that the experts predict": ("answer_predicted",),
        "Copies of training pictures": ("nearer_to_training", "memorisation", "closest_copies"),
        "Two generators, trained on different galaxies": ("nearer_to_own_half", "own_half"),
        "Pictures that repeat each other": ("twins",),
    }
    rest = [
        (title, [finding for finding in findings if finding.metric in metrics]) for title, metrics in others.items()
    ]
    return [
        Group(title, [row_of(finding, words) for finding in findings])
        for title, findings in [*by_space, *rest]
        if findings
    ]


def row_of(finding: Finding, words: Words = SYNTHETIC) -> MetricRow:
    """Return the line of a metric, with numbers as text."""
    name, reading = (text.format(**words._asdict()) for text in METRICS.get(finding.metric, (finding.metric, "")))
    if finding.metric in NAMED:
        name = readable(finding.feature)
    return MetricRow(
        finding,
        name,
        reading,
        format_number(finding.value),
        f"{format_number(finding.low)} to {format_number(finding.high)}",
        f"{format_number(finding.floor_low)} to {format_number(finding.floor_high)}",
        f"{finding.p_value:.3f}" if finding.p_value >= 0.001 else "< 0.001",
        value_range(finding),
    )


def readable(name: str) -> str:
    """Return a name with spaces for underscores; for an answer, without its numbers.

    >>> readable("t02_edgeon_a04_yes")
    'edgeon: yes'
    """
    return re.sub(r"^t\d+_(.+)_a\d+_", r"\1: ", name).replace("_", " ")
