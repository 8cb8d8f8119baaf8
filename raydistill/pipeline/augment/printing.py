"""Print a comparison's table: accuracies, and differences to the best baseline."""

from __future__ import annotations

from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.table import Table

from raydistill.artifacts.augmentation import AugmentationReport
from raydistill.pipeline.plan import Plan

WIDTH = 240  # characters of a table; in a narrow terminal rich would truncate names
HEAD = ("method", "added", "ratio", "filter", "balanced accuracy", "difference", "macro-F1", "difference", "Holm's p")


def augmentation_report(plan: Plan, report: AugmentationReport, out: TextIO) -> None:
    """Print a table per number of labelled galaxies, and the paths of the figures."""
    console = Console(file=out, soft_wrap=True, highlight=False, width=WIDTH)
    summary = report.summary
    for baseline in summary["baselines"]:
        shots = baseline["shots"]
        galaxies = "all labelled galaxies" if shots is None else f"{shots} labelled galaxies of each class"
        title = (
            f"{summary['survey']}, {galaxies}, {summary['steps']} steps: mean, 95 % interval; "
            f"paired differences to {baseline['method']}, the best baseline on validation galaxies"
        )
        table = Table(*HEAD, box=box.SIMPLE_HEAD, title=title)
        for row in table_rows(summary, shots):
            table.add_row(*row, style="bold" if row[0] == baseline["method"] else None)
        console.print(table)
    console.print(f"Curves: {report.folder}/few_shot.png, {report.folder}/steps-*.png")
    console.print(f"Report: {report.folder}")


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
                    entry["method"], entry["source"], _number(entry["ratio"]), _number(entry["min_recognised"]),
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
