"""Write the files of an adaptation: rows, figures with intervals, and the chart.

The rows are those of all networks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score

from raydistill.artifacts.tables import write_rows
from raydistill.figures.drawing import (
    BLUE,
    CHART_DPI,
    FAINT,
    GREEN,
    MUTED,
    PURPLE,
    VERMILION,
    Target,
    save,
    styled,
    wrapped,
)
from raydistill.learning import metrics
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.runtime.stages import save_figure
from raydistill.seeding import fold_in
from raydistill.stages.adapt.alignment import entropy_of
from raydistill.stages.adapt.artifact import (
    FIGURE,
    METHODS,
    REJECTED,
    REJECTED_SCHEMA,
    RELIABILITY,
    RELIABILITY_SCHEMA,
    REPORT,
    RUNS,
    RUNS_SCHEMA,
    SHEET,
)
from raydistill.stages.adapt.opening import UNSEEN, Pictures, Surveys
from raydistill.stages.adapt.rejected import draw_clusters, reject, rows_of, summary_of
from raydistill.stages.adapt.worker import Fit, TrainedFit
from raydistill.statistics.crossed import PROPORTIONS, crossed_mean
from raydistill.statistics.intervals import Interval, known
from raydistill.statistics.resampling import difference, gap_closed
from raydistill.tracking.tracker import Run

Predictions = Mapping[tuple[Fit, str], np.ndarray]
Named = tuple[str, str]  # training set, method


def write_report(
    plan: Plan,
    spec: ArtifactSpec,
    surveys: Surveys,
    trained: Mapping[Fit, TrainedFit],
    tests: Mapping[str, Pictures],
    predictions: Predictions,
    features: Predictions,
    run: Run,
) -> None:
    """Write the files of the report; send the means to MLflow.

    Parameters
    ----------
    trained
        The tested networks.
    tests
        Test galaxies of the source, and of the target: as they are, matched with the source, and
        normalised by their own statistics.
    predictions
        Class probabilities [N, K] of each network for each of `tests`.
    features
        Features [N, F] of the matched target by each aligned network.
    """
    tested = _by_method(trained, predictions)
    source, target = (tests[name].labels.numpy() for name in ("source", "target"))
    rows = [
        _row(named, fit, trained[fit], predictions[fit, "source"], probabilities, source, target)
        for named, networks in tested.items()
        for fit, probabilities in networks.items()
    ]
    write_rows(spec.folder, RUNS, rows, RUNS_SCHEMA)
    bins = [row for named, networks in tested.items() for row in _bins(named, networks, target)]
    write_rows(spec.folder, RELIABILITY, bins, RELIABILITY_SCHEMA)
    names = list(dict.fromkeys(name for name, _ in tested if name))
    seed = fold_in(plan.config.seed, "bootstrap") % 2**32
    figures = {name: _figures(name, rows, tested, predictions, source, target, seed) for name in names}
    on_source, on_target = (
        _entropy(np.mean([predictions[fit, test] for fit, _ in features], axis=0)) for test in ("source", "matched")
    )
    found = reject(on_source, on_target, np.concatenate(list(features.values()), axis=1))
    galaxies = surveys.target.load("test")
    classes_N = np.array(surveys.target.class_names, object)[galaxies.labels_N.numpy()]
    write_rows(spec.folder, REJECTED, rows_of(found, on_target, galaxies.object_ids, classes_N), REJECTED_SCHEMA)
    summary = {
        "source": surveys.source.summary.survey,
        "target": surveys.target.summary.survey,
        "class_names": surveys.source.class_names,
        "unseen": surveys.unseen,
        "num_source": len(source),
        "num_target": int((target != UNSEEN).sum()),
        "num_unseen": int((target == UNSEEN).sum()),
        "training_sets": figures,
        "rejected": summary_of(found, on_target, classes_N, surveys.unseen),
    }
    spec.folder.write(REPORT, json.dumps(summary, indent=1).encode())
    run.artifact(spec.folder.local(REPORT))
    for name, entry in figures.items():
        run.metrics({f"{name}/{method}": entry[method]["mean"] for method in METHODS}, 0)
    save_figure(spec, run, FIGURE, lambda path: draw_adaptation(path, summary, bins))
    if found.numbers:
        save_figure(spec, run, SHEET, lambda path: draw_clusters(path, found, galaxies.images_NHWC.numpy()))


def _by_method(trained: Mapping[Fit, TrainedFit], predictions: Predictions) -> dict[Named, dict[Fit, np.ndarray]]:
    """Return the networks by training set and method, with their target predictions."""
    tested: dict[Named, dict[Fit, np.ndarray]] = {}
    for fit in trained:
        views = {"none": {"none": "target", "matched": "matched"}, "adapted": {"adapted": "matched"}}
        for method, view in views.get(fit.method, {"upper_bound": "own"}).items():
            tested.setdefault((fit.training_set, method), {})[fit] = predictions[fit, view]
    return tested


def _row(
    named: Named, fit: Fit, result: TrainedFit, on_source: np.ndarray, on_target: np.ndarray, source: np.ndarray,
    target: np.ndarray,
) -> dict[str, Any]:  # fmt: skip
    known = target != UNSEEN
    probabilities, labels = on_target[known], target[known]
    confusion_KK = metrics.confusion_of(probabilities, labels)
    return {
        "training_set": named[0],
        "method": named[1],
        "seed": fit.seed,
        "lr": fit.lr,
        "strength": fit.strength if named[1] == "adapted" else None,
        "diverged": result.diverged,
        "validation": result.validation,
        "source": metrics.balanced_accuracy(metrics.confusion_of(on_source, source)),
        "target": metrics.balanced_accuracy(confusion_KK),
        "ece": metrics.reliability(probabilities, labels).error,
        "brier": metrics.brier(probabilities, labels),
        "rejection_auroc": None if known.all() else float(roc_auc_score(~known, _entropy(on_target))),
        "target_confusion": confusion_KK.reshape(-1).tolist(),
    }


def _entropy(probabilities_NK: np.ndarray) -> np.ndarray:
    tiny = np.finfo(np.float64).tiny
    return entropy_of(torch.tensor(probabilities_NK).clamp_min(tiny).log()).numpy()


def _bins(named: Named, networks: Mapping[Fit, np.ndarray], target: np.ndarray) -> list[dict[str, Any]]:
    """Return the bins of the confidence, over all networks of a kind."""
    known = target != UNSEEN
    pooled = np.concatenate([probabilities[known] for probabilities in networks.values()])
    bins = metrics.reliability(pooled, np.tile(target[known], len(networks)))
    columns = zip(bins.count_B.tolist(), bins.confidence_B.tolist(), bins.accuracy_B.tolist(), strict=True)
    return [
        {"training_set": named[0], "method": named[1], "bin": number, "count": count,
         "confidence": confidence if count else None, "accuracy": accuracy if count else None}
        for number, (count, confidence, accuracy) in enumerate(columns)
    ]  # fmt: skip


def _figures(
    name: str, rows: list[dict[str, Any]], tested: Mapping[Named, Mapping[Fit, np.ndarray]], predictions: Predictions,
    source: np.ndarray, target: np.ndarray, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Return the figures of a training set, see `AdaptationReport.figures`."""

    def networks(method: str) -> Mapping[Fit, np.ndarray]:
        return tested["" if method == "upper_bound" else name, method]

    def figure(column: str, method: str) -> dict[str, Any]:
        set_name = "" if method == "upper_bound" else name
        values = [row[column] for row in rows if (row["training_set"], row["method"]) == (set_name, method)]
        return metrics.summarise([math.nan if value is None else value for value in values])

    def accuracy(column: str, method: str, right_SN: np.ndarray, labels_N: np.ndarray) -> dict[str, Any]:
        return figure(column, method) | {"ci95": _half_width(right_SN, labels_N)}

    known = target != UNSEEN

    def correct(method: str) -> np.ndarray:
        return np.stack([p_NK[known].argmax(axis=1) == target[known] for p_NK in networks(method).values()])

    def correct_on_source(method: str) -> np.ndarray:
        return np.stack([predictions[fit, "source"].argmax(axis=1) == source for fit in networks(method)])

    loss = difference(correct_on_source("none"), correct_on_source("adapted"), source, seed)
    closed = {
        method: gap_closed(correct("none"), correct(method), correct("upper_bound"), target[known], seed)
        for method in ("matched", "adapted")
    }
    first = next(iter(networks("adapted")))
    return {
        "lr": first.lr,
        "strength": first.strength,
        "source": accuracy("source", "none", correct_on_source("none"), source),
        "source_adapted": accuracy("source", "adapted", correct_on_source("adapted"), source),
        **{method: accuracy("target", method, correct(method), target[known]) for method in METHODS},
        "source_loss": _plain(loss),
        "gap_closed": _plain(closed["adapted"]),
        "gap_closed_matched": _plain(closed["matched"]),
        **{
            column: {method: figure(column, method) for method in METHODS}
            for column in ("ece", "brier", "rejection_auroc")
        },
    }


