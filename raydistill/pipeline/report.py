"""The result of a stage as text of at most 80 columns: tables and a verdict."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from raydistill.config import Config, network_names
from raydistill.stages.adapt.artifact import METHODS, AdaptationReport
from raydistill.stages.analyse.artifact import AnalysisReport
from raydistill.stages.audit.artifact import AuditReport
from raydistill.stages.augment.printing import augmentation_text
from raydistill.stages.detect.printing import detection_text
from raydistill.stages.evaluate.artifact import SUBJECTS, EvaluationReport, by_network, trained_network
from raydistill.stages.evaluate.text import HEAD, accuracy_table, format_figure, verdict
from raydistill.stages.hunt.artifact import HuntReport, HuntRound
from raydistill.stages.hunt.config import REFERENCE, STRATEGIES
from raydistill.stages.tune.artifact import SearchReport, format_values
from raydistill.text import WIDTH, interval, shown_name, text_table

SHOWN_TRIALS = 10
SHOWN_STATEMENTS = 10
HUNT_METRICS = (("end", "found"), ("start", "found_in_first"))
LIGHT = ("flux", "colour_red_green", "colour_green_blue")  # quantities that an audit always shows
TRAINING_SETS = {
    "distilled": "a few images per class, made to stand for the training split",
    "distilled_last": "those of the last iteration",
    "distilled_hard": "the distilled images with one class each",
    "random_real": "as many random images of the training split",
    "class_mean": "the mean image of each class",
    "k_center": "as many training images, chosen to cover their class",
    "herding": "as many training images, whose mean is that of their class",
    "dm": "images of the simpler method distribution matching",
    "ncfm": "images of the simpler method neural characteristic function matching",
    "experts": "the networks that the images imitate, trained on all training images",
    "full_data": "other networks trained on all training images",
}
HUNT_STRATEGIES = {
    "ceiling": "knows all labels, the best to hope for",
    REFERENCE: "learns from labels alone",
    "random": "labels random objects",
    "attributes": "ranks by the predicted answers of volunteers",
    "network": "a network on the pixels learns from labels alone",
    "fixmatch": "a network on the pixels learns from labels and from objects without one",
}
TWO_LINES = "\n"  # between a mean and its interval


def report_text(stage: str, config: Config, artifact: Any) -> str:
    """Return the result of a stage; "" for a stage whose result is no figures."""
    return REPORTS[stage](config, artifact) if stage in REPORTS else ""


def evaluation_report(config: Config, report: EvaluationReport) -> str:
    """Return the accuracies by training set, and the verdict."""
    title = f"{config.name}: accuracy on test images of new networks, by what they were trained on"
    parts = [
        text_table(title, [HEAD, *accuracy_table(report.summary)]),
        _sentence("balanced accuracy: the mean over the classes of the share that is recognised", indent="  "),
        f"{_glossary(TRAINING_SETS, report.summary)}\n",
    ]
    if config.evaluate.other_networks:
        parts.append(text_table("balanced accuracy ± 95 % of other networks", network_table(report, config)))
    if scores := score_table(report):
        title = "DD-Ranking's scores of the distilled set"
        parts.append(text_table(title, [("score", "in [0, 1]", "95 % interval"), *scores]))
    parts.append(_sentence(verdict(report.summary)))
    if (share := fraction_of_experts(report, config)) is not None:
        parts.append(f"It reaches {share:.0%} of its experts' balanced accuracy.")
    return "\n".join(parts)


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


def network_table(report: EvaluationReport, config: Config) -> list[tuple[str, ...]]:
    """Return a header of networks, and a row of balanced accuracies per training set.

    A cell has two lines.
    """
    networks, accuracies = network_names(config), by_network(report.summary, next(iter(config.evaluate.protocols)))
    rows = [
        (shown_name(s), *(format_figure(accuracies[s].get(name)).replace(" ±", "\n±") for name in networks))
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


def _glossary(words: Mapping[str, str], names: Iterable[str]) -> str:
    """Return a line that explains each name of a table."""
    return "\n".join(_sentence(f"{shown_name(name)}: {words[name]}", indent="  ") for name in names if name in words)


def audit_report(config: Config, report: AuditReport) -> str:
    """Return flux, colours, metrics that differ from real galaxies, and the verdict."""
    summary, own = report.summary, report.summary.words.own
    head = ("metric", "value", "95 % interval", f"{own}\nagainst\n{own}", "differs")
    light = [one for one in report.findings if one.metric == "wasserstein" and one.feature in LIGHT]
    others = [one for one in report.significant if one not in light]
    rows = [
        (f"{one.metric}\nof {one.feature}", f"{one.value:.3g}",
         f"{one.low:.3g} to\n{one.high:.3g}", f"{one.floor_low:.3g} to\n{one.floor_high:.3g}",
         f"p = {one.p_value:.3f}" if one.significant else "no")
        for one in (*light, *others)
    ]  # fmt: skip
    audited = f"pictures of {summary.other_survey}" if summary.other_survey else f"{summary.audited} pictures"
    title = f"{summary.num_pictures} {audited} against as many of {summary.survey}"
    words = (
        f"{own} against {own}: where 95 % of the values lie if both samples are {own} galaxies; "
        "p: how often chance alone gives such a difference."
    )
    return f"{text_table(title, [head, *rows])}\n{_sentence(words)}\n\n{_sentence(audit_verdict(report))}"


def audit_verdict(report: AuditReport) -> str:
    """Return, as a sentence, whether the pictures differ from the survey's galaxies."""
    words, differing = report.summary.words, report.significant
    if not differing:
        return (
            f"The {words.audited} pictures cannot be distinguished from {words.own} galaxies: none of the "
            f"{len(report.findings)} metrics differs by more than chance."
        )
    light = any(one.feature in LIGHT for one in differing)
    return (
        f"The {words.audited} pictures can be distinguished from {words.own} galaxies: {len(differing)} of "
        f"{len(report.findings)} metrics differ by more than chance, {'some' if light else 'none'} of them in flux or colour."
    )


