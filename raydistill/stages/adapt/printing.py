"""The result of an adaptation as text: accuracies, and the gap that it closes."""

from __future__ import annotations

from raydistill.config import Config
from raydistill.stages.adapt.artifact import METHODS, AdaptationReport
from raydistill.stages.evaluate.text import format_figure
from raydistill.text import sentence, text_table


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
        lines.append(sentence(f"{name}: the alignment {share}; on the source it costs {lost}."))
    return "\n".join(lines)
