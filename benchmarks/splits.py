"""Repeat a run on several splits of the galaxies, for intervals over splits.

    RAYDISTILL_DATA=FOLDER python benchmarks/splits.py CONFIG [--splits 5] [key=value ...]

Each split has its own training, validation and test galaxies (`curate.split_seed`), experts and
distilled set. The table has the mean balanced accuracy over the splits with its 95 % interval
(Student's t, corrected for galaxies that splits share: `mean_interval`), the distilled set minus each
other one, and beside it the half width of the interval that a single evaluation gives for other
networks and galaxies. A figure has the protocol that is
better on validation galaxies. There is a table for each network, and for heads on frozen features.
A stopped run resumes when the command is run again.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from typing import NamedTuple

import numpy as np
from running import run_stage, shown

from raydistill import load_config
from raydistill.stages.evaluate.artifact import EvaluationReport
from raydistill.statistics.intervals import Interval, mean_interval
from raydistill.text import shown_name, text_table

Figures = dict[str, tuple[float, float]]  # of each training set: mean, half width of its interval


def chosen_figures(report: EvaluationReport, network: str) -> Figures:
    """Return the figures of one network; a set on which a network diverged has none."""
    chosen = {n: pair["balanced_accuracy"] for n, pair in report.chosen(network).items() if not pair.get("diverged")}
    return {name: (of["mean"], float("nan") if of["ci95"] is None else of["ci95"]) for name, of in chosen.items()}


class Compared(NamedTuple):
    """A training set over the splits, and the distilled set minus it."""

    name: str
    accuracy: Interval
    ahead: Interval


def test_share(config: str, *overrides: str) -> float:
    """Return the number of test galaxies over that of training galaxies.

    A survey with a test split of its own has that one in all splits; intervals then leave out the
    choice of test objects.
    """
    train, _, test = load_config(config, *overrides).curate.split
    return test / train


def compared(splits: list[dict[str, float]], shared: float) -> list[Compared]:
    """Compare the sets that all splits have, the best first; shared: `test_share`.

    `distilled_last` is absent where the last iterate is the best.
    """
    ours = np.array([split["distilled"] for split in splits])
    means = {name: np.array([split.get(name, np.nan) for split in splits]) for name in splits[0]}
    rows = [
        Compared(name, mean_interval(of, shared), mean_interval(ours - of, shared))
        for name, of in means.items()
        if np.all(of == of)
    ]
    return sorted(rows, key=lambda row: -row.accuracy.value)


def difference(row: Compared) -> str:
    """Return the cell of the distilled set minus another one."""
    return "" if row.name == "distilled" else shown(row.ahead, "+")


def table(title: str, splits: list[Figures], shared: float) -> str:
    """Return the table of one network."""
    rows = []
    for row in compared([{name: mean for name, (mean, _) in figures.items()} for figures in splits], shared):
        single = statistics.mean(figures[row.name][1] for figures in splits)
        in_one = "" if np.isnan(single) else f"± {single:.3f}"  # a head on one encoder has none
        rows.append((shown_name(row.name), shown(row.accuracy), in_one, difference(row)))
    head = ("trained on", "mean over splits, 95 %", "interval in one split", "distilled minus it")
    return text_table(title, [head, *rows])


def report_of(config: str, overrides: list[str], split: int) -> EvaluationReport:
    """Run the stages on one split of the galaxies, and return the evaluation."""
    arguments = [config, *overrides, f"curate.split_seed={split}"]
    loaded = load_config(config, *overrides)
    run_stage("run", [*arguments, "--to", "curate"])  # a simulated survey is simulated first
    for stage in (*(() if loaded.distill.encoders else ("experts",)), "distill"):
        run_stage(stage, arguments)
    return EvaluationReport.open(str(run_stage("evaluate", arguments)), verify=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("--splits", type=int, default=5)
    options, overrides = parser.parse_known_args()
    by_network: dict[str, list[Figures]] = defaultdict(list)
    for split in range(options.splits):
        report = report_of(options.config, overrides, split)
        for network in dict.fromkeys(report.runs.column("network").to_pylist()):
            if "distilled" in (figures := chosen_figures(report, network)):  # full data has networks of its own
                by_network[network].append(figures)
    for network, splits in by_network.items():
        title = f"{options.config}, {network}: balanced accuracy in {len(splits)} splits"
        print(table(title, splits, test_share(options.config, *overrides)))


if __name__ == "__main__":
    main()
