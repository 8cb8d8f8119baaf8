"""Write a comparison's tables: accuracies, and differences to the best baseline."""

from __future__ import annotations

from typing import Any

from raydistill.config import Config
from raydistill.stages.augment.artifact import AugmentationReport
from raydistill.text import shown_name, text_table

HEAD = ("method", "added", "ratio", "filter", "balanced\naccuracy", "difference", "macro-F1", "difference", "Holm's\np")


def augmentation_text(config: Config, report: AugmentationReport) -> str:
    """Return a table per number of labelled galaxies."""
    summary, parts = report.summary, []
    for baseline in summary["baselines"]:
        shots = baseline["shots"]
        galaxies = "all labelled galaxies" if shots is None else f"{shots} labelled galaxies of each class"
        title = (
            f"{summary['survey']}, {galaxies}, {summary['steps']} steps: mean, 95 % interval; "
            f"paired differences to {shown_name(baseline['method'])}, the best baseline on validation galaxies"
        )
        rows = [[cell.replace(" [", "\n[") for cell in row] for row in table_rows(summary, shots)]
        parts.append(text_table(title, [HEAD, *rows]))
    return "\n".join(parts)


def table_rows(summary: dict[str, Any], shots: int | None) -> list[tuple[str, ...]]:
    """Return the rows of the table at one number of labelled galaxies, as text."""
    differences = {
        (one["method"], one["source"]): one
        for one in summary["comparisons"]
        if one["compared_at"] == shots and one["best_baseline"]
    }
    rows: list[tuple[str, ...]] = []
    for entry in summary["results"]:
        if entry["compared_at"] == shots:
            other = differences.get((entry["method"], entry["source"]), {})
            rows.append(
                (
                    shown_name(entry["method"]), entry["source"], _number(entry["ratio"]), _number(entry["min_recognised"]),
                    _interval(entry["balanced_accuracy"]), _interval(other.get("balanced_accuracy"), "+"),
                    _interval(entry["macro_f1"]), _interval(other.get("macro_f1"), "+"),
                    _number(other.get("macro_f1", {}).get("p_holm"), ".3f"),
                )
            )  # fmt: skip
    return rows


def _number(value: float | None, form: str = "g") -> str:
    return "" if value is None else format(value, form)


def _interval(figure: dict[str, Any] | None, sign: str = "") -> str:
    if figure is None or figure["mean"] is None:
        return ""
    mean = format(figure["mean"], f"{sign}.3f")
    return mean if figure["low"] is None else f"{mean} [{figure['low']:{sign}.3f}, {figure['high']:{sign}.3f}]"
