"""The groups of an evaluation: bins of the test galaxies, and `groups.json`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import stats
from torch import Tensor

from raydistill.config import Config, GroupOptions
from raydistill.errors import ArtifactIncompatible
from raydistill.learning import metrics
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.evaluate.artifact import GROUPS, subjects
from raydistill.storage import Folder


@dataclass(frozen=True)
class LabelledGroups:
    """The bins of each nuisance, and the labels int64 [N] of the same test galaxies."""

    columns: tuple[Groups, ...]
    labels_N: np.ndarray

    @property
    def digest(self) -> str:
        """Return a text that identifies the bins of the test galaxies."""
        text = json.dumps([[column.column, column.edges, column.bins.tolist()] for column in self.columns])
        return hashlib.sha256(text.encode()).hexdigest()


def load_groups(options: GroupOptions | None, curated: CuratedSet, independent_N: Tensor) -> LabelledGroups | None:
    """Return the bins of the evaluated test galaxies; None without `evaluate.groups`.

    Raises
    ------
    ArtifactIncompatible
        If a nuisance has no two different values.
    """
    if options is None:
        return None
    table = curated.table("test", list(options.columns)).filter(pa.array(independent_N.tolist(), pa.bool_()))
    columns = []
    for name in options.columns:
        values = [np.nan if value is None else value for value in table[name].to_pylist()]
        try:
            columns.append(Groups.of(name, np.array(values, np.float64), options.bins))
        except ValueError as error:
            fix = f"leave {name} out of evaluate.groups.columns, or set evaluate.groups=null"
            raise ArtifactIncompatible(f"{error} among its test galaxies", curated.folder.uri, fix) from error
    return LabelledGroups(tuple(columns), table["label"].to_numpy())


def write_groups(
    config: Config, folder: Folder, curated: CuratedSet, rows: list[dict[str, Any]], groups: LabelledGroups | None
) -> None:
    """Write `groups.json`: the figures of each training set.

    They are those of the first protocol and the main network.
    """
    options = config.evaluate.groups
    if groups is None or options is None:
        return
    protocol, network = config.headline
    contents: dict[str, Any] = {}
    for subject in subjects({row["subject"] for row in rows}):
        these = [row for row in rows if row["subject"] == subject and "groups" in row]  # heads have none
        main = [row for row in these if row["protocol"] in (protocol, "") and row["network"] == network] or these
        if main:
            contents[subject] = {
                column.column: summarise_column(
                    column, groups.labels_N, curated.class_names, measured(main, column.column), options
                )
                for column in groups.columns
            }
    folder.write(GROUPS, json.dumps(contents, indent=1).encode())


def measured(rows: list[dict[str, Any]], column: str) -> list[dict[str, Any]]:
    """Return the figures of `group_robustness.measure` of one column, by network."""
    return [figures for row in rows for figures in row["groups"] if figures["column"] == column]


def summarise_column(
    groups: Groups, labels_N: np.ndarray, class_names: list[str], networks: list[dict[str, Any]], options: GroupOptions
) -> dict[str, Any]:
    """Return completeness per group, the worst group and the slope, over networks.

    `ci95` of a figure is over networks. `low` and `high` of the worst group are the exact 95 %
    interval over its galaxies at the mean completeness.
    """
    totals = counts(groups, labels_N, len(class_names))
    entries: list[dict[str, Any]] = []
    for label, name in enumerate(class_names):
        for number in range(totals.shape[1]):
            if total := int(totals[label, number]):
                shares = [network["correct"][label][number] / total for network in networks]
                low, high = groups.edges[number], groups.edges[number + 1]
                place: dict[str, Any] = {"class": name, "low_edge": low, "high_edge": high, "galaxies": total}
                entries.append(place | {"completeness": metrics.summarise(shares)})
    large = [entry for entry in entries if entry["galaxies"] >= options.min_galaxies]
    worst = min(large, key=lambda entry: entry["completeness"]["mean"], default=None)
    if worst is not None:
        num_correct = round(worst["completeness"]["mean"] * worst["galaxies"])
        interval = stats.binomtest(num_correct, worst["galaxies"]).proportion_ci(method="exact")
        worst = worst | {"low": float(interval.low), "high": float(interval.high)}
    slopes = [network["slope"] for network in networks if network["slope"] is not None]
    return {"worst": worst, "slope": metrics.summarise(slopes), "groups": entries}


# Measure a classifier on groups: the galaxies of a class in a bin of a nuisance.
#
# - Completeness per class and bin; the worst group is the one with the lowest completeness.
# - Bias: the slope of p(true class) with the nuisance at fixed true class,
#
#       s = sum_i (x_i - m(x | y_i)) (p_i - m(p | y_i)) / sum_i (x_i - m(x | y_i))^2,
#
#   where m(. | y) is the mean over a class. A classifier that does not depend on the nuisance has a
#   slope of 0.
#
# Shape letters: N galaxies, K classes, M bins.

LOGARITHMIC = ("petro_r90",)  # columns whose slope is per decade


@dataclass(frozen=True)
class Groups:
    """The bins of one column.

    Attributes
    ----------
    column
        Name of the nuisance.
    values_N
        Its values; NaN where it is unknown.
    edges
        Lower and upper edges of all bins, M + 1 numbers.
    """

    column: str
    values_N: np.ndarray
    edges: tuple[float, ...]

    @staticmethod
    def of(column: str, values_N: np.ndarray, num_bins: int) -> Groups:
        """Return bins at the values' quantiles; ValueError if fewer than two differ."""
        known = values_N[np.isfinite(values_N)]
        edges = np.unique(np.quantile(known, np.linspace(0, 1, num_bins + 1))) if len(known) else known
        if len(edges) < 2:
            raise ValueError(f"{'no' if not len(known) else 'only one'} value of {column} is known")
        return Groups(column, values_N, tuple(edges.tolist()))

    @property
    def bins(self) -> np.ndarray:
        """Return the bin of each galaxy; -1 where the value is unknown."""
        bins = np.searchsorted(self.edges[1:-1], self.values_N, side="right")
        return np.where(np.isfinite(self.values_N), bins, -1)


