"""Log the counts of a curated set."""

from __future__ import annotations

from raydistill.artifacts.records import read_json
from raydistill.log import get_logger
from raydistill.stages.curate.summary import Summary
from raydistill.storage import Folder

log = get_logger(__name__)

HEAD = ("class", "candidates", "kept", "train", "valid", "test", "lowest p")
FORM = "%-*s %10s %6s %6s %6s %6s %10s"


def log_summary(summary: Summary) -> None:
    """Log a table of candidates, counts and lowest confidence per class."""
    width = max(len(entry.name) for entry in summary.classes)
    log.info(FORM, width, *HEAD)
    for c in summary.classes:
        lowest = "-" if c.lowest_confidence is None else f"{c.lowest_confidence:.3f}"
        log.info(FORM, width, c.name, c.candidates, c.kept, c.train, c.validation, c.test, lowest)
    log.info("candidates: galaxies of the class in the survey; kept: with a usable picture, in three splits")
    log.info("lowest p: the smallest confidence of a kept galaxy: its fraction of votes, or 1 for a plain label")
    if summary.levels:
        from raydistill.surveys.levels import format_levels

        log.info("curate: black and white of the pictures: %s", format_levels(summary.levels))
    if summary.rejected:
        reasons = ", ".join(f"{count} {reason}" for reason, count in summary.rejected.items())
        log.warning("curate: rejected pictures: %s (listed in rejected.parquet)", reasons)


def log_existing(folder: Folder) -> None:
    """Log the counts of a set that exists, and how to try rejected pictures again."""
    summary = read_json(folder, "summary.json", Summary)
    log_summary(summary)
    if num_rejected := sum(summary.rejected.values()):
        what = "curate: %d pictures were rejected when this set was curated; to try them again, remove %s"
        log.info(what, num_rejected, folder)
