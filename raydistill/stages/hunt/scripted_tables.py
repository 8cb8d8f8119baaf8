"""Return the curves and the rows of the tables of a comparison of strategies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.hunt.config import REFERENCE, Oracle
from raydistill.stages.hunt.curves import Curve
from raydistill.stages.hunt.objects import Scripted
from raydistill.stages.hunt.science.metrics import discovery_curve
from raydistill.stages.hunt.trials import METRICS
from raydistill.statistics.intervals import NO_INTERVAL, mean_interval, paired_difference

Trials = Mapping[str, Sequence[dict[str, Any]]]  # strategy -> the results of `TrialRunner.run` by seed


def discovery_curves(trials: Trials) -> dict[str, Curve]:
    """Return the mean curve of each strategy over its seeds.

    It ends at the number of labels that all trials spent.
    """
    spent = min(len(trial["rows"]) for own in trials.values() for trial in own)
    return {name: _curve(own, np.arange(0, spent + 1)) for name, own in trials.items()}


def _curve(own: Sequence[dict[str, Any]], labels: npt.NDArray[np.int64]) -> Curve:
    found_SL = np.array([discovery_curve(np.array(trial["found"], bool), labels) for trial in own], float)
    intervals = np.array([mean_interval(found_SL[:, n]) for n in range(len(labels))])
    return Curve(labels.astype(float), *intervals.T)


def curve_rows(curves: Mapping[str, Curve]) -> list[Mapping[str, Any]]:
    """Return the rows of the table of curves."""
    return [
        {"strategy": name, "labels": int(count), "mean": mean, "low": low, "high": high}
        for name, curve in curves.items()
        for count, mean, low, high in zip(curve.labels, curve.mean, curve.low, curve.high, strict=True)
    ]


def trial_rows(trials: Trials, ids: Sequence[str]) -> list[Mapping[str, Any]]:
    """Return a row per label spent; `ids` are those of the objects of the hunt."""
    return [
        {"strategy": name, "seed": seed, "label": n + 1, "object_id": ids[row], "found": found, "reason": reason}
        for name, own in trials.items()
        for seed, trial in enumerate(own)
        for n, (row, found, reason) in enumerate(zip(trial["rows"], trial["found"], trial["reasons"], strict=True))
    ]


def metric_rows(trials: Trials) -> list[Mapping[str, Any]]:
    """Return the rows of the table of metrics; differences are paired by seed.

    A seed in which nothing could be learnt at the start has no metrics there, and is left out.
    """
    values: dict[tuple[str, str, str], npt.NDArray[np.float64]] = {}
    for name, own in trials.items():
        values[name, "end", "found"] = np.array([sum(trial["found"]) for trial in own], float)
        for moment in ("start", "end"):
            for n, metric in enumerate(METRICS):
                values[name, moment, metric] = np.array(
                    [np.nan if trial[moment] is None else trial[moment][n] for trial in own], float
                )
    rows: list[Mapping[str, Any]] = []
    for (name, moment, metric), own_S in values.items():
        reference_S = values.get((REFERENCE, moment, metric), np.full(len(own_S), np.nan))
        both = ~np.isnan(own_S) & ~np.isnan(reference_S)
        level = mean_interval(own_S[~np.isnan(own_S)]) if (~np.isnan(own_S)).any() else NO_INTERVAL
        paired = both.any() and name != REFERENCE
        difference = paired_difference(own_S[both], reference_S[both]) if paired else NO_INTERVAL
        rows.append(
            {
                "strategy": name, "moment": moment, "metric": metric,
                "mean": level.value, "low": level.low, "high": level.high,
                "difference": difference.value, "difference_low": difference.low, "difference_high": difference.high,
                "seeds": int((~np.isnan(own_S)).sum()),
            }
        )  # fmt: skip
    return rows


def seen_rows(curated: CuratedSet, scripted: Scripted, oracle: Oracle) -> list[Mapping[str, Any]]:
    """Return how many wanted objects the experts and the synthetic sources have seen."""
    targets = scripted.targets
    training = set(curated.table("train", ["object_id"])["object_id"].to_pylist())
    seen: dict[str, set[str]] = {"experts": training}
    if oracle.attributes:
        seen["attributes"] = training - scripted.held_out
    seen |= {source.name: set(source.seen) for source in scripted.sources}
    return [{"by": name, "targets": len(own & targets), "galaxies": len(own)} for name, own in seen.items()]
