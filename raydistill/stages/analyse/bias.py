"""The section about biases: do galaxies like a prototype have other properties?

Their size and redshift are compared with those of others of their class. The votes decide which
galaxies belong to a class, so the section repeats the measurement with raw, weighted and debiased
votes where the survey has them.
"""

from __future__ import annotations

import math
from typing import NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import stats

from raydistill.config import CatalogSurvey
from raydistill.errors import CatalogError
from raydistill.galaxies.catalog import read_catalog, votes_array
from raydistill.galaxies.catalog_schemas import Fractions
from raydistill.stages.analyse.charts import trend_chart
from raydistill.stages.analyse.inputs import AnalysisInputs, Ints
from raydistill.stages.analyse.sections import Quantity, Section, SectionFigure, SectionTable, Statement
from raydistill.statistics.testing import holm

Floats = npt.NDArray[np.float64]

MIN_GALAXIES = 20  # of a class with a known value, below which no correlation is claimed
NUISANCES = ("redshift", "petro_r90", "magnitude", "picture_brightness", "picture_radius")
OWN = "labels"  # the classes of the curated set
TABLE = (
    Quantity("votes", "how galaxies are assigned to classes: labels of the curated set, or a kind of votes"),
    Quantity("class", "class of the prototypes"),
    Quantity("property", "property that should not decide the class"),
    Quantity("correlation", "Spearman correlation of similarity to the prototypes with the property"),
    Quantity("low", "lower end of its 95 % interval (Fisher's z)"),
    Quantity("high", "upper end of its 95 % interval"),
    Quantity("n", "galaxies of the class with a known value"),
    Quantity("p_value", "two-sided, adjusted for all rows"),
)


class Bias(NamedTuple):
    """The correlation of similarity with a property, among the galaxies of a class."""

    votes: str
    label: int
    name: str
    correlation: float
    low: float
    high: float
    n: int
    p_value: float  # not adjusted


def bias_section(inputs: AnalysisInputs) -> Section:
    """Return the section: correlations of similarity to the prototypes with nuisances.

    The nuisances are size, brightness and redshift.
    """
    similarity = similarities(inputs)
    nuisances = [measured for measured in inputs.properties if measured.name in NUISANCES]
    memberships = {OWN: inputs.galaxy_labels, **members_by_votes(inputs)}
    biases = [
        bias
        for votes, labels_N in memberships.items()
        for label in range(len(inputs.class_names))
        for nuisance in nuisances
        if (bias := measure(votes, label, nuisance.name, similarity[label], nuisance.values_N, labels_N == label))
        is not None
    ]
    title = "Size and redshift bias"
    if not biases:
        reason = f"no class has {MIN_GALAXIES} galaxies whose size, brightness or redshift is known"
        return Section("bias", title, missing=reason)
    p_values = holm(np.array([bias.p_value for bias in biases])).tolist()
    space = "in the experts' features" if "features" in inputs.distances else "in pixels"
    votes_text = (
        "The votes assign galaxies to classes, so the table repeats the measurement with " + ", ".join(list(memberships)[1:])
        + " votes."
        if len(memberships) > 1
        else "The survey's table has no other kind of votes, or they assign all of these galaxies to the same classes."
    )  # fmt: skip
    return Section(
        "bias",
        title,
        (
            "The similarity of a galaxy to its class is the distance to the nearest prototype of another class, less that to "
            f"the nearest prototype of its own class, {space}. In a class that is recognised by its shape alone, it does not "
            "depend on apparent size, brightness or redshift.",
            votes_text,
        ),
        tables=(_table(inputs, biases, p_values),),
        figures=(_figure(inputs, biases),),
        statements=tuple(_statement(inputs, bias, p) for bias, p in zip(biases, p_values, strict=True)),
    )


def similarities(inputs: AnalysisInputs) -> Floats:
    """Return how much nearer galaxies are to a class than to all others, [K, N].

    The distances are those of training galaxies from prototypes.
    """
    distances_SN = inputs.distances.get("features", inputs.distances["pixels"])
    own_S = inputs.prototype_labels
    classes = range(len(inputs.class_names))
    return np.stack([distances_SN[own_S != k].min(axis=0) - distances_SN[own_S == k].min(axis=0) for k in classes])


