"""Write the figures of a detector at the end of the command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raydistill.config import Config
from raydistill.text import text_table

if TYPE_CHECKING:
    from raydistill.stages.detect.artifact import DetectionReport

HEAD = ("pictures", "truth", "method", "metric", "value", "95 % interval", "n")


def detection_text(config: Config, report: DetectionReport) -> str:
    """Return the figures."""
    rows = [
        (
            *(one[key] for key in ("images", "truth", "method", "metric")),
            f"{one['value']:.3f}",
            f"{one['low']:.3f} to {one['high']:.3f}",
            str(one["n"]),
        )
        for one in report.metrics["figures"]
    ]
    title = f"A detector trained on synthetic fields, on frames of {report.metrics['survey']}"
    return text_table(title, [HEAD, *rows]) + "\nOn these frames photutils is a reference, and not the truth."