def measure(groups: Groups, probabilities_NK: np.ndarray, labels_N: np.ndarray) -> dict[str, Any]:
    """Return the counts and the slope of one network.

    Returns
    -------
    dict
        `correct`: the right classifications, K lists of M integers; `slope`, None where it is undefined.
    """
    num_classes, num_bins = probabilities_NK.shape[1], len(groups.edges) - 1
    bins, right_N = groups.bins, probabilities_NK.argmax(axis=1) == labels_N
    correct = np.zeros((num_classes, num_bins), int)
    np.add.at(correct, (labels_N[(bins >= 0) & right_N], bins[(bins >= 0) & right_N]), 1)
    probability_N = probabilities_NK[np.arange(len(labels_N)), labels_N]
    return {"column": groups.column, "correct": correct.tolist(), "slope": _slope(groups, probability_N, labels_N)}


def counts(groups: Groups, labels_N: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the number of galaxies of each group, [K, M]."""
    bins = groups.bins
    total = np.zeros((num_classes, len(groups.edges) - 1), int)
    np.add.at(total, (labels_N[bins >= 0], bins[bins >= 0]), 1)
    return total


def _slope(groups: Groups, probabilities_N: np.ndarray, labels_N: np.ndarray) -> float | None:
    with np.errstate(divide="ignore", invalid="ignore"):
        x_N = np.log10(groups.values_N) if groups.column in LOGARITHMIC else groups.values_N
    known = np.isfinite(x_N)
    x, p, labels = x_N[known].astype(np.float64), probabilities_N[known].astype(np.float64), labels_N[known]
    for label in np.unique(labels):
        of_class = labels == label
        x[of_class] -= x[of_class].mean()
        p[of_class] -= p[of_class].mean()
    variance = float(x @ x)
    return float(x @ p) / variance if variance > 0 else None
