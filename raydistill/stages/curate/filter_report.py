"""Report the filter: limits, false rejections and recognised defects by reason.

The report is `filter.json`.
"""

from __future__ import annotations

from typing import Any

from raydistill.config import PictureFilter
from raydistill.log import get_logger
from raydistill.simulation.defects import Reason
from raydistill.stages.curate.filter_worker import FoldResult
from raydistill.stages.curate.picture_filter import binomial_interval

log = get_logger(__name__)

FILTER = "filter.json"


def filter_report(results: list[FoldResult], recipe: PictureFilter) -> dict[str, Any]:
    """Return the contents of `filter.json`: the counts of all folds, by reason."""
    total = sum(one.num_clean for one in results)
    reasons: dict[str, Any] = {}
    for reason in recipe.reasons:
        rejected = sum(one.rejected[reason] for one in results)
        kinds = {kind: _add(one.found[reason].get(kind, (0, 0)) for one in results) for kind in _kinds(results, reason)}
        reasons[reason] = {
            "limits": [one.limits[reason].probability for one in results],
            "false_rejections": _share(rejected, total),
            "found": _share(*_add(kinds.values())),
            "found_by_kind": {kind: _share(*counts) for kind, counts in kinds.items()},
        }
    return {"pictures": total, "false_rejection_rate": recipe.false_rejection_rate, "reasons": reasons}


def log_report(report: dict[str, Any]) -> None:
    for reason, entry in report["reasons"].items():
        found, wrong = entry["found"], entry["false_rejections"]
        log.info(
            "curate: filter: %s: finds %.3f [%.3f, %.3f] of injected defects, and rejects %.4f [%.4f, %.4f] of the survey's pictures",
            reason, *(found[name] for name in ("share", "low", "high")), *(wrong[name] for name in ("share", "low", "high")),
        )  # fmt: skip


def _kinds(results: list[FoldResult], reason: Reason) -> list[str]:
    return sorted({kind for one in results for kind in one.found[reason]})


def _add(counts: Any) -> tuple[int, int]:
    first, second = zip(*counts, strict=True)
    return sum(first), sum(second)


def _share(count: int, total: int) -> dict[str, float]:
    share, low, high = binomial_interval(count, total)
    return {"count": count, "total": total, "share": share, "low": low, "high": high}
