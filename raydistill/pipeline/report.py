"""What a person sees at the end of a run or a search: tables, a verdict, and where the rest is."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.table import Table

from raydistill.artifacts.evaluation import SUBJECTS, EvaluationReport, by_network, trained_network
from raydistill.artifacts.search import BEST, TRIALS, SearchReport, format_values
from raydistill.config import Config
from raydistill.pipeline.evaluate.report import network_names
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.runtime.stages import tracking_uri
from raydistill.pipeline.tracking.tracker import ui_command

SHOWN_TRIALS = 10
WIDEST = 240  # characters of a table: rich would cut its names to fit a narrow terminal


def report_of_run(plan: Plan, report: EvaluationReport, out: TextIO) -> None:
    """What a person sees at the end: the table, the verdict, the pictures, and the command for MLflow."""
    console = Console(file=out, soft_wrap=True, highlight=False, width=WIDEST)
    head = ("trained on", "balanced accuracy ± 95 %", "accuracy ± 95 %")
    console.print(_table(f"{plan.config.name}: networks judged on test images", [head, *table(report)]))
    if plan.config.evaluate.other_networks:
        console.print(_table("balanced accuracy ± 95 % of other networks", network_table(report, plan.config)))
    if scores := score_table(report):
        title = "DD-Ranking's scores of the distilled set"
        console.print(_table(title, [("score", "in [0, 1]", "95 % interval"), *scores]))
    console.print(verdict(report.summary), style="bold")
    ours, theirs = (
        report.summary.get(name, {}).get("balanced_accuracy", {}).get("mean") for name in ("distilled", "experts")
    )
    name = plan.config.network.name
    if ours and theirs and trained_network(report.summary["experts"], name) == name:
        console.print(f"It reaches {ours / theirs:.0%} of its experts' balanced accuracy.")
    console.print(f"Prototypes beside images of their class: {plan.judged.folder}/atlas.png")
    console.print(f"Figures and confusion matrix:            {report.folder}")
    uri = tracking_uri(plan)
    if plan.config.tracking.enabled and uri:
        console.print(f"MLflow: {ui_command(uri)}")


def search_report(report: SearchReport, out: TextIO) -> None:
    """What a person sees at the end of a search: the best recipes, and what to do with the best."""
    console = Console(file=out, soft_wrap=True, highlight=False, width=WIDEST)
    head = ("trial", "best on validation", "at iteration", "of", "", "values of distill")
    rows = [
        (t["trial"], f"{t['best']:.3f}", str(t["best_iteration"]), str(t["iterations"]), t["status"],
         format_values(json.loads(t["values"])))
        for t in report.trials.slice(0, SHOWN_TRIALS).to_pylist()
    ]  # fmt: skip
    console.print(_table(f"the best of {len(report.trials)} recipes", [head, *rows]))
    console.print(f"All trials:      {report.folder}/{TRIALS}, {report.folder}/parallel.png")
    console.print(f"The best, whole: raydistill run {report.folder}/{BEST}")


def verdict(summary: Mapping[str, Any]) -> str:
    """Whether the distilled set beats random real images and class means by more than two standard errors, in a sentence."""
    ours = summary["distilled"]["balanced_accuracy"]
    rivals = {
        words: summary[name]["balanced_accuracy"]
        for name, words in (("random_real", "random real images"), ("class_mean", "class means"))
        if name in summary
    }
    if not rivals or any(figure["std"] is None for figure in (ours, *rivals.values())):
        return "Whether the distilled set beats its baselines cannot be said: that takes two networks of each, or more."
    lost = []
    for words, theirs in rivals.items():
        error = math.hypot(*(figure["std"] / math.sqrt(figure["n"]) for figure in (ours, theirs)))
        if ours["mean"] - theirs["mean"] <= 2 * error:
            lost.append(words)
    if lost:
        return f"The distilled set did NOT beat {' and '.join(lost)} by more than two standard errors."
    return f"The distilled set beats {' and '.join(rivals)} by more than two standard errors."


def table(report: EvaluationReport) -> list[tuple[str, str, str]]:
    """(subject, balanced accuracy, accuracy) for people, best first among the small sets."""
    return [
        (subject, _shown(report.summary[subject]["balanced_accuracy"]), _shown(report.summary[subject]["accuracy"]))
        for subject in SUBJECTS
        if subject in report.summary
    ]


def network_table(report: EvaluationReport, config: Config) -> list[tuple[str, ...]]:
    """A head with the networks' names, and for each subject its name and its balanced accuracy on each: two lines a cell."""
    networks, found = network_names(config), by_network(report.summary, next(iter(config.evaluate.protocols)))
    rows = [
        (s, *(_shown(found[s].get(name)).replace(" ±", "\n±") for name in networks)) for s in SUBJECTS if s in found
    ]
    return [("trained on", *(name.replace("-", "\n", 1) for name in networks)), *rows]


def score_table(report: EvaluationReport) -> list[tuple[str, str, str]]:
    """(score, its value, its 95 % interval) for people; empty where none was asked for."""
    found = report.summary["distilled"].get("scores", {})
    return [
        (
            name.replace("_", "-"),
            "-" if figure["score"] is None else f"{figure['score']:.3f}",
            "-" if figure["low"] is None else f"{figure['low']:.3f} to {figure['high']:.3f}",
        )
        for name, figure in found.items()
    ]


def _shown(figure: dict[str, Any] | None) -> str:
    if figure is None or figure["mean"] is None:
        return "-"
    return f"{figure['mean']:.3f}" + ("" if figure["ci95"] is None else f" ± {figure['ci95']:.3f}")


def _table(title: str, rows: Sequence[Sequence[str]]) -> Table:
    """The first row is the head."""
    drawn = Table(*rows[0], box=box.SIMPLE_HEAD, title=title)
    for row in rows[1:]:
        drawn.add_row(*row)
    return drawn
