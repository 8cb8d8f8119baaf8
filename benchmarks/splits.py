"""Repeat a run on several splits of the galaxies, for intervals over splits.

    RAYDISTILL_DATA=FOLDER python benchmarks/splits.py CONFIG [--splits 5] [key=value ...]

Each split has its own training, validation and test galaxies (`curate.split_seed`), experts and
distilled set. The table has the mean balanced accuracy over the splits with its 95 % interval
(Student's t), the distilled set minus each other one, and beside it the half width of the interval
that a single evaluation gives for other networks and galaxies. A figure has the protocol that is
better on validation galaxies. A stopped run resumes when the command is run again.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict

import numpy as np
from running import run_stage

from raydistill.stages.evaluate.artifact import EvaluationReport
from raydistill.statistics.intervals import mean_interval
from raydistill.text import shown_name, text_table


def chosen_figures(report: EvaluationReport, network: str) -> dict[str, tuple[float, float]]:
    """Return mean and half width of the interval of each training set."""
    rows = [row for row in report.runs.to_pylist() if row["network"] == network]
    figures = {}
    for name, entry in report.summary.items():
        validation: dict[str, list[float]] = defaultdict(list)
        for row in rows:
            if row["subject"] == name:
                validation[row["protocol"]].append(-1.0 if row["validation"] is None else row["validation"])
        best = max(validation, key=lambda protocol: statistics.mean(validation[protocol]))
        pair = next(pair for pair in entry["all"] if (pair["protocol"], pair["network"]) == (best, network))
        balanced = pair["balanced_accuracy"]
        figures[name] = (balanced["mean"], float("nan") if balanced["ci95"] is None else balanced["ci95"])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("--splits", type=int, default=5)
    options, overrides = parser.parse_known_args()
    by_set: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for split in range(options.splits):
        arguments = [options.config, *overrides, f"curate.split_seed={split}"]
        for stage in ("curate", "experts", "distill"):
            run_stage(stage, arguments)
        report = EvaluationReport.open(run_stage("evaluate", arguments), verify=False)
        network = report.runs.to_pylist()[0]["network"]
        for name, figure in chosen_figures(report, network).items():
            by_set[name].append(figure)
    ours = np.array([mean for mean, _ in by_set["distilled"]])
    rows = []
    for name, figures in by_set.items():
        if len(figures) < options.splits:  # such as distilled_last, which is absent where the last iterate is the best
            continue
        means = np.array([mean for mean, _ in figures])
        whole, ahead = mean_interval(means), mean_interval(ours - means)
        difference = "" if name == "distilled" else f"{ahead.value:+.3f} ± {ahead.high - ahead.value:.3f}"
        single = statistics.mean(half for _, half in figures)
        rows.append(
            (shown_name(name), f"{whole.value:.3f} ± {whole.high - whole.value:.3f}", f"± {single:.3f}", difference)
        )
    head = ("trained on", "mean over splits, 95 %", "interval in one split", "distilled minus it")
    print(text_table(f"{options.config}: balanced accuracy in {options.splits} splits", [head, *rows]))


if __name__ == "__main__":
    main()
