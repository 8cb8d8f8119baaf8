"""The result of a search as text: its best recipes."""

from __future__ import annotations

import json

from raydistill.config import Config
from raydistill.stages.tune.artifact import SearchReport, format_values
from raydistill.text import text_table

SHOWN_TRIALS = 10


def search_report(config: Config, report: SearchReport) -> str:
    """Return the best recipes of a search."""
    head = ("trial", "validation", "at", "of", "", "values of distill")
    rows = [
        (t["trial"], f"{t['best']:.3f}", str(t["best_iteration"]), str(t["iterations"]), t["status"],
         format_values(json.loads(t["values"])).replace(" ", "\n"))
        for t in report.trials.slice(0, SHOWN_TRIALS).to_pylist()
    ]  # fmt: skip
    return text_table(f"the best of {len(report.trials)} recipes, by accuracy on validation images", [head, *rows])
