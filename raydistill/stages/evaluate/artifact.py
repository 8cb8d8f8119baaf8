"""Define `EvaluationReport`: test accuracies of new networks, by training set.

- `runs.parquet`: a row per trained network, with its confusion matrix.
- `galaxies.parquet`: id and class of the test galaxies, in the order of `predicted` of the runs.
- `evaluation.json`: an object per training set. It holds `accuracy` and `balanced_accuracy` as
  {mean, std, n, ci95}, `calibration_error` of single networks, `per_class` completeness and purity,
  and `difference`, the balanced accuracy of the distilled set minus its own. `diverged` counts
  diverged networks, if any. With `evaluate.scores`, it and the baselines also hold `scores`, the
  DD-Ranking scores of `learning.metrics`.
- `groups.json`: with `evaluate.groups`, the completeness of groups and the bias with a nuisance.

The files call a training set `subject`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, Strict

from raydistill.artifacts import kinds
from raydistill.artifacts.display import Displayed
from raydistill.artifacts.manifest import COSTS, Manifest
from raydistill.artifacts.records import checked, read_json
from raydistill.artifacts.tables import read_table
from raydistill.learning import metrics
from raydistill.stages.evaluate.report.text import evaluation_text, html_of
from raydistill.statistics.crossed import CHANGES, PROPORTIONS, crossed_difference, crossed_mean, ratio_values
from raydistill.statistics.intervals import known
from raydistill.storage import Folder

if TYPE_CHECKING:
    import pandas as pd

KIND = kinds.EVALUATION
SUMMARY, GROUPS = "evaluation.json", "groups.json"
MAX_REPR = 2000  # characters of a table in a shell; a report of more training sets has one line
SUBJECTS = {
    "distilled": "a few images per class, made to stand for the training split",
    "distilled_last": "those of the last iteration",
    "distilled_hard": "the distilled images with one class each",  # hard labels in place of soft ones
    "random_real": "as many random images of the training split",
    "random_soft": "as many random images, labelled by the experts",
    "class_mean": "the mean image of each class",
    "cluster_mean": "the mean images of clusters of each class",
    "k_center": "as many training images, chosen to cover their class",
    "herding": "as many training images, whose mean is that of their class",
    "moderate": "as many training images, at the median distance to the mean feature of their class",
    "el2n": "as many training images, those that young experts know best",
    "el2n_window": "as many training images, of the difficulty that teaches most",
    "forgetting": "as many training images, those that experts forget least",
    "rded": "crops of training images that the experts recognise best",
    "dm": "images of the simpler method distribution matching",
    "ncfm": "images of the simpler method neural characteristic function matching",
    "dsa": "images of the simpler method gradient matching",
    "idc": "images of gradient matching, four in the pixels of one",
    "samples": "as many pictures of each class, drawn by a generator",
    "mgd3": "as many pictures of each class, which a generator drew near modes of the galaxies",
    "nearest_feature": "as many training images, nearest to the mean feature of their class",  # for heads alone
    "full_data_head": "all training images",  # for heads alone
    "experts": "the networks that the images imitate, trained on all training images",
    "full_data": "other networks trained on all training images",
}
UNSEEN = "unseen head"  # network of heads on encoders that the distilled set was not made with
HEAD = "head"  # protocol and network of linear heads on the experts' features (`stages.evaluate.measures.heads`)

# Value in the column `validation` where the training diverged: the row then evaluates the initial
# parameters.
DIVERGED = -1.0
RUNS_SCHEMA = pa.schema(
    [
        ("subject", pa.string()),
        ("protocol", pa.string()),
        ("network", pa.string()),
        ("draw", pa.int32()),  # number of the random draw of real images
        ("seed", pa.int32()),  # number of the network
        ("lr", pa.float64()),  # null: the distilled set's own learning rates, or none
        ("validation", pa.float64()),  # balanced accuracy on validation images
        ("accuracy", pa.float64()),
        ("balanced_accuracy", pa.float64()),
        ("calibration_error", pa.float64()),
        ("confusion", pa.list_(pa.int64())),  # K * K, row by row: true class, predicted class
        ("predicted", pa.list_(pa.int32())),  # class of each test galaxy
    ]
)
GALAXIES_SCHEMA = pa.schema([("object_id", pa.string()), ("label", pa.int32())])


FIGURES = ("balanced_accuracy", "accuracy")
COLUMNS = {"": "mean", "_ci95": "ci95"}  # column suffix in `table`: key of evaluation.json


Number = Annotated[float, Strict()]


@dataclass(frozen=True)
class _Mean:
    """A mean over networks in `evaluation.json`.

    std is over the `n` networks. ci95 is half the width of the interval for new networks and new
    galaxies (`statistics.crossed`).
    """

    mean: Number | None
    std: Number | None
    n: Annotated[int, Strict()]
    ci95: Number | None


@dataclass(frozen=True)
class _Pair:
    """The figures of a training set for one protocol and network."""

    protocol: str
    network: str
    balanced_accuracy: _Mean
    accuracy: _Mean


@dataclass(frozen=True)
class _Entry:
    """The keys of a training set that every `evaluation.json` has."""

    balanced_accuracy: _Mean
    accuracy: _Mean
    per_class: dict[str, dict[str, _Mean]]
    all: Annotated[list[_Pair], Field(min_length=1)]


@dataclass(frozen=True, repr=False)
class EvaluationReport(Displayed):
    """An opened evaluation.

    Attributes
    ----------
    folder
        Where the artifact is stored.
    manifest
        Its manifest.
    summary
        The contents of `evaluation.json`.
    runs
        One row per trained network, with the columns of `RUNS_SCHEMA`.
    """

    summary: dict[str, Any]
    runs: pa.Table

    kind = KIND
    _pictures = "accuracy.png"

    @property
    def cpu_seconds(self) -> dict[str, float]:
        """Return the measured processor time of each training set [s]."""
        return read_json(self.folder, COSTS, dict[str, float]) if COSTS in self.manifest.files else {}

    @classmethod
    def _read(cls, folder: Folder, manifest: Manifest) -> Self:
        runs = read_table(folder, "runs.parquet")
        summary = read_json(folder, SUMMARY, dict[str, Any])
        checked(folder, SUMMARY, dict[str, _Entry], summary)
        return cls(folder, manifest, summary, runs)

    def chosen(self, network: str) -> dict[str, dict[str, Any]]:
        """Return figures of a network by the best protocol on validation images.

        They are keyed by training set; each is an entry of its `all`. Training sets without this network
        are left out.
        """
        keys = ["subject", "protocol", "network"]
        means = self.runs.group_by(keys).aggregate([("validation", "mean")]).to_pylist()
        scores = {tuple(row[key] for key in keys): row["validation_mean"] for row in means}  # None: experts
        chosen = {}
        for name, entry in self.summary.items():
            plain = {unaugmented(pair["protocol"]) for pair in entry["all"]}  # for scores alone
            pairs = [pair for pair in entry["all"] if pair["network"] == network and pair["protocol"] not in plain]
            if pairs:
                chosen[name] = max(pairs, key=lambda pair: scores[name, pair["protocol"], network])
        return chosen

    def _contents(self) -> str:
        return f"{len(self.runs)} networks on {len(self.summary)} training sets"

    def __repr__(self) -> str:
        """Return the table and the verdict, as `raydistill run` prints them."""
        text = evaluation_text(self.summary, f"{self._contents()}; {self.folder.shown}")
        return text if len(text) <= MAX_REPR else super().__repr__()

    def _table_html(self) -> str:
        return html_of(self.summary)

    @property
    def groups(self) -> dict[str, Any]:
        """Return group figures by training set and nuisance; {} without `evaluate.groups`.

        Each has `groups` (class, lower and upper edge, galaxies, completeness), `worst`, the group
        of the lowest completeness, and `slope`, that of the true class's probability with the
        nuisance. Sizes count in decades.
        """
        return read_json(self.folder, GROUPS, dict[str, Any]) if GROUPS in self.manifest.files else {}

    def table(self) -> pd.DataFrame:
        """Return the accuracies: one row per training set, protocol and network.

        Returns
        -------
        pandas.DataFrame
            - `training_set`, `protocol` and `network`; "" where a training set has no protocol.
            - `balanced_accuracy` and `accuracy`: means over `num_networks` networks, in [0, 1].
            - `balanced_accuracy_ci95` and `accuracy_ci95`: half widths of 95 % intervals for new
              networks and galaxies, NaN for one network.
            - `num_diverged`: networks whose training diverged.
        """
        import pandas as pd

        return pd.DataFrame(accuracy_rows(self.summary)).astype(
            {f"{figure}{suffix}": float for figure in FIGURES for suffix in COLUMNS}
        )


def subjects(present: Collection[str]) -> list[str]:
    """Return training sets in the order of tables; those of other packages come last."""
    return [*(name for name in SUBJECTS if name in present), *sorted(set(present) - set(SUBJECTS))]


Labels = npt.NDArray[np.integer]


def headline(runs: list[dict[str, Any]], protocol: str, network: str) -> tuple[str, str]:
    """Return protocol and network of the headline figures: heads, if there are any."""
    return (HEAD, HEAD) if any(run["protocol"] == HEAD for run in runs) else (protocol, network)


def summarise(
    runs: list[dict[str, Any]], labels_N: Labels, class_names: list[str], protocol: str, network: str
) -> dict[str, Any]:
    """Return the contents of `evaluation.json`.

    Each training set has the figures for one protocol and network; `all` lists those of every pair.
    `labels_N` are the classes of the test galaxies.
    """
    summary = {}
    ours = [r for r in runs if (r["subject"], r["protocol"], r["network"]) == ("distilled", protocol, network)]
    for subject in subjects({run["subject"] for run in runs}):
        these = [run for run in runs if run["subject"] == subject]
        # Experts have no protocol, and may have another network than the main one.
        main = [run for run in these if run["protocol"] in (protocol, "") and run["network"] == network] or these
        pairs = sorted({(run["protocol"], run["network"]) for run in these})
        summary[subject] = _figures(main, labels_N) | {
            "per_class": _per_class(main, labels_N, class_names),
            "all": [
                {"protocol": p, "network": n}
                | _figures([r for r in these if (r["protocol"], r["network"]) == (p, n)], labels_N)
                for p, n in pairs
            ],
        }
        if subject != "distilled" and ours:
            summary[subject]["difference"] = _difference(ours, main, labels_N)
    return summary


def accuracy_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of `EvaluationReport.table`; an unknown interval is None."""
    return [
        {"training_set": name, "protocol": entry["protocol"], "network": entry["network"]}
        | {f"{figure}{suffix}": entry[figure][key] for figure in FIGURES for suffix, key in COLUMNS.items()}
        | {"num_networks": entry["accuracy"]["n"], "num_diverged": entry.get("diverged", 0)}
        for name, subject in summary.items()
        for entry in subject["all"]
    ]


