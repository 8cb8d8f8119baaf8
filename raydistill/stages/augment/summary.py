"""Summarise fits: means with intervals, and paired differences to the baselines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from raydistill.stages.augment.artifact import FIGURES
from raydistill.stages.augment.config import BASELINES
from raydistill.statistics.crossed import CHANGES, PROPORTIONS, crossed_mean, ratio_values
from raydistill.statistics.intervals import known
from raydistill.statistics.testing import holm

NUM_RAREST = 3  # classes of rare_f1
PER_CLASS = ("completeness", "purity", "f1")
CHOSEN = "(chosen)"  # stands for the source that is best on validation galaxies

Labels = npt.NDArray[np.integer]


class Entrant(NamedTuple):
    """A method with its source, at one number of labelled galaxies.

    Parameters
    ----------
    method, source, shots
        As in `worker.Fit`.
    rows
        Rows of `runs.parquet` at the last step, by seed and replicate.
    """

    method: str
    source: str
    shots: int | None
    rows: list[dict[str, Any]]

    @property
    def predicted(self) -> Labels:
        """Return the predicted classes of test galaxies, [S, M, N], by seed and replicate."""
        replicates = len({row["replicate"] for row in self.rows})
        predicted = np.stack([row["predicted"] for row in self.rows])
        return predicted.reshape(-1, replicates, predicted.shape[1])

    @property
    def validation(self) -> float:
        """Return the mean balanced accuracy on the validation galaxies of each seed."""
        return float(np.mean([row["validation"] for row in self.rows]))

    @property
    def validation_all(self) -> float:
        """Return that on all validation galaxies, by which the baseline is chosen."""
        return float(np.mean([row["validation_all"] for row in self.rows]))

    def named(self) -> dict[str, Any]:
        """Return the keys of `report.json` that name the entrant."""
        return {"method": self.method, "source": self.source, "shots": self.shots}


def summarise(
    rows: list[dict[str, Any]], labels_N: Labels, class_names: Sequence[str], shots: Sequence[int | None]
) -> dict[str, Any]:
    """Return the entries of `report.json` that compare training sets.

    They are `rarest`, `results`, `baselines`, `chosen_sources` and `comparisons`.

    Parameters
    ----------
    rows
        Rows of `runs.parquet`.
    labels_N
        Classes of the test galaxies.
    class_names
        Names of the K classes.
    shots
        Numbers of labelled galaxies. At each of them, every method is compared with the baselines
        on the same galaxies.
    """
    last = max(row["step"] for row in rows)
    final = sorted((row for row in rows if row["step"] == last), key=lambda row: (row["seed"], row["replicate"]))
    results, comparisons, baselines, sources = [], [], [], []
    for count in shots:
        entrants = _entrants(final, count)
        best = max((entrant for entrant in entrants if entrant.method in BASELINES), key=lambda e: e.validation_all)
        baselines.append({"shots": count, "method": best.method, "validation": best.validation_all})
        if (chosen := _chosen(entrants)) is not None:
            sources.append({"shots": count, "source": chosen.source, "validation": chosen.validation})
        results += [_result(entrant, labels_N, class_names) for entrant in entrants]
        for entrant in entrants:
            references = [other for other in entrants if other.method in BASELINES and other.method != entrant.method]
            comparisons += [
                _compare(entrant, other, labels_N, class_names) | {"best_baseline": other == best}
                for other in references
            ]
    _adjust(comparisons)
    for entry in sources:
        results += _under_chosen(results, entry)
        comparisons += _under_chosen(comparisons, entry)
    names = [class_names[label] for label in rarest(labels_N)]
    return {
        "rarest": names,
        "baselines": baselines,
        "chosen_sources": sources,
        "results": results,
        "comparisons": comparisons,
    }


def _entrants(final: list[dict[str, Any]], shots: int | None) -> list[Entrant]:
    of_shots = [row for row in final if row["shots"] == shots]
    names = dict.fromkeys((row["method"], row["source"]) for row in of_shots)
    return [Entrant(*name, shots, [r for r in of_shots if (r["method"], r["source"]) == name]) for name in names]


def _chosen(entrants: list[Entrant]) -> Entrant | None:
    """Return the best of several `real_synthetic` sources on validation, else None."""
    mixed = [entrant for entrant in entrants if entrant.method == "real_synthetic"]
    return max(mixed, key=lambda entrant: entrant.validation) if len(mixed) > 1 else None


def _result(entrant: Entrant, labels_N: Labels, class_names: Sequence[str]) -> dict[str, Any]:
    def figure(name: str, label: int | None = None) -> dict[str, Any]:
        mean = _interval(entrant, None, labels_N, name, label)
        return {key: value for key, value in mean.items() if key != "p_value"}

    return {
        **entrant.named(),
        **{name: [row[name] for row in entrant.rows if not row["replicate"]] for name in ("lr", "ratio", "min_recognised")},
        "validation": entrant.validation,
        "diverged": sum(row["diverged"] for row in entrant.rows),
        **_figures(figure, class_names),
    }  # fmt: skip


def _compare(entrant: Entrant, other: Entrant, labels_N: Labels, class_names: Sequence[str]) -> dict[str, Any]:
    """Return the paired differences of two entrants.

    Pairs have the same seed, labelled galaxies, initial parameters and test galaxies.
    """

    def figure(name: str, label: int | None = None) -> dict[str, Any]:
        return _interval(entrant, other, labels_N, name, label)

    return {**entrant.named(), "baseline": other.method, **_figures(figure, class_names)}


def _figures(figure: Callable[..., dict[str, Any]], class_names: Sequence[str]) -> dict[str, Any]:
    per_class = {name: {key: figure(key, i) for key in PER_CLASS} for i, name in enumerate(class_names)}
    return {**{key: figure(key) for key in FIGURES}, "per_class": per_class}


def _interval(
    entrant: Entrant, other: Entrant | None, labels_N: Labels, figure: str, label: int | None
) -> dict[str, Any]:
    """Return a figure, or its paired difference to the other's, with an interval."""
    values_SMN = galaxy_values(entrant.predicted, labels_N, figure, label)
    if other is not None:
        values_SMN = values_SMN - galaxy_values(other.predicted, labels_N, figure, label)
    added = (PROPORTIONS if other is None else CHANGES) if figure in ("balanced_accuracy", "completeness") else ()
    result = crossed_mean(values_SMN, labels_N if figure == "balanced_accuracy" else None, added)
    counts = {"replicates": values_SMN.shape[1], "galaxies": result.replicates}
    return {name: known(value) for name, value in (result._asdict() | counts).items()}


