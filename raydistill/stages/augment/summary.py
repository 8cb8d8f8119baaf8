"""Summarise fits: means with intervals, and paired differences to the baselines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from raydistill.learning import metrics
from raydistill.stages.augment.config import BASELINES
from raydistill.stages.augment.worker import NO_SHOTS
from raydistill.statistics.crossed import crossed_mean
from raydistill.statistics.intervals import known
from raydistill.statistics.testing import holm

FIGURES = ("balanced_accuracy", "macro_f1")
PER_CLASS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "completeness": metrics.completeness,
    "purity": metrics.purity,
    "f1": metrics.f1,
}
CHOSEN = "(chosen)"  # stands for the source that is best on validation galaxies


class Entrant(NamedTuple):
    """A method with its source, at one number of labelled galaxies.

    Parameters
    ----------
    method, source, shots
        As in `fits.Fit`.
    rows
        Rows of `runs.parquet` at the last step.
    """

    method: str
    source: str
    shots: int | None
    rows: list[dict[str, Any]]

    def values(self, figure: Callable[[dict[str, Any]], float]) -> npt.NDArray[np.float64]:
        """Return a figure of each fit, float64 [S, R], seeds and replicates in order."""
        seeds = sorted({row["seed"] for row in self.rows})
        replicates = sorted({row["replicate"] for row in self.rows})
        by_fit = {(row["seed"], row["replicate"]): figure(row) for row in self.rows}
        return np.array([[by_fit[seed, number] for number in replicates] for seed in seeds])

    @property
    def validation(self) -> float:
        """Return the mean balanced accuracy on validation galaxies."""
        return float(self.values(_column("validation")).mean())

    def named(self) -> dict[str, Any]:
        """Return the keys of `report.json` that name the entrant."""
        return {"method": self.method, "source": self.source, "shots": self.shots}


def summarise(rows: list[dict[str, Any]], class_names: Sequence[str], shots: Sequence[int | None]) -> dict[str, Any]:
    """Return `results`, `baselines`, `chosen_sources`, `comparisons` of `report.json`.

    Parameters
    ----------
    rows
        Rows of `runs.parquet`.
    class_names
        Names of the K classes.
    shots
        Numbers of labelled galaxies. At each of them, every method is compared with the baselines
        on the same galaxies. Methods without labelled galaxies enter at each.
    """
    last = max(row["step"] for row in rows)
    final = [row for row in rows if row["step"] == last]
    results, comparisons, baselines, sources = [], [], [], []
    for count in shots:
        entrants = _entrants(final, count)
        best = max((entrant for entrant in entrants if entrant.method in BASELINES), key=lambda e: e.validation)
        baselines.append({"shots": count, "method": best.method, "validation": best.validation})
        if (chosen := _chosen(entrants)) is not None:
            sources.append({"shots": count, "source": chosen.source, "validation": chosen.validation})
        results += [_result(entrant, class_names) | {"compared_at": count} for entrant in entrants]
        for entrant in entrants:
            references = [other for other in entrants if other.method in BASELINES and other.method != entrant.method]
            comparisons += [
                _compare(entrant, other, class_names) | {"compared_at": count, "best_baseline": other == best}
                for other in references
            ]
    _adjust(comparisons)
    for entry in sources:
        results += _under_chosen(results, entry)
        comparisons += _under_chosen(comparisons, entry)
    return {"baselines": baselines, "chosen_sources": sources, "results": results, "comparisons": comparisons}


def _entrants(final: list[dict[str, Any]], shots: int | None) -> list[Entrant]:
    of_shots = [row for row in final if row["shots"] in (shots, NO_SHOTS)]
    names = dict.fromkeys((row["method"], row["source"], row["shots"]) for row in of_shots)
    return [Entrant(*name, [r for r in of_shots if (r["method"], r["source"], r["shots"]) == name]) for name in names]


def _chosen(entrants: list[Entrant]) -> Entrant | None:
    """Return the best of several `real_synthetic` sources on validation, else None."""
    mixed = [entrant for entrant in entrants if entrant.method == "real_synthetic"]
    return max(mixed, key=lambda entrant: entrant.validation) if len(mixed) > 1 else None


def _column(name: str) -> Callable[[dict[str, Any]], float]:
    return lambda row: float(row[name])


def _of_class(metric: Callable[[np.ndarray], np.ndarray], label: int, k: int) -> Callable[[dict[str, Any]], float]:
    return lambda row: float(metric(np.asarray(row["confusion"]).reshape(k, k))[label])


def _result(entrant: Entrant, class_names: Sequence[str]) -> dict[str, Any]:
    row, k = entrant.rows[0], len(class_names)
    return {
        **entrant.named(),
        **{name: row[name] for name in ("lr", "ratio", "min_recognised")},
        "validation": entrant.validation,
        "diverged": sum(row["diverged"] for row in entrant.rows),
        **{name: _mean(entrant.values(_column(name))) for name in FIGURES},
        "per_class": {
            name: {figure: _mean(entrant.values(_of_class(metric, i, k))) for figure, metric in PER_CLASS.items()}
            for i, name in enumerate(class_names)
        },
    }


def _mean(values_SR: npt.NDArray[np.float64]) -> dict[str, Any]:
    result = crossed_mean(values_SR)
    return {name: known(getattr(result, name)) for name in ("mean", "low", "high", "seeds", "replicates")}


def _compare(entrant: Entrant, other: Entrant, class_names: Sequence[str]) -> dict[str, Any]:
    """Return the paired differences of two entrants.

    Pairs have the same seed, galaxies and initial parameters.
    """

    def difference(figure: Callable[[dict[str, Any]], float]) -> dict[str, Any]:
        result = crossed_mean(entrant.values(figure) - other.values(figure))
        return {name: known(value) for name, value in result._asdict().items()}

    k = len(class_names)
    return {
        **entrant.named(),
        "baseline": other.method,
        **{name: difference(_column(name)) for name in FIGURES},
        "per_class": {
            name: {figure: difference(_of_class(metric, i, k)) for figure, metric in PER_CLASS.items()}
            for i, name in enumerate(class_names)
        },
    }


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
        if (row["method"], row["source"], row["compared_at"]) == ("real_synthetic", chosen["source"], chosen["shots"])
    ]
