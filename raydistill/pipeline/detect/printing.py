"""Print the figures of a detector at the end of the command."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from rich import box
from rich.console import Console
from rich.table import Table

from raydistill.pipeline.plan import Plan

if TYPE_CHECKING:
    from raydistill.artifacts.detection import DetectionReport

WIDTH = 240  # characters of a table; in a narrow terminal rich would truncate names
HEAD = ("pictures", "truth", "method", "metric", "value", "95 % interval", "n")


def detection_report(plan: Plan, report: DetectionReport, out: TextIO) -> None:
    """Print the figures, and the path of the frames with boxes."""
    from raydistill.artifacts.detection import FIGURE  # imports torch

    console = Console(file=out, soft_wrap=True, highlight=False, width=WIDTH)
    title = f"A detector trained on synthetic fields, on real frames of {report.metrics['survey']}"
    table = Table(*HEAD, box=box.SIMPLE_HEAD, title=title)
    for one in report.metrics["figures"]:
        interval = f"{one['low']:.3f} to {one['high']:.3f}"
        names = (one["images"], one["truth"], one["method"], one["metric"])
        table.add_row(*names, f"{one['value']:.3f}", interval, str(one["n"]))
    console.print(table)
    console.print("On real frames photutils is a reference, and not the truth.", style="bold")
    console.print(f"Frames with boxes: {report.folder}/{FIGURE}")
