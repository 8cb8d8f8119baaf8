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
    nuisances = [one for one in inputs.properties if one.name in NUISANCES]
    memberships = {OWN: inputs.galaxy_labels, **members_by_votes(inputs)}
    found = [
        bias
        for votes, labels_N in memberships.items()
        for label in range(len(inputs.class_names))
        for own in nuisances
        if (bias := measure(votes, label, own.name, similarity[label], own.values_N, labels_N == label)) is not None
    ]
    title = "Size and redshift bias"
    if not found:
        reason = f"no class has {MIN_GALAXIES} galaxies whose size, brightness or redshift is known"
        return Section("bias", title, missing=reason)
    p_values = holm(np.array([one.p_value for one in found])).tolist()
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
        tables=(_table(inputs, found, p_values),),
        figures=(_figure(inputs, found),),
        statements=tuple(_statement(inputs, one, p) for one, p in zip(found, p_values, strict=True)),
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
    found: dict[str, Ints] = {}
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
        own = np.array([rows.get(one, -1) for one in inputs.train.object_ids])
        votes = votes_array(table.take(pa.array(own.clip(0))), tree.tree)
        probabilities = tree.probabilities(votes)
        labels = np.where((own >= 0) & np.isfinite(probabilities).all(1), np.nan_to_num(probabilities).argmax(1), -1)
        if not any(np.array_equal(labels, other) for other in (inputs.galaxy_labels, *found.values())):
            found[kind] = labels
    return found


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


def _table(inputs: AnalysisInputs, found: list[Bias], p_values: list[float]) -> SectionTable:
    columns: dict[str, list[object]] = {
        "votes": [one.votes for one in found],
        "class": [inputs.class_names[one.label] for one in found],
        "property": [one.name for one in found],
        **{name: [getattr(one, name) for one in found] for name in ("correlation", "low", "high", "n")},
        "p_value": list(p_values),
    }
    caption = "Correlation of the similarity to the prototypes with properties that should not decide the class."
    return SectionTable("bias", caption, pa.table(columns), TABLE)


def _figure(inputs: AnalysisInputs, found: list[Bias]) -> SectionFigure:
    names = list(dict.fromkeys(one.name for one in found))
    values, low, high = (np.full((len(names), len(inputs.class_names)), math.nan) for _ in range(3))
    for one in found:
        if one.votes == OWN:
            place = names.index(one.name), one.label
            values[place], low[place], high[place] = one.correlation, one.low, one.high
    return SectionFigure(
        "bias",
        f"Correlations of similarity with {', '.join(names)} for {len(inputs.class_names)} classes",
        "Spearman correlation of the similarity to the prototypes with each property, with 95 % intervals.",
        trend_chart(names, inputs.class_names, values, low, high, "correlation with the similarity to the prototypes"),
    )


def _statement(inputs: AnalysisInputs, one: Bias, p_value: float) -> Statement:
    name = inputs.class_names[one.label].replace("_", " ")
    way = "rises" if one.correlation > 0 else "falls"
    by = "" if one.votes == OWN else f" (classes by {one.votes} votes)"
    text = f"Similarity to the prototypes of {name} {way} with {one.name.replace('_', ' ')}{by}, Spearman correlation"
    return Statement(text, one.correlation, one.low, one.high, one.n, p_value)