def members_by_votes(inputs: AnalysisInputs) -> dict[str, Ints]:
    """Return each training galaxy's most probable class by other kinds of votes.

    The class is -1 where unknown.
    """
    plan = inputs.plan
    if not inputs.curated.has_votes:
        return {}
    survey = plan.user_survey()
    if not isinstance(survey, CatalogSurvey):
        return {}
    tree = plan.class_tree
    labels_by_votes: dict[str, Ints] = {}
    for kind in get_args(Fractions):
        try:
            table = read_catalog(
                survey.catalog,
                survey.dialect,
                fractions=kind,
                columns=survey.columns,
                hdu=survey.hdu,
                need_labels=False,
            )
        except CatalogError:
            continue  # this release has no such votes
        rows = {object_id: row for row, object_id in enumerate(table["object_id"].to_pylist())}
        rows_N = np.array([rows.get(object_id, -1) for object_id in inputs.train.object_ids])
        votes = votes_array(table.take(pa.array(rows_N.clip(0))), tree.tree)
        probabilities = tree.probabilities(votes)
        labels = np.where((rows_N >= 0) & np.isfinite(probabilities).all(1), np.nan_to_num(probabilities).argmax(1), -1)
        if not any(np.array_equal(labels, other) for other in (inputs.galaxy_labels, *labels_by_votes.values())):
            labels_by_votes[kind] = labels
    return labels_by_votes


def measure(
    votes: str, label: int, name: str, similarity_N: Floats, values_N: Floats, members_N: np.ndarray
) -> Bias | None:
    r"""Return the correlation among class members; None if too few values are known.

    Notes
    -----
    The interval is that of Fisher's z with the standard error :math:`\sqrt{1.06/(n-3)}` of a
    Spearman correlation (Fieller, Hartley and Pearson 1957).
    """
    used = members_N & np.isfinite(values_N)
    n = int(used.sum())
    if n < MIN_GALAXIES or np.std(values_N[used]) == 0 or np.std(similarity_N[used]) == 0:
        return None
    result = stats.spearmanr(similarity_N[used], values_N[used])
    z, error = math.atanh(min(max(float(result.statistic), -0.999999), 0.999999)), math.sqrt(1.06 / (n - 3))
    low, high = math.tanh(z - 1.96 * error), math.tanh(z + 1.96 * error)
    return Bias(votes, label, name, float(result.statistic), low, high, n, float(result.pvalue))


def _table(inputs: AnalysisInputs, biases: list[Bias], p_values: list[float]) -> SectionTable:
    columns: dict[str, list[object]] = {
        "votes": [bias.votes for bias in biases],
        "class": [inputs.class_names[bias.label] for bias in biases],
        "property": [bias.name for bias in biases],
        **{name: [getattr(bias, name) for bias in biases] for name in ("correlation", "low", "high", "n")},
        "p_value": list(p_values),
    }
    caption = "Correlation of the similarity to the prototypes with properties that should not decide the class."
    return SectionTable("bias", caption, pa.table(columns), TABLE)


def _figure(inputs: AnalysisInputs, biases: list[Bias]) -> SectionFigure:
    names = list(dict.fromkeys(bias.name for bias in biases))
    values, low, high = (np.full((len(names), len(inputs.class_names)), math.nan) for _ in range(3))
    for bias in biases:
        if bias.votes == OWN:
            place = names.index(bias.name), bias.label
            values[place], low[place], high[place] = bias.correlation, bias.low, bias.high
    return SectionFigure(
        "bias",
        f"Correlations of similarity with {', '.join(names)} for {len(inputs.class_names)} classes",
        "Spearman correlation of the similarity to the prototypes with each property, with 95 % intervals.",
        trend_chart(names, inputs.class_names, values, low, high, "correlation with the similarity to the prototypes"),
    )


def _statement(inputs: AnalysisInputs, bias: Bias, p_value: float) -> Statement:
    name = inputs.class_names[bias.label].replace("_", " ")
    way = "rises" if bias.correlation > 0 else "falls"
    by = "" if bias.votes == OWN else f" (classes by {bias.votes} votes)"
    text = f"Similarity to the prototypes of {name} {way} with {bias.name.replace('_', ' ')}{by}, Spearman correlation"
    return Statement(text, bias.correlation, bias.low, bias.high, bias.n, p_value)
