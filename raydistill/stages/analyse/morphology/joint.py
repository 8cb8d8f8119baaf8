"""The joint test of the prototypes of all classes, as a table and as statements."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from raydistill.morphology.comparison import JointComparison
from raydistill.morphology.measures import MEASURES
from raydistill.stages.analyse.sections import Quantity, SectionTable, Statement
from raydistill.statistics.testing import SIGNIFICANCE

JOINT = (
    Quantity("measure", "what is measured"),
    Quantity("deviation", "prototypes minus galaxies, mean over the classes, in standard deviations of a class"),
    Quantity("low", "lower end of its 95 % interval over the classes (Student's t)"),
    Quantity("high", "upper end of its 95 % interval"),
    Quantity("n", "classes"),
    Quantity("p_value", "two-sided, of no deviation; adjusted for all measures (Westfall and Young)"),
    Quantity("finding", "differs: p below 0.05; equivalent: the interval lies within 1; undecided: neither"),
)
EQUIVALENT = 1.0  # standard deviations


def joint_table(joint: Sequence[JointComparison]) -> SectionTable:
    """Return a row per measure."""
    rows = [
        (measure.name, *measure.deviation, measure.num_classes, measure.p_value, _finding(measure))
        for measure in joint
        if measure.num_classes
    ]
    numbers = dict.fromkeys(("deviation", "low", "high", "p_value"), pa.float64())
    types = {"measure": pa.string(), "n": pa.int64(), "finding": pa.string(), **numbers}
    return SectionTable.of_rows(
        "morphology_joint", "Prototypes of all classes beside their galaxies.", rows, JOINT, types
    )


def _finding(measure: JointComparison) -> str:
    """Return what the joint test and its interval say."""
    if measure.p_value < SIGNIFICANCE:
        return "differs"
    ends = measure.deviation.low, measure.deviation.high
    if max(abs(end) for end in ends) < EQUIVALENT:
        return "equivalent"
    return "undecided"


def joint_statement(measure: JointComparison) -> Statement:
    """Return what the joint test says of a measure."""
    verdicts = {
        "differs": "differs from that of galaxies in the same direction in all classes",
        "equivalent": "is that of galaxies to within a standard deviation",
        "undecided": "may differ from that of galaxies or not; the prototypes are too few to tell",
    }
    text = (
        f"The {MEASURES[measure.name].title} of prototypes {verdicts[_finding(measure)]}: its mean deviation over the classes, "
        "in standard deviations of a class"
    )
    return Statement(text, *measure.deviation, measure.num_classes, measure.p_value)
