"""The summary at the end of a run or a search: tables, a verdict, and paths."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.table import Table

from raydistill.artifacts.adaptation import FIGURE as ADAPTATION_FIGURE
from raydistill.artifacts.adaptation import METHODS, AdaptationReport
from raydistill.artifacts.analysis import REPORT as ANALYSIS_REPORT
from raydistill.artifacts.analysis import AnalysisReport
from raydistill.artifacts.audit import QUIZ, REPORT, AuditReport
from raydistill.artifacts.evaluation import SUBJECTS, EvaluationReport, by_network, trained_network
from raydistill.artifacts.hunt import FIGURE, LABELS, SHEET, HuntReport, HuntRound
from raydistill.artifacts.search import BEST, TRIALS, SearchReport, format_values
from raydistill.config import Config, network_names
from raydistill.pipeline.augment.printing import augmentation_report
from raydistill.pipeline.detect.printing import detection_report
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.tracking.of_plan import tracker_of
from raydistill.pipeline.tracking.uris import ui_command

SHOWN_TRIALS = 10
SHOWN_STATEMENTS = 10
HUNT_METRICS = (("end", "found"), ("start", "found_in_first"), ("end", "average_precision"))
LIGHT = ("flux", "colour_red_green", "colour_green_blue")  # quantities that an audit always shows
WIDTH = 240  # characters of a table; in a narrow terminal rich would truncate names


def report_of_run(plan: Plan, report: EvaluationReport, out: TextIO) -> None:
    """Print tables, verdict, paths of the figures and the command that opens MLflow."""
    console = Console(file=out, soft_wrap=True, highlight=False, width=WIDTH)
    head = ("trained on", "balanced accuracy ± 95 %", "accuracy ± 95 %")
    console.print(_table(f"{plan.config.name}: networks evaluated on test images", [head, *table(report)]))
    if plan.config.evaluate.other_networks:
        console.print(_table("balanced accuracy ± 95 % of other networks", network_table(report, plan.config)))
    if scores := score_table(report):
        title = "DD-Ranking's scores of the distilled set"
        console.print(_table(title, [("score", "in [0, 1]", "95 % interval"), *scores]))
    console.print(verdict(report.summary), style="bold")
    if (share := fraction_of_experts(report, plan.config)) is not None:
        console.print(f"It reaches {share:.0%} of its experts' balanced accuracy.")
    if plan.evaluated_set.folder.exists("atlas.png"):  # sets of other programs have none
        console.print(f"Prototypes beside images of their class: {plan.evaluated_set.folder}/atlas.png")
    console.print(f"Figures and confusion matrix:            {report.folder}")
    tracker = tracker_of(plan)
    if tracker.enabled:
        console.print(f"MLflow: {ui_command(tracker.uri)}")
        if (page := tracker.page()) is not None:
            console.print(f"        {page}")


def audit_report(plan: Plan, report: AuditReport, out: TextIO) -> None:
    """Print flux and colours, metrics that differ from real galaxies, and page paths."""
    console = Console(file=out, soft_wrap=True, highlight=False, width=WIDTH)
    summary = report.summary
    own = summary.words.own
    head = ("metric", "of", "value", "95 % interval", f"{own} against {own}", "differs")
    light = [one for one in report.findings if one.metric == "wasserstein" and one.feature in LIGHT]
    others = [one for one in report.significant if one not in light]
    rows = [
        (one.metric, one.feature, f"{one.value:.3g}", f"{one.low:.3g} to {one.high:.3g}",
         f"{one.floor_low:.3g} to {one.floor_high:.3g}", f"yes, p = {one.p_value:.3f}" if one.significant else "no")
        for one in (*light, *others)
    ]  # fmt: skip
    audited = f"pictures of {summary.other_survey}" if summary.other_survey else f"{summary.audited} pictures"
    title = f"{summary.num_pictures} {audited} against as many of {summary.survey}"
    console.print(_table(title, [head, *rows]))
    console.print(
        f"{len(report.significant)} of {len(report.findings)} metrics differ significantly from {own} galaxies.",
        style="bold",
    )
    console.print(f"Report: {report.folder}/{REPORT}")
    console.print(f"Quiz:   {report.folder}/{QUIZ}")


def analysis_report(plan: Plan, report: AnalysisReport, out: TextIO) -> None:
    """Print the significant statements of an analysis, and the path of its page."""
    console = Console(file=out, soft_wrap=True, highlight=False, width=WIDTH)
    statements = report.statements()
    tested, found = statements[statements.p_value.notna()], statements[statements.significant]
    console.print(f"{len(found)} of {len(tested)} tested statements are significant.", style="bold")
    for one in found.sort_values("p_value", kind="stable").head(SHOWN_STATEMENTS).to_dict("records"):
        value = _interval(one["value"], one["low"], one["high"])
        p_value = f"p = {one['p_value']:.3f}" if one["p_value"] >= 0.001 else "p < 0.001"
        console.print(f"- {one['text']}: {value}, n = {one['n']}, {p_value}")
    if len(found) > SHOWN_STATEMENTS:
        console.print(f"- and {len(found) - SHOWN_STATEMENTS} more")
    console.print(f"Report: {report.folder}/{ANALYSIS_REPORT}")


def hunt_report(plan: Plan, report: HuntRound | HuntReport, out: TextIO) -> None:
    """Print what a round knows or each strategy found, and paths of sheet and curves."""
    console = Console(file=out, soft_wrap=True, highlight=False, width=WIDTH)
    if isinstance(report, HuntRound):
        done = report.summary
        known = f"{done.num_labels} labels, {done.num_found} found so far"
        console.print(f"Round {done.number} of {done.target}: {known}.", style="bold")
        console.print(f"Label the candidates: {report.folder}/{SHEET}")
        console.print("Then run the same command with hunt.labels=labels.csv, the file that the sheet saves.")
        return
    summary = report.summary
    found = {(one["strategy"], one["moment"], one["metric"]): one for one in report.table().to_dict("records")}
    head = ("strategy", "found", "against real", "in the first 100 at the start", "average precision at the end")
    rows = []
    for name in summary.strategies:
        own = [found[name, *key] for key in HUNT_METRICS]
        mean, low, high = (own[0][key] for key in ("difference", "difference_low", "difference_high"))
        shown = [_interval(one["mean"], one["low"], one["high"]) for one in own]
        rows.append((name, shown[0], _interval(mean, low, high, sign="+"), *shown[1:]))
    spent = summary.rounds * summary.per_round
    title = f"{summary.target}: {summary.num_positive} of {summary.num_objects} objects, {spent} labels, {summary.seeds} seeds"
    console.print(_table(title, [head, *rows]))
    console.print(f"Curves: {report.folder}/{FIGURE}")
    console.print(f"Sheet:  {report.folder}/{SHEET}")
    console.print(f"Labels: {report.folder}/{LABELS}")


def _interval(mean: float, low: float, high: float, sign: str = "") -> str:
    """Return a mean and its 95 % interval; "-" for an unknown mean."""
    if math.isnan(mean):
        return "-"
    form = f"{sign}.{3 if abs(mean) < 1 else 1}f"
    return f"{mean:{form}}" + ("" if math.isnan(low) else f" [{low:{form}}, {high:{form}}]")


def adaptation_report(plan: Plan, report: AdaptationReport, out: TextIO) -> None:
    """Print an adaptation's accuracies, share of gap closed, calibration, rejection."""
    console = Console(file=out, soft_wrap=True, highlight=False, width=WIDTH)
    head = ("trained on", "method", "source ± 95 %", "target ± 95 %", "ECE", "Brier", "AUROC of unseen classes")
    rows = []
    for name, entry in report.figures.items():
        source = {"none": _format(entry["source"]), "adapted": _format(entry["source_adapted"])}
        for method in METHODS:
            others = (_format(entry[column][method]) for column in ("ece", "brier", "rejection_auroc"))
            rows.append((name, method, source.get(method, ""), _format(entry[method]), *others))
    title = f"{report.summary['source']} to {report.summary['target']}: balanced accuracy on test galaxies"
    console.print(_table(title, [head, *rows]))
    for name, entry in report.figures.items():
        closed, loss = entry["gap_closed"], entry["source_loss"]
        share = "has no gap to close"
        if closed["value"] is not None:
            share = f"closes {closed['value']:.0%} of the gap ({closed['low']:.0%} to {closed['high']:.0%})"
        lost = f"{100 * loss['value']:.1f} points ({100 * loss['low']:.1f} to {100 * loss['high']:.1f})"
        console.print(f"{name}: the alignment {share}; on the source it costs {lost}.", style="bold")
    console.print(f"Figure: {report.folder}/{ADAPTATION_FIGURE}")