def _half_width(right_SN: np.ndarray, labels_N: np.ndarray) -> float | None:
    """Return half the 95 % interval of balanced accuracy (networks and galaxies)."""
    result = crossed_mean(right_SN.astype(np.float64), labels_N, PROPORTIONS)
    return known((result.high - result.low) / 2)


def _plain(interval: Interval) -> dict[str, float | None]:
    return {key: known(value) for key, value in interval._asdict().items()}


# Draw the four accuracies per training set and the calibration of an adaptation.

# Key of the figures, name, colour.
BARS = (
    ("source", "source", FAINT),
    ("none", "target, without", VERMILION),
    ("matched", "target, pixels matched", PURPLE),
    ("adapted", "target, aligned", BLUE),
    ("upper_bound", "target, trained on its labels", GREEN),
)


@styled
def draw_adaptation(path: Target, summary: Mapping[str, Any], bins: Sequence[Mapping[str, Any]]) -> None:
    """Draw the accuracies as bars, and the first training set's reliability diagram.

    Parameters
    ----------
    summary
        The contents of `report.json`.
    bins
        Rows of `reliability.parquet`.

    Notes
    -----
    Whiskers are 95 % intervals over networks and galaxies. The diagram shows, for bins of the confidence on the
    target, the fraction of predictions that is right; those of calibrated networks lie on the
    diagonal. Bins with fewer than ten predictions are left out.
    """
    figures = summary["training_sets"]
    figure = Figure(figsize=(4.4 + 2.2 * len(figures), 4.4), dpi=CHART_DPI, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[2.4 * len(figures), 3.6])
    figure.suptitle(f"{summary['source']} to {summary['target']}", fontweight="bold")
    _draw_bars(left, figures)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=7)
    _draw_reliability(right, next(iter(figures)), bins)
    save(figure, path)


