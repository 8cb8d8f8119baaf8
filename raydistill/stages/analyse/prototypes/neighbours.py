"""The section about the galaxies nearest to prototypes.

It asks whether their properties differ from those of their class.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from raydistill.seeding import fold_in
from raydistill.stages.analyse.inputs import AnalysisInputs, Property
from raydistill.stages.analyse.report.charts import trend_chart
from raydistill.stages.analyse.sections import Quantity, Section, SectionFigure, SectionTable, Statement
from raydistill.statistics.intervals import Interval
from raydistill.statistics.memorisation import Neighbours
from raydistill.statistics.resampling import bootstrap, normal_test
from raydistill.statistics.testing import holm

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MIN_KNOWN = 5  # galaxies with a known value, below which nothing is claimed
TABLE = (
    Quantity("space", "where nearness is measured"),
    Quantity("class", "class of prototypes and galaxies"),
    Quantity("property", "measured property"),
    Quantity("unit", "its unit"),
    Quantity("neighbours", "mean over the nearest galaxies of the class"),
    Quantity("sigma", "standard deviation over the nearest galaxies"),
    Quantity("class_mean", "mean over all training galaxies of the class"),
    Quantity("class_sigma", "standard deviation over the class"),
    Quantity("difference", "neighbours minus class, in standard deviations of the class"),
    Quantity("control", "the same difference for the galaxies nearest to the class mean"),
    Quantity("excess", "difference minus control"),
    Quantity("low", "lower end of its 95 % interval (bootstrap over galaxies of the class)"),
    Quantity("high", "upper end of its 95 % interval"),
    Quantity("n", "nearest galaxies with a known value"),
    Quantity("n_class", "galaxies of the class with a known value"),
    Quantity("p_value", "two-sided, of no excess; adjusted for all rows"),
)


class Comparison(NamedTuple):
    """A property of the nearest galaxies and of their class."""

    space: str
    label: int
    measured: Property
    neighbours: Floats  # values of the galaxies nearest to the prototypes
    members: Floats  # values of the class
    difference: float  # neighbours minus members, in standard deviations of the class
    control: float  # the same of the galaxies nearest to the class mean
    excess: Interval
    p_value: float  # not adjusted


def neighbours_section(inputs: AnalysisInputs) -> Section:
    """Return the section: stacked properties of the nearest galaxies of each class."""
    options = inputs.plan.config.analyse
    compared = [
        result
        for space in inputs.neighbours
        for label in range(len(inputs.class_names))
        for measured in inputs.properties
        if (result := compare(inputs, space, label, measured)) is not None
    ]
    title = "Nearest galaxies"
    if not compared:
        reason = f"no class has {MIN_KNOWN} galaxies with known properties; give a table as analyse.properties"
        return Section("neighbours", title, missing=reason)
    p_values = holm(np.array([result.p_value for result in compared])).tolist()
    spaces = " and ".join(map(inputs.space, inputs.neighbours))
    return Section(
        "neighbours",
        title,
        (
            f"For each prototype the {options.neighbours} nearest training galaxies of its class were found, {spaces}. "
            "If a prototype traces small, distant or blue galaxies, its neighbours differ from their class.",
            "The galaxies nearest to the mean of the class also differ from it, so they are the control: the excess is the "
            "difference of the prototypes' neighbours minus that of the class mean's.",
        ),
        tables=(_table(inputs, compared, p_values),),
        figures=tuple(_figure(inputs, space, compared) for space in inputs.neighbours),
        statements=tuple(_statement(inputs, result, p) for result, p in zip(compared, p_values, strict=True)),
    )


def compare(inputs: AnalysisInputs, space: str, label: int, measured: Property) -> Comparison | None:
    """Compare the nearest galaxies with their class; None if too few values are known."""
    rows = np.flatnonzero((inputs.galaxy_labels == label) & np.isfinite(measured.values_N))
    near = np.isin(rows, nearest_of_class(inputs, space, label))
    control = np.isin(rows, _first_of_class(inputs, inputs.mean_neighbours[space], [label], label))
    members = measured.values_N[rows]
    if min(near.sum(), control.sum()) < MIN_KNOWN or len(members) <= near.sum() or members.std() == 0:
        return None
    values = (members - members.mean()) / members.std()
    weights_2M = np.stack([near, control]).astype(np.float64)

    def means(rows: Ints) -> Floats:
        """Return the mean of both groups in each resample of the class, [B, 2]."""
        weights_2BM = weights_2M[:, rows]
        return ((weights_2BM * values[rows]).sum(axis=2) / np.maximum(weights_2BM.sum(axis=2), 1)).T

    ((difference, of_control),) = means(np.arange(len(members))[None])
    resampled_B2 = bootstrap(means, len(members), fold_in(inputs.spec.seed, "neighbours", space, label))
    excess, p_value = normal_test(float(difference - of_control), resampled_B2[:, 0] - resampled_B2[:, 1])
    return Comparison(
        space, label, measured, members[near], members, float(difference), float(of_control), excess, p_value
    )


def nearest_of_class(inputs: AnalysisInputs, space: str, label: int) -> Ints:
    """Return the rows of a class's galaxies nearest to its prototypes, each row once."""
    of_class = np.flatnonzero(inputs.prototype_labels == label).tolist()
    return _first_of_class(inputs, inputs.neighbours[space], of_class, label)