def analysis_report(config: Config, report: AnalysisReport) -> str:
    """Return the most significant statements of an analysis."""
    statements = report.statements()
    tested, found = statements[statements.p_value.notna()], statements[statements.significant]
    lines = [f"{len(found)} of {len(tested)} tested statements are significant."]
    for one in found.sort_values("p_value", kind="stable").head(SHOWN_STATEMENTS).to_dict("records"):
        value = interval(one["value"], one["low"], one["high"])
        p_value = f"p = {one['p_value']:.3f}" if one["p_value"] >= 0.001 else "p < 0.001"
        lines.append(_sentence(f"- {one['text']}: {value}, n = {one['n']}, {p_value}", indent="  "))
    if len(found) > SHOWN_STATEMENTS:
        lines.append(f"- and {len(found) - SHOWN_STATEMENTS} more")
    return "\n".join(lines)


def hunt_report(config: Config, report: HuntRound | HuntReport) -> str:
    """Return what a round knows, or what each strategy found and the verdict."""
    if isinstance(report, HuntRound):
        done = report.summary
        known = f"{done.num_labels} labels, {done.num_found} found so far"
        return _sentence(
            f"Round {done.number} of {done.target}: {known}. Label the candidates on the sheet, and save labels.csv."
        )
    summary = report.summary
    found = {(one["strategy"], one["moment"], one["metric"]): one for one in report.table().to_dict("records")}
    reference = shown_name(REFERENCE)
    head = ("strategy", "found", f"more than\n{reference}", "in the best 100\nbefore any label")
    rows = []
    for name in summary.strategies:
        own = [found[name, *key] for key in HUNT_METRICS]
        shown = [interval(one["mean"], one["low"], one["high"], between=TWO_LINES) for one in own]
        mean, low, high = (own[0][key] for key in ("difference", "difference_low", "difference_high"))
        more = interval(mean, low, high, sign="+", between=TWO_LINES)
        rows.append((shown_name(name), shown[0], more, *shown[1:]))
    spent = summary.rounds * summary.per_round
    title = f"{summary.num_positive} of {summary.num_objects} objects are wanted; {spent} labels, {summary.seeds} seeds"
    sources = [name for name in summary.strategies if name not in STRATEGIES]
    verdicts = [
        _sentence(hunt_verdict(name, spent, found[name, "end", "found"]))
        for name in sources
        if REFERENCE in summary.strategies
    ]
    words = HUNT_STRATEGIES | dict.fromkeys(sources, "learns from labels and from synthetic examples")
    explained = [
        _sentence(f"found: wanted objects among {spent} labels, with the 95 % interval over the seeds", indent="  "),
        _glossary(words, summary.strategies),
    ]
    return "\n".join(
        [text_table(f"{summary.target}: {title}", [head, *rows]), *explained, *(["", *verdicts] if verdicts else [])]
    )