def class_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return completeness and purity with 95 % intervals, by training set and class."""
    return [
        {"training_set": name, "class": label}
        | {f"{figure}{suffix}": value[key] for figure, value in figures.items() for suffix, key in COLUMNS.items()}
        for name, subject in summary.items()
        for label, figures in subject["per_class"].items()
    ]


def trained_network(entry: dict[str, Any], network: str) -> str:
    """Return the network of the headline figures: the main one, or the experts' own."""
    networks = [pair["network"] for pair in entry["all"]]
    return network if network in networks else str(networks[0])


def robust_scores(
    runs: list[dict[str, Any]], protocol: str, network: str, subject: str = "distilled"
) -> dict[str, Any]:
    """Return the DD-Ranking scores of a training set.

    They compare balanced accuracies under a protocol and under the same protocol without
    augmentation. A baseline with soft labels was not trained with hard ones: the first score then
    takes its own labels for hard ones.
    """

    def accuracies(subject: str, protocol: str = protocol) -> list[float]:
        named = (subject, protocol, network)
        return [run["balanced_accuracy"] for run in runs if (run["subject"], run["protocol"], run["network"]) == named]

    plain = unaugmented(protocol)
    return {
        "label_robust": metrics.label_robust(
            accuracies("full_data", ""),
            accuracies(subject),
            accuracies("random_real"),
            accuracies(f"{subject}_hard") or None,
        ),
        "augmentation_robust": metrics.augmentation_robust(
            accuracies(subject),
            accuracies("random_real"),
            accuracies(subject, plain),
            accuracies("random_real", plain),
        ),
    }