def _first_of_class(inputs: AnalysisInputs, nearest: Neighbours, images: list[int], label: int) -> Ints:
    """Return the rows of a class's galaxies nearest to some images, each row once."""
    rows = []
    for image in images:
        order = nearest.rows_SK[image]
        rows.append(order[inputs.galaxy_labels[order] == label][: inputs.plan.config.analyse.neighbours])
    return np.unique(np.concatenate(rows))


def _table(inputs: AnalysisInputs, compared: list[Comparison], p_values: list[float]) -> SectionTable:
    rows = [
        (
            result.space, inputs.class_names[result.label], result.measured.name, result.measured.unit,
            float(result.neighbours.mean()), float(result.neighbours.std(ddof=1)),
            float(result.members.mean()), float(result.members.std(ddof=1)),
            result.difference, result.control, *result.excess, len(result.neighbours), len(result.members), p,
        )
        for result, p in zip(compared, p_values, strict=True)
    ]  # fmt: skip
    caption = "Properties of the galaxies nearest to the prototypes, beside those of their class."
    return SectionTable.of_rows("neighbours", caption, rows, TABLE)


def _figure(inputs: AnalysisInputs, space: str, compared: list[Comparison]) -> SectionFigure:
    names = list(dict.fromkeys(result.measured.name for result in compared))
    excess = {(result.measured.name, result.label): result.excess for result in compared if result.space == space}
    where, num_classes = inputs.space(space), len(inputs.class_names)
    return SectionFigure(
        f"neighbours_{space}",
        f"Differences between nearest galaxies and their class, {where}: {len(names)} properties, {num_classes} classes",
        f"Mean of the galaxies nearest to the prototypes {where}, minus that of the galaxies nearest to the class mean, "
        "with 95 % intervals.",
        trend_chart(names, inputs.class_names, excess, "difference in standard deviations of the class"),
    )


def _statement(inputs: AnalysisInputs, result: Comparison, p_value: float) -> Statement:
    name = inputs.class_names[result.label].replace("_", " ")
    way = "larger" if result.excess.value > 0 else "smaller"
    text = (
        f"Galaxies nearest to the prototypes of {name} ({inputs.space(result.space)}) have {way} {result.measured.name.replace('_', ' ')} "
        "than those nearest to the class mean, in standard deviations of the class"
    )
    return Statement(text, *result.excess, len(result.neighbours), p_value)
