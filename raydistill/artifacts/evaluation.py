"""EvaluationReport: what fresh networks learn from each training set, on galaxies nobody trained on.

`runs.parquet` has one row per trained network (subject, protocol, network, draw, seed, confusion matrix); `evaluation.json` sums it
up: one object per subject with `accuracy` and `balanced_accuracy` as {mean, std, n, ci95}, how many networks `diverged`, if any did,
and `per_class` completeness and purity. Where `evaluate.scores` asked for them, that of `distilled` holds `scores`, the DD-Ranking
scores of `core.scores`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from raydistill.artifacts.manifest import Manifest, open_folder
from raydistill.artifacts.tables import read_table
from raydistill.core import metrics, scores
from raydistill.storage import Folder

if TYPE_CHECKING:
    import pandas as pd

KIND = "evaluation"
SUBJECTS = (
    "distilled",
    "distilled_last",
    "distilled_hard",  # the distilled images with hard labels in place of their soft ones
    "random_real",
    "class_mean",
    "k_center",
    "herding",
    "dm",
    "experts",
    "full_data",
)

# In the column `validation`, of a network whose training diverged: its figures are those of its first parameters.
DIVERGED = -1.0
RUNS_SCHEMA = pa.schema(
    [
        ("subject", pa.string()),
        ("protocol", pa.string()),
        ("network", pa.string()),
        ("draw", pa.int32()),  # of the images, where they are drawn
        ("seed", pa.int32()),  # of the network
        ("lr", pa.float64()),  # null: the distilled set's own rates, or none
        ("validation", pa.float64()),  # balanced accuracy on validation images
        ("accuracy", pa.float64()),
        ("balanced_accuracy", pa.float64()),
        ("confusion", pa.list_(pa.int64())),  # K * K, row by row: true class, predicted class
    ]
)


FIGURES = ("balanced_accuracy", "accuracy")
COLUMNS = {"": "mean", "_ci95": "ci95"}  # suffix of a column of `table` -> key of evaluation.json


@dataclass(frozen=True)
class EvaluationReport:
    """An opened report; `summary` is evaluation.json."""

    folder: Folder
    manifest: Manifest
    summary: dict[str, Any]
    runs: pa.Table

    @staticmethod
    def open(uri: str | Folder, *, verify: bool = True) -> EvaluationReport:
        """The report at a path or URI; `verify` and errors as of `manifest.opened`."""
        folder, manifest = open_folder(uri, KIND, verify=verify)
        runs = read_table(folder, "runs.parquet")
        return EvaluationReport(folder, manifest, json.loads(folder.read("evaluation.json")), runs)

    def table(self) -> pd.DataFrame:
        """Return the accuracies: one row per training set, protocol and network.

        Returns
        -------
        pandas.DataFrame
            Columns `training_set`, `protocol` and `network` ("" for what has none), `balanced_accuracy`
            and `accuracy` (means over `num_networks` networks, in [0, 1]), `balanced_accuracy_ci95` and
            `accuracy_ci95` (half widths of 95 % intervals, NaN for one network), `num_diverged`.
        """
        import pandas as pd

        rows = [
            {"training_set": name, "protocol": entry["protocol"], "network": entry["network"]}
            | {f"{figure}{suffix}": entry[figure][key] for figure in FIGURES for suffix, key in COLUMNS.items()}
            | {"num_networks": entry["accuracy"]["n"], "num_diverged": entry.get("diverged", 0)}
            for name, summary in self.summary.items()
            for entry in summary["all"]
        ]
        return pd.DataFrame(rows).astype({f"{figure}{suffix}": float for figure in FIGURES for suffix in COLUMNS})


def summarise(runs: list[dict[str, Any]], class_names: list[str], protocol: str, network: str) -> dict[str, Any]:
    """evaluation.json's subjects: the figures of the main protocol and network, and under `all` those of every pair that was run."""
    subjects = {}
    for subject in SUBJECTS:
        own = [run for run in runs if run["subject"] == subject]
        if not own:
            continue
        # Experts have one network and no protocol; their figures stand for themselves.
        main = [run for run in own if run["protocol"] in (protocol, "") and run["network"] == network] or own
        pairs = sorted({(run["protocol"], run["network"]) for run in own})
        subjects[subject] = _figures(main) | {
            "per_class": _per_class(main, class_names),
            "all": [
                {"protocol": p, "network": n} | _figures([r for r in own if (r["protocol"], r["network"]) == (p, n)])
                for p, n in pairs
            ],
        }
    return subjects


def trained_network(entry: dict[str, Any], network: str) -> str:
    """On which network a subject's headline figures are: the main one, or that of experts which have another."""
    networks = [pair["network"] for pair in entry["all"]]
    return network if network in networks else str(networks[0])


def robust_scores(runs: list[dict[str, Any]], protocol: str, network: str) -> dict[str, Any]:
    """{label_robust, augmentation_robust} of the distilled set, from balanced accuracies under a protocol and the same unaugmented."""

    def of(subject: str, protocol: str = protocol) -> list[float]:
        named = (subject, protocol, network)
        return [run["balanced_accuracy"] for run in runs if (run["subject"], run["protocol"], run["network"]) == named]

    plain = unaugmented(protocol)
    return {
        "label_robust": scores.label_robust(
            of("full_data", ""), of("distilled"), of("random_real"), of("distilled_hard") or None
        ),
        "augmentation_robust": scores.augmentation_robust(
            of("distilled"), of("random_real"), of("distilled", plain), of("random_real", plain)
        ),
    }


def unaugmented(protocol: str) -> str:
    """The name of a protocol without its augmentation."""
    return f"{protocol} without augmentation"


def by_network(summary: dict[str, Any], protocol: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Subject to network to balanced accuracy {mean, std, n, ci95} under a protocol.

    Experts and full data have no protocol and one network: theirs stands under that one.
    """
    return {
        subject: {
            pair["network"]: pair["balanced_accuracy"] for pair in entry["all"] if pair["protocol"] in (protocol, "")
        }
        for subject, entry in summary.items()
    }


def _figures(runs: list[dict[str, Any]]) -> dict[str, Any]:
    diverged = sum(run.get("validation") == DIVERGED for run in runs)
    figures = {name: metrics.summarise([run[name] for run in runs]) for name in ("accuracy", "balanced_accuracy")}
    return figures | ({"diverged": diverged} if diverged else {})


def _per_class(runs: list[dict[str, Any]], class_names: list[str]) -> dict[str, Any]:
    k = len(class_names)
    matrices = [np.asarray(run["confusion"]).reshape(k, k) for run in runs]

    def figure(of: Callable[[np.ndarray], np.ndarray], label: int) -> dict[str, Any]:
        return metrics.summarise([float(of(matrix)[label]) for matrix in matrices])

    return {
        name: {"completeness": figure(metrics.completeness, i), "purity": figure(metrics.purity, i)}
        for i, name in enumerate(class_names)
    }
