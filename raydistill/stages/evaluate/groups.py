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
from raydistill.stages.evaluate.artifact import GROUPS, SUBJECTS
from raydistill.stages.evaluate.group_robustness import Groups, counts
from raydistill.storage import Folder


@dataclass(frozen=True)
class LabelledGroups:
    """The bins of each nuisance, and the labels int64 [N] of the same test galaxies."""

    columns: tuple[Groups, ...]
    labels_N: np.ndarray

    @property
    def digest(self) -> str:
        """Return a text that identifies the bins of the test galaxies."""
        text = json.dumps([[one.column, one.edges, one.bins.tolist()] for one in self.columns])
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
    protocol, network = next(iter(config.evaluate.protocols)), config.network.name
    contents: dict[str, Any] = {}
    for subject in SUBJECTS:
        own = [row for row in rows if row["subject"] == subject]
        main = [row for row in own if row["protocol"] in (protocol, "") and row["network"] == network] or own
        if main:
            contents[subject] = {
                one.column: summarise_column(
                    one, groups.labels_N, curated.class_names, measured(main, one.column), options
                )
                for one in groups.columns
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
                shares = [one["correct"][label][number] / total for one in networks]
                low, high = groups.edges[number], groups.edges[number + 1]
                place: dict[str, Any] = {"class": name, "low_edge": low, "high_edge": high, "galaxies": total}
                entries.append(place | {"completeness": metrics.summarise(shares)})
    large = [entry for entry in entries if entry["galaxies"] >= options.min_galaxies]
    worst = min(large, key=lambda entry: entry["completeness"]["mean"], default=None)
    if worst is not None:
        found = round(worst["completeness"]["mean"] * worst["galaxies"])
        interval = stats.binomtest(found, worst["galaxies"]).proportion_ci(method="exact")
        worst = worst | {"low": float(interval.low), "high": float(interval.high)}
    slopes = [one["slope"] for one in networks if one["slope"] is not None]
    return {"worst": worst, "slope": metrics.summarise(slopes), "groups": entries}
