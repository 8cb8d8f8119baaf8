"""The section about biases: do galaxies like a prototype have other properties?

Their size and redshift are compared with those of others of their class. Galaxies like the mean of
their class also have other properties, so the class mean is the control. The votes decide which
galaxies belong to a class, so the section repeats the measurement with raw, weighted and debiased
votes where the survey has them.
"""

from __future__ import annotations

from typing import NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import stats

from raydistill.config import CatalogSurvey
from raydistill.errors import CatalogError
from raydistill.galaxies.catalog import read_catalog, votes_array
from raydistill.galaxies.catalog_schemas import Fractions
from raydistill.seeding import fold_in
from raydistill.stages.analyse.inputs import AnalysisInputs, Ints
from raydistill.stages.analyse.report.charts import trend_chart
from raydistill.stages.analyse.sections import Quantity, Section, SectionFigure, SectionTable, Statement
from raydistill.statistics.intervals import Interval
from raydistill.statistics.resampling import bootstrap, normal_test
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
    Quantity("control", "the same correlation of similarity to the class means"),
    Quantity("excess", "correlation minus control"),
    Quantity("low", "lower end of its 95 % interval (bootstrap over galaxies)"),
    Quantity("high", "upper end of its 95 % interval"),
    Quantity("n", "galaxies of the class with a known value"),
    Quantity("p_value", "two-sided, of no excess; adjusted for all rows"),
)


class Bias(NamedTuple):
    """The correlation of similarity with a property, among the galaxies of a class."""

    votes: str
    label: int
    name: str
    correlation: float
    control: float
    excess: Interval
    n: int
    p_value: float  # not adjusted


def bias_section(inputs: AnalysisInputs) -> Section:
    """Return the section: correlations of similarity to the prototypes with nuisances.

    The nuisances are size, brightness and redshift.
    """
    title, labels = "Size and redshift bias", range(len(inputs.class_names))
    if len(labels) < 2:
        return Section("bias", title, missing="similarity compares classes, and there is one")
    prototypes_SN, means_KN = inputs.distances.get("features", inputs.distances["pixels"])
    similarity = similarities(prototypes_SN, inputs.prototype_labels, len(labels))
    control = similarities(means_KN, np.array(labels), len(labels))
    nuisances = [measured for measured in inputs.properties if measured.name in NUISANCES]
    memberships = {OWN: inputs.galaxy_labels, **members_by_votes(inputs)}
    biases = [
        bias
        for votes, labels_N in memberships.items()
        for label in labels
        for nuisance in nuisances
        if (
            bias := measure(
                votes, label, nuisance.name, similarity[label], control[label], nuisance.values_N, labels_N == label
            )
        )
        is not None
    ]
    if not biases:
        reason = f"no class has {MIN_GALAXIES} galaxies whose size, brightness or redshift is known"
        return Section("bias", title, missing=reason)
    p_values = holm(np.array([bias.p_value for bias in biases])).tolist()
    space = inputs.space("features" if "features" in inputs.distances else "pixels")
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
            "depend on apparent size, brightness or redshift. The class mean is the control: the excess is the correlation "
            "with the similarity to prototypes minus that with the similarity to class means.",
            votes_text,
        ),
        tables=(_table(inputs, biases, p_values),),
        figures=(_figure(inputs, biases),),
        statements=tuple(_statement(inputs, bias, p) for bias, p in zip(biases, p_values, strict=True)),
    )


def similarities(distances_LN: Floats, labels_L: Ints, num_classes: int) -> Floats:
    """Return how much nearer galaxies are to a class than to all others, [K, N].

    The distances are those of N galaxies from L images with these classes.
    """
    return np.stack(
        [distances_LN[labels_L != k].min(axis=0) - distances_LN[labels_L == k].min(axis=0) for k in range(num_classes)]
    )


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
    votes: str, label: int, name: str, similarity_N: Floats, control_N: Floats, values_N: Floats, members_N: np.ndarray
) -> Bias | None:
    """Return the correlations among class members; None if too few values are known.

    The interval is that of a bootstrap over galaxies, which keep their ranks.
    """
    used = members_N & np.isfinite(values_N)
    ranks_3M = np.stack([stats.rankdata(column[used]) for column in (similarity_N, control_N, values_N)])
    n = int(used.sum())
    if n < MIN_GALAXIES or np.std(ranks_3M[2]) == 0 or np.std(ranks_3M[0]) == 0:
        return None

    def correlations(rows: Ints) -> Floats:
        """Return both correlations of each resample, [B, 2]."""
        centred_3BM = ranks_3M[:, rows] - ranks_3M[:, rows].mean(axis=2, keepdims=True)
        sums_3B = np.sqrt((centred_3BM**2).sum(axis=2))
        products_2B = (centred_3BM[:2] * centred_3BM[2]).sum(axis=2)
        return (products_2B / np.maximum(sums_3B[:2] * sums_3B[2], 1e-12)).T

    ((correlation, control),) = correlations(np.arange(n)[None])
    seed = fold_in(0, "bias", votes, label, name)
    resampled_B2 = bootstrap(correlations, n, seed)
    excess, p_value = normal_test(float(correlation - control), resampled_B2[:, 0] - resampled_B2[:, 1])
    return Bias(votes, label, name, float(correlation), float(control), excess, n, p_value)


def _table(inputs: AnalysisInputs, biases: list[Bias], p_values: list[float]) -> SectionTable:
    rows = [
        (bias.votes, inputs.class_names[bias.label], bias.name, bias.correlation, bias.control, *bias.excess, bias.n, p)
        for bias, p in zip(biases, p_values, strict=True)
    ]
    caption = "Correlation of the similarity to the prototypes with properties that should not decide the class."
    return SectionTable.of_rows("bias", caption, rows, TABLE)


def _figure(inputs: AnalysisInputs, biases: list[Bias]) -> SectionFigure:
    names = list(dict.fromkeys(bias.name for bias in biases))
    excess = {(bias.name, bias.label): bias.excess for bias in biases if bias.votes == OWN}
    return SectionFigure(
        "bias",
        f"Correlations of similarity with {', '.join(names)} for {len(inputs.class_names)} classes",
        "Spearman correlation of the similarity to the prototypes with each property, minus that of the similarity to the "
        "class means, with 95 % intervals.",
        trend_chart(names, inputs.class_names, excess, "excess of the correlation over that of class means"),
    )


def _statement(inputs: AnalysisInputs, bias: Bias, p_value: float) -> Statement:
    name = inputs.class_names[bias.label].replace("_", " ")
    more = "more" if bias.excess.value > 0 else "less"
    by = "" if bias.votes == OWN else f" (classes by {bias.votes} votes)"
    text = (
        f"Similarity to the prototypes of {name} rises {more} with {bias.name.replace('_', ' ')} than similarity to their "
        f"class mean{by}, difference of Spearman correlations"
    )
    return Statement(text, *bias.excess, bias.n, p_value)
