"""Calibrate the experts on validation galaxies, and measure it on test galaxies.

Nothing is measured on the galaxies that fitted the temperature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from pydantic import TypeAdapter
from scipy.stats import binomtest

from raydistill.artifacts.manifest import PARTIAL
from raydistill.artifacts.tables import write_rows
from raydistill.config import Config
from raydistill.figures.drawing import BLUE, CHART_DPI, FAINT, MUTED, Target, save, styled, wrapped
from raydistill.learning import metrics
from raydistill.learning.calibration import class_reliability, classwise_error
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.runtime.stages import save_figure
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.experts.classify.ensemble import (
    EnsembleSource,
    SplitLogits,
    calibrate,
    chosen_prior,
    split_logits,
)
from raydistill.stages.predict.artifact import FIGURE, RELIABILITY, RELIABILITY_SCHEMA, CalibrationSummary
from raydistill.statistics.resampling import draws
from raydistill.storage import checked
from raydistill.tracking.tracker import Run

RECORD = f"{PARTIAL}/calibration.json"
NUM_BINS = 10  # of the reliability of a class
NUM_RESAMPLES = 500

Probabilities = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


def measure_calibration(
    config: Config, curated: CuratedSet, source: EnsembleSource, spec: ArtifactSpec, run: Run
) -> CalibrationSummary:
    """Fit and measure the calibration, and draw it; a finished one is read."""
    if (values := checked.recorded(spec.folder, RECORD)) is not None:
        return TypeAdapter(CalibrationSummary).validate_python(values)
    validation = split_logits(config, curated, source, "validation")
    test = split_logits(config, curated, source, "test")
    used = calibrate(config, curated, validation)
    own = used.with_prior(chosen_prior("validation", curated))
    before, after = replace(own, prior=own.trained, temperature=1.0).apply(test.logits_NK), own.apply(test.logits_NK)
    prior_from = config.predict.prior if isinstance(config.predict.prior, str) else "table"
    figures = _compare(before, after, test.labels_N, config.seed) if len(test.labels_N) else {}
    summary = CalibrationSummary(used, prior_from, len(validation.labels_N), (), len(test.labels_N), figures)
    rows = _rows(before, after, test, source.class_names)
    write_rows(spec.folder, RELIABILITY, rows, RELIABILITY_SCHEMA)
    save_figure(spec, run, FIGURE, lambda path: draw_calibration(path, rows, source.class_names, summary))
    for name, pair in figures.items():
        run.metrics({f"test/{name}_{when}": values[0] for when, values in pair.items()}, 0)
    digests = {name: spec.folder.sha256(name) for name in (RELIABILITY, FIGURE)}
    checked.record(spec.folder, RECORD, digests, asdict(summary))
    return summary


Metric = Callable[[Probabilities, Labels], float]


METRICS: dict[str, Metric] = {
    "accuracy": lambda p_NK, y_N: metrics.accuracy(metrics.confusion_of(p_NK, y_N)),
    "balanced_accuracy": lambda p_NK, y_N: metrics.balanced_accuracy(metrics.confusion_of(p_NK, y_N)),
    "brier": metrics.brier,
    "cross_entropy": lambda p_NK, y_N: float(-np.log(np.maximum(p_NK[np.arange(len(y_N)), y_N], 1e-300)).mean()),
    "calibration_error": lambda p_NK, y_N: metrics.reliability(p_NK, y_N).error,
    "classwise_error": lambda p_NK, y_N: classwise_error(p_NK, y_N, NUM_BINS),
}


def _compare(
    before: Probabilities, after: Probabilities, labels_N: Labels, seed: int
) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Return each figure before and after, with basic bootstrap intervals.

    The calibration error of a resample is too large by about as much as that of the sample is. The
    basic interval, [2 v - q97.5, 2 v - q2.5], corrects for this (Davison & Hinkley 1997, Sect. 5.2).
    """
    resamples = [rows for block in draws(len(labels_N), seed, NUM_RESAMPLES) for rows in block]

    def figure(metric: Metric, probability_NK: Probabilities) -> tuple[float, float, float]:
        value = metric(probability_NK, labels_N)
        low, high = np.quantile([metric(probability_NK[rows], labels_N[rows]) for rows in resamples], (0.025, 0.975))
        return value, max(0.0, float(2 * value - high)), float(2 * value - low)

    return {
        name: {"before": figure(metric, before), "after": figure(metric, after)} for name, metric in METRICS.items()
    }


def _rows(before: Probabilities, after: Probabilities, test: SplitLogits, names: Sequence[str]) -> list[dict[str, Any]]:
    if not len(test.labels_N):
        return []
    return [
        {"class_name": name, "calibrated": calibrated, "count": count, "probability": confidence, "frequency": accuracy}
        for calibrated, probability_NK in ((False, before), (True, after))
        for name, bins in zip(names, class_reliability(probability_NK, test.labels_N, NUM_BINS), strict=True)
        for count, confidence, accuracy in zip(bins.count_B.tolist(), bins.confidence_B, bins.accuracy_B, strict=True)
        if count
    ]


@styled
def draw_calibration(
    path: Target, rows: Sequence[Mapping[str, Any]], names: Sequence[str], summary: CalibrationSummary
) -> None:
    """Draw a reliability diagram per class, before and after calibration.

    Parameters
    ----------
    rows
        Rows of `reliability.parquet`.
    names
        Names of the classes.
    summary
        Prior, temperature and figures, for the titles.

    Notes
    -----
    Each point is a tenth of the test galaxies, in the order of the probability; whiskers are 95 %
    Clopper-Pearson intervals of the frequency. Calibrated probabilities lie on the diagonal.
    """
    columns = min(5, len(names))
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.7 * lines + 0.9), dpi=CHART_DPI, layout="constrained")
    title = f"Probabilities and frequencies of {summary.num_test} test galaxies"
    if summary.test:
        error = summary.test["classwise_error"]
        title += f"; calibration error {error['before'][0]:.3f} before, {error['after'][0]:.3f} after"
    figure.suptitle(title, fontweight="bold", fontsize=10)
    for number, name in enumerate(names):
        axes = figure.add_subplot(lines, columns, number + 1)
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
        for calibrated, label, colour in ((False, "before", MUTED), (True, "after", BLUE)):
            kept = [row for row in rows if (row["class_name"], row["calibrated"]) == (name, calibrated)]
            tests = [binomtest(round(row["frequency"] * row["count"]), row["count"]) for row in kept]
            ends = np.array([test.proportion_ci() for test in tests])  # Clopper & Pearson
            frequency = np.array([row["frequency"] for row in kept])
            axes.errorbar(
                [row["probability"] for row in kept], frequency,
                yerr=np.abs(ends.T - frequency) if kept else None, color=colour, marker="o", markersize=3,
                linewidth=1, elinewidth=0.6, label=label,
            )  # fmt: skip
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_aspect("equal")
        axes.set_title(wrapped(name, 22), fontsize=8)
        if number % columns == 0:
            axes.set_ylabel("frequency")
        axes.set_xlabel("probability")
        if number == 0:
            axes.legend(fontsize=7)
    save(figure, path)