def galaxy_values(predicted_SMN: Labels, labels_N: Labels, figure: str, label: int | None) -> npt.NDArray[np.float64]:
    """Return values of test galaxies, [S, M, N], whose mean is the figure.

    Ratios are linearised. The completeness of a class has values of its own galaxies alone, and the
    mean of the balanced accuracy is that over classes.
    """
    if figure == "balanced_accuracy":
        return (predicted_SMN == labels_N).astype(np.float64)
    if figure in ("macro_f1", "rare_f1"):
        classes = np.unique(labels_N).tolist() if figure == "macro_f1" else rarest(labels_N)
        return np.mean([galaxy_values(predicted_SMN, labels_N, "f1", other) for other in classes], axis=0)
    chosen_SMN, true_N = predicted_SMN == label, labels_N == label
    if figure == "completeness":
        return chosen_SMN[..., true_N].astype(np.float64)
    hits_SMN = chosen_SMN & true_N
    if figure == "purity":
        return ratio_values(hits_SMN, chosen_SMN)
    return ratio_values(2 * hits_SMN, chosen_SMN.astype(int) + true_N)


def rarest(labels_N: Labels) -> list[int]:
    """Return the three classes with the fewest galaxies, of those that occur."""
    classes, counts = np.unique(labels_N, return_counts=True)
    return np.sort(classes[np.argsort(counts, kind="stable")[:NUM_RAREST]]).tolist()


def _adjust(comparisons: list[dict[str, Any]]) -> None:
    """Add `p_holm` to the figures, adjusted within each of two families.

    These are comparisons with the best baseline, and those with the others. Comparisons of
    baselines with each other are not hypotheses.
    """
    for figure in FIGURES:
        for best in (True, False):
            tested = [
                comparison[figure]
                for comparison in comparisons
                if comparison["best_baseline"] == best
                and comparison["method"] not in BASELINES
                and comparison[figure]["p_value"] is not None
            ]
            adjusted = holm(np.array([entry["p_value"] for entry in tested], float))
            for entry, p_value in zip(tested, adjusted, strict=True):
                entry["p_holm"] = float(p_value)


def _under_chosen(entries: list[dict[str, Any]], chosen: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the chosen source's entries at its `shots`, with `CHOSEN` as the source."""
    return [
        row | {"source": CHOSEN}
        for row in entries
        if (row["method"], row["source"], row["shots"]) == ("real_synthetic", chosen["source"], chosen["shots"])
    ]