def search_report(plan: Plan, report: SearchReport, out: TextIO) -> None:
    """Print the best recipes of a search, and the command that runs the best one."""
    console = Console(file=out, soft_wrap=True, highlight=False, width=WIDTH)
    head = ("trial", "best on validation", "at iteration", "of", "", "values of distill")
    rows = [
        (t["trial"], f"{t['best']:.3f}", str(t["best_iteration"]), str(t["iterations"]), t["status"],
         format_values(json.loads(t["values"])))
        for t in report.trials.slice(0, SHOWN_TRIALS).to_pylist()
    ]  # fmt: skip
    console.print(_table(f"the best of {len(report.trials)} recipes", [head, *rows]))
    console.print(f"All trials:      {report.folder}/{TRIALS}, {report.folder}/parallel.png")
    console.print(f"The best, whole: raydistill run {report.folder}/{BEST}")


def fraction_of_experts(report: EvaluationReport, config: Config) -> float | None:
    """Return the distilled set's balanced accuracy divided by its experts'.

    The result is None unless both have the same network.
    """
    distilled, experts = (
        report.summary.get(name, {}).get("balanced_accuracy", {}).get("mean") for name in ("distilled", "experts")
    )
    name = config.network.name
    if distilled and experts and trained_network(report.summary["experts"], name) == name:
        return float(distilled / experts)
    return None


