"""The result of a hunt as text: what a round knows, or what each strategy found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raydistill.config import Config
from raydistill.stages.hunt.artifact import HuntReport, HuntRound
from raydistill.stages.hunt.config import REFERENCE, STRATEGIES
from raydistill.text import glossary, interval, sentence, shown_name, text_table

HUNT_METRICS = (("end", "found"), ("start", "found_in_first"))


HUNT_STRATEGIES = {
    "ceiling": "knows all labels, the best to hope for",
    REFERENCE: "learns from labels alone",
    "random": "labels random objects",
    "attributes": "ranks by the predicted answers of volunteers",
    "network": "a network on the pixels learns from labels alone",
    "fixmatch": "a network on the pixels learns from labels and from objects without one",
}


TWO_LINES = "\n"  # between a mean and its interval


def hunt_report(config: Config, report: HuntRound | HuntReport) -> str:
    """Return what a round knows, or what each strategy found and the verdict."""
    if isinstance(report, HuntRound):
        done = report.summary
        known = f"{done.num_labels} labels, {done.num_found} found so far"
        return sentence(
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
        sentence(hunt_verdict(name, spent, found[name, "end", "found"]))
        for name in sources
        if REFERENCE in summary.strategies
    ]
    words = HUNT_STRATEGIES | dict.fromkeys(sources, "learns from labels and from synthetic examples")
    explained = [
        sentence(f"found: wanted objects among {spent} labels, with the 95 % interval over the seeds", indent="  "),
        glossary(words, summary.strategies),
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