def unaugmented(protocol: str) -> str:
    """Return the name of a protocol without its augmentation."""
    return f"{protocol} without augmentation"


def by_network(summary: dict[str, Any], protocol: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Return balanced accuracies {mean, std, n, ci95} by training set and network.

    All are under one protocol. Experts and full data have none: they appear under their one
    network.
    """
    return {
        subject: {
            pair["network"]: pair["balanced_accuracy"] for pair in entry["all"] if pair["protocol"] in (protocol, "")
        }
        for subject, entry in summary.items()
    }


def _figures(runs: list[dict[str, Any]], labels_N: Labels) -> dict[str, Any]:
    diverged = sum(run.get("validation") == DIVERGED for run in runs)
    right_SN = _predicted(runs) == labels_N
    figures = {
        "accuracy": _mean(right_SN, [run["accuracy"] for run in runs], None),
        "balanced_accuracy": _mean(right_SN, [run["balanced_accuracy"] for run in runs], labels_N),
    }
    figures["calibration_error"] = metrics.summarise([run["calibration_error"] for run in runs])
    return figures | ({"diverged": diverged} if diverged else {})


def _predicted(runs: list[dict[str, Any]]) -> npt.NDArray[np.int64]:
    """Return the predicted classes of the test galaxies by each network, [S, N]."""
    return np.array([run["predicted"] for run in runs], np.int64)


def _mean(right_SN: npt.NDArray[np.bool_], figures: list[float], strata_N: Labels | None) -> dict[str, Any]:
    """Return {mean, std, n, ci95} of the networks' figures."""
    result = crossed_mean(right_SN.astype(np.float64), strata_N, PROPORTIONS)
    return metrics.summarise(figures) | {"ci95": known((result.high - result.low) / 2)}


def _difference(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], labels_N: Labels) -> dict[str, Any]:
    """Return the difference of the balanced accuracies on the same galaxies."""
    first, second = ((_predicted(runs) == labels_N).astype(np.float64) for runs in (ours, theirs))
    result = crossed_difference(first, second, labels_N, CHANGES)
    return {name: known(getattr(result, name)) for name in ("mean", "low", "high", "p_value")}


def _per_class(runs: list[dict[str, Any]], labels_N: Labels, class_names: list[str]) -> dict[str, Any]:
    k, predicted_SN = len(class_names), _predicted(runs)
    matrices = [np.asarray(run["confusion"]).reshape(k, k) for run in runs]

    def figure(metric: Callable[[np.ndarray], np.ndarray], label: int) -> list[float]:
        return [float(metric(matrix)[label]) for matrix in matrices]

    def purity(label: int) -> dict[str, Any]:
        """Return the purity; its interval is that of the linearised ratio."""
        chosen_SN = predicted_SN == label
        result = crossed_mean(ratio_values(chosen_SN & (labels_N == label), chosen_SN))
        return metrics.summarise(figure(metrics.purity, label)) | {"ci95": known((result.high - result.low) / 2)}

    return {
        name: {
            "completeness": _mean(predicted_SN[:, labels_N == i] == i, figure(metrics.completeness, i), None),
            "purity": purity(i),
        }
        for i, name in enumerate(class_names)
    }