def _draw_bars(axes: Axes, figures: Mapping[str, Any]) -> None:
    width = 0.8 / len(BARS)
    for number, (key, name, colour) in enumerate(BARS):
        means = [entry[key]["mean"] for entry in figures.values()]
        errors = [entry[key]["ci95"] or 0.0 for entry in figures.values()]
        places = np.arange(len(figures)) + (number - (len(BARS) - 1) / 2) * width
        axes.bar(places, means, width * 0.9, yerr=errors, color=colour, ecolor=MUTED, label=name)
        for place, mean in zip(places, means, strict=True):
            axes.annotate(f"{mean:.2f}", (place, 0.02), ha="center", fontsize=7, rotation=90)
    axes.set_xticks(range(len(figures)), [wrapped(name, 16) for name in figures])
    axes.set_ylim(0, 1)
    axes.set_ylabel("balanced accuracy on test galaxies")


def _draw_reliability(axes: Axes, training_set: str, bins: Sequence[Mapping[str, Any]]) -> None:
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
    for key, name, colour in BARS[1:]:
        set_name = "" if key == "upper_bound" else training_set
        kept = [row for row in bins if (row["training_set"], row["method"]) == (set_name, key) and row["count"] >= 10]
        axes.plot(
            [row["confidence"] for row in kept], [row["accuracy"] for row in kept],
            color=colour, marker="o", markersize=3, linewidth=1.2, label=name,
        )  # fmt: skip
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("confidence on the target")
    axes.set_ylabel("fraction right")
    axes.set_title(f"trained on {wrapped(training_set, 30)}", loc="left")
