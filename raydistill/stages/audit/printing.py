"""The result of an audit as text: metrics that differ, and the verdict."""

from __future__ import annotations

from raydistill.config import Config
from raydistill.stages.audit.artifact import AuditReport
from raydistill.text import sentence, text_table

LIGHT = ("flux", "colour_red_green", "colour_green_blue")  # quantities that an audit always shows


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
    return f"{text_table(title, [head, *rows])}\n{sentence(words)}\n\n{sentence(audit_verdict(report))}"


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
