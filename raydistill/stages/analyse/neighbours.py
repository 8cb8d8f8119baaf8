"""The section about the galaxies nearest to prototypes.

It asks whether their properties differ from those of their class.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raydistill.seeding import fold_in
from raydistill.stages.analyse.charts import trend_chart
from raydistill.stages.analyse.inputs import AnalysisInputs, Property
from raydistill.stages.analyse.sections import Quantity, Section, SectionFigure, SectionTable, Statement
from raydistill.statistics.intervals import half_width
from raydistill.statistics.testing import adjusted_p_values

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MIN_KNOWN = 5  # galaxies with a known value, below which nothing is claimed
SPACES = {"pixels": "in pixels", "features": "in the experts' features"}
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
    Quantity("low", "lower end of its 95 % interval"),
    Quantity("high", "upper end of its 95 % interval"),
    Quantity("n", "nearest galaxies with a known value"),
    Quantity("n_class", "galaxies of the class with a known value"),
    Quantity("p_value", "two-sided, adjusted for all rows"),
)


class Comparison(NamedTuple):
    """A property of the nearest galaxies and of their class."""

    space: str
    label: int
    measured: Property
    neighbours: Floats  # values of the nearest galaxies
    members: Floats  # values of the class
    null_B: Floats  # mean of as many random galaxies of the class

    @property
    def difference(self) -> float:
        """Return neighbours minus class in standard deviations of the class."""
        return float((self.neighbours.mean() - self.members.mean()) / self.members.std())

    @property
    def half_width(self) -> float:
        """Return half the width of its 95 % interval."""
        return half_width(self.neighbours) / float(self.members.std())


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
    p_values = adjusted(compared)
    spaces = " and ".join(SPACES[space] for space in inputs.neighbours)
    return Section(
        "neighbours",
        title,
        (
            f"For each prototype the {options.neighbours} nearest training galaxies of its class were found, {spaces}. "
            "If a prototype traces small, distant or blue galaxies, its neighbours differ from their class.",
            f"The p-values compare the neighbours with {options.permutations} random samples of as many galaxies of "
            "the class, for all rows together (step-down maximum test of Westfall and Young 1993).",
        ),
        tables=(_table(inputs, compared, p_values),),
        figures=tuple(_figure(inputs, space, compared) for space in inputs.neighbours),
        statements=tuple(_statement(inputs, result, p) for result, p in zip(compared, p_values.tolist(), strict=True)),
    )


def compare(inputs: AnalysisInputs, space: str, label: int, measured: Property) -> Comparison | None:
    """Compare the nearest galaxies with their class; None if too few values are known.

    All properties of a class are compared with the same random samples of galaxies.
    """
    options = inputs.plan.config.analyse
    values = measured.values_N[inputs.galaxy_labels == label]
    nearest = nearest_of_class(inputs, space, label)
    neighbours, members = measured.values_N[nearest], values[np.isfinite(values)]
    neighbours = neighbours[np.isfinite(neighbours)]
    if len(neighbours) < MIN_KNOWN or len(members) <= len(neighbours) or members.std() == 0:
        return None
    rng = np.random.default_rng(fold_in(options.seed, "neighbours", space, label))
    drawn_BM = np.stack([rng.permutation(len(values))[: len(nearest)] for _ in range(options.permutations)])
    with np.errstate(invalid="ignore"):  # a sample may have no known value
        null_B = np.nansum(values[drawn_BM], axis=1) / np.isfinite(values[drawn_BM]).sum(axis=1)
    return Comparison(space, label, measured, neighbours, members, np.nan_to_num(null_B, nan=members.mean()))


def adjusted(compared: list[Comparison]) -> Floats:
    """Return two-sided p-values, adjusted for the number of comparisons."""
    observed_M = np.array([result.neighbours.mean() for result in compared])
    null_BM = np.stack([result.null_B for result in compared], axis=1)
    return adjusted_p_values(observed_M, null_BM, ["different"] * len(compared))


def nearest_of_class(inputs: AnalysisInputs, space: str, label: int) -> Ints:
    """Return the rows of a class's galaxies nearest to its prototypes, each row once."""
    nearest = inputs.neighbours[space]
    rows = []
    for prototype in np.flatnonzero(inputs.prototype_labels == label):
        order = nearest.rows_SK[prototype]
        rows.append(order[inputs.galaxy_labels[order] == label][: inputs.plan.config.analyse.neighbours])
    return np.unique(np.concatenate(rows))


def _table(inputs: AnalysisInputs, compared: list[Comparison], p_values: Floats) -> SectionTable:
    columns: dict[str, list[object]] = {
        "space": [result.space for result in compared],
        "class": [inputs.class_names[result.label] for result in compared],
        "property": [result.measured.name for result in compared],
        "unit": [result.measured.unit for result in compared],
        "neighbours": [float(result.neighbours.mean()) for result in compared],
        "sigma": [float(result.neighbours.std(ddof=1)) for result in compared],
        "class_mean": [float(result.members.mean()) for result in compared],
        "class_sigma": [float(result.members.std(ddof=1)) for result in compared],
        "difference": [result.difference for result in compared],
        "low": [result.difference - result.half_width for result in compared],
        "high": [result.difference + result.half_width for result in compared],
        "n": [len(result.neighbours) for result in compared],
        "n_class": [len(result.members) for result in compared],
        "p_value": p_values.tolist(),
    }
    caption = "Properties of the galaxies nearest to the prototypes, beside those of their class."
    return SectionTable("neighbours", caption, pa.table(columns), TABLE)


def _figure(inputs: AnalysisInputs, space: str, compared: list[Comparison]) -> SectionFigure:
    names = list(dict.fromkeys(result.measured.name for result in compared))
    shape = len(names), len(inputs.class_names)
    values, low, high = (np.full(shape, math.nan) for _ in range(3))
    for result in compared:
        if result.space == space:
            place = names.index(result.measured.name), result.label
            values[place] = result.difference
            low[place], high[place] = result.difference - result.half_width, result.difference + result.half_width
    where = SPACES[space]
    return SectionFigure(
        f"neighbours_{space}",
        f"Differences between nearest galaxies and their class, {where}: {len(names)} properties, {shape[1]} classes",
        f"Mean of the galaxies nearest to the prototypes {where}, minus that of their class, with 95 % intervals.",
        trend_chart(names, inputs.class_names, values, low, high, "difference in standard deviations of the class"),
    )


def _statement(inputs: AnalysisInputs, result: Comparison, p_value: float) -> Statement:
    name = inputs.class_names[result.label].replace("_", " ")
    way = "larger" if result.difference > 0 else "smaller"
    text = (
        f"Galaxies nearest to the prototypes of {name} ({SPACES[result.space]}) have {way} {result.measured.name.replace('_', ' ')} "
        "than their class, in standard deviations of the class"
    )
    half = result.half_width
    return Statement(
        text, result.difference, result.difference - half, result.difference + half, len(result.neighbours), p_value
    )