def hunt_verdict(source: str, labels: int, found: Mapping[Any, Any]) -> str:
    """Return, as a sentence, what synthetic examples add to the finds.

    Parameters
    ----------
    source
        Name of the synthetic examples.
    labels
        Number of labels.
    found
        The row of `METRICS_SCHEMA` of the finds.
    """
    mean, low, high = (found[key] for key in ("difference", "difference_low", "difference_high"))
    gain = f"{abs(mean):.1f} {'more' if mean >= 0 else 'fewer'}"
    what = (
        f"With the synthetic examples '{source}', {labels} labels find {found['mean']:.1f} objects, {gain} than without"
    )
    if low != low:  # one seed has no interval
        return f"{what}; one seed does not show whether that is chance."
    beyond = "more than chance explains" if low > 0 or high < 0 else "which may be chance"
    return f"{what} (95 % interval {low:+.1f} to {high:+.1f}): {beyond}."


def adaptation_report(config: Config, report: AdaptationReport) -> str:
    """Return accuracies, calibration and rejection, and the closed share of the gap."""
    head = ("trained on", "method", "source\n± 95 %", "target\n± 95 %", "ECE", "Brier", "AUROC of\nunseen classes")
    rows = []
    for name, entry in report.figures.items():
        source = {"none": format_figure(entry["source"]), "adapted": format_figure(entry["source_adapted"])}
        for method in METHODS:
            others = (format_figure(entry[column][method]) for column in ("ece", "brier", "rejection_auroc"))
            cells = (source.get(method, ""), format_figure(entry[method]), *others)
            rows.append((name, method, *(cell.replace(" ±", "\n±") for cell in cells)))
    title = f"{report.summary['source']} to {report.summary['target']}: balanced accuracy on test galaxies"
    lines = [text_table(title, [head, *rows])]
    for name, entry in report.figures.items():
        closed, loss = entry["gap_closed"], entry["source_loss"]
        share = "has no gap to close"
        if closed["value"] is not None:
            share = f"closes {closed['value']:.0%} of the gap ({closed['low']:.0%} to {closed['high']:.0%})"
        lost = f"{100 * loss['value']:.1f} points ({100 * loss['low']:.1f} to {100 * loss['high']:.1f})"
        lines.append(_sentence(f"{name}: the alignment {share}; on the source it costs {lost}."))
    return "\n".join(lines)


def search_report(config: Config, report: SearchReport) -> str:
    """Return the best recipes of a search."""
    head = ("trial", "validation", "at", "of", "", "values of distill")
    rows = [
        (t["trial"], f"{t['best']:.3f}", str(t["best_iteration"]), str(t["iterations"]), t["status"],
         format_values(json.loads(t["values"])).replace(" ", "\n"))
        for t in report.trials.slice(0, SHOWN_TRIALS).to_pylist()
    ]  # fmt: skip
    return text_table(f"the best of {len(report.trials)} recipes, by accuracy on validation images", [head, *rows])


def _sentence(text: str, indent: str = "") -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


REPORTS: dict[str, Callable[[Config, Any], str]] = {
    "evaluate": evaluation_report,
    "audit": audit_report,
    "hunt": hunt_report,
    "analyse": analysis_report,
    "tune": search_report,
    "augment": augmentation_text,
    "adapt": adaptation_report,
    "detect": detection_text,
}