def verdict(summary: Mapping[str, Any]) -> str:
    """Return, as a sentence, whether the distilled set beats its baselines.

    The margin is two standard errors.
    """
    ours = summary["distilled"]["balanced_accuracy"]
    baselines = {
        label: summary[name]["balanced_accuracy"]
        for name, label in (("random_real", "random real images"), ("class_mean", "class means"))
        if name in summary
    }
    if not baselines or any(figure["std"] is None for figure in (ours, *baselines.values())):
        return "The distilled set cannot be compared with its baselines: that needs at least two networks of each."
    not_beaten = []
    for label, theirs in baselines.items():
        error = math.hypot(*(figure["std"] / math.sqrt(figure["n"]) for figure in (ours, theirs)))
        if ours["mean"] - theirs["mean"] <= 2 * error:
            not_beaten.append(label)
    if not_beaten:
        return f"The distilled set did NOT beat {' and '.join(not_beaten)} by more than two standard errors."
    return f"The distilled set beats {' and '.join(baselines)} by more than two standard errors."


def table(report: EvaluationReport) -> list[tuple[str, str, str]]:
    """Return (training set, balanced accuracy, accuracy) as text, in report order."""
    return [
        (subject, _format(report.summary[subject]["balanced_accuracy"]), _format(report.summary[subject]["accuracy"]))
        for subject in SUBJECTS
        if subject in report.summary
    ]


def network_table(report: EvaluationReport, config: Config) -> list[tuple[str, ...]]:
    """Return a header of networks, and a row of balanced accuracies per training set.

    A cell has two lines.
    """
    networks, accuracies = network_names(config), by_network(report.summary, next(iter(config.evaluate.protocols)))
    rows = [
        (s, *(_format(accuracies[s].get(name)).replace(" ±", "\n±") for name in networks))
        for s in SUBJECTS
        if s in accuracies
    ]
    return [("trained on", *(name.replace("-", "\n", 1) for name in networks)), *rows]


def score_table(report: EvaluationReport) -> list[tuple[str, str, str]]:
    """Return (score, value, 95 % interval) as text; empty if no scores were computed."""
    scores = report.summary["distilled"].get("scores", {})
    return [
        (
            name.replace("_", "-"),
            "-" if figure["score"] is None else f"{figure['score']:.3f}",
            "-" if figure["low"] is None else f"{figure['low']:.3f} to {figure['high']:.3f}",
        )
        for name, figure in scores.items()
    ]


def _format(figure: dict[str, Any] | None) -> str:
    if figure is None or figure["mean"] is None:
        return "-"
    return f"{figure['mean']:.3f}" + ("" if figure["ci95"] is None else f" ± {figure['ci95']:.3f}")


def _table(title: str, rows: Sequence[Sequence[str]]) -> Table:
    """Return a table whose header is the first row."""
    result = Table(*rows[0], box=box.SIMPLE_HEAD, title=title)
    for row in rows[1:]:
        result.add_row(*row)
    return result


# Prints the result of a stage, given the plan, the artifact and a stream.
PRINTERS: dict[str, Callable[[Plan, Any, TextIO], None]] = {
    "evaluate": report_of_run,
    "audit": audit_report,
    "hunt": hunt_report,
    "analyse": analysis_report,
    "tune": search_report,
    "augment": augmentation_report,
    "adapt": adaptation_report,
    "detect": detection_report,
}
