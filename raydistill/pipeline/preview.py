"""Show what a run would build: for a person, and as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from textwrap import fill

from raydistill import table
from raydistill.config import plain
from raydistill.pipeline.estimates import estimate
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.text import WIDTH, text_table


def as_json(plan: Plan, artifacts: Sequence[ArtifactSpec]) -> str:
    """Return JSON: the resolved config, and which of these artifacts exist."""
    specs = [{"kind": one.kind, "path": one.folder.uri, "exists": one.exists} for one in artifacts]
    return json.dumps({"config": plain(plan.config), "artifacts": specs}, indent=1)


def as_text(plan: Plan, artifacts: Sequence[ArtifactSpec]) -> str:
    """Return a table of the artifacts in their order, and the sums of time and disk."""
    rows = [("stage", "artifact", "", "time", "disk")]
    seconds, size, unknown = 0.0, 0.0, []
    for one in artifacts:
        stage = table.stage_of(one.kind).name
        name = one.folder.shown.removeprefix(f"{plan.root.shown}/")
        if one.exists:
            rows.append((stage, name, "exists", "", ""))
            continue
        own = estimate(one.plan or plan, one.kind)
        rows.append((stage, name, "to build", duration(own.seconds), volume(own.bytes)))
        seconds, size = seconds + (own.seconds or 0), size + (own.bytes or 0)
        if own.seconds is None:
            unknown.append(stage)
    lines = [text_table(f"{plan.config.name}, in {plan.root.shown}", rows)]
    if seconds:
        without = f", without {', '.join(dict.fromkeys(unknown))}" if unknown else ""
        lines.append(
            fill(f"Together {duration(seconds)} on {os.cpu_count()} cores and {volume(size)}{without}.", WIDTH)
        )
    lines.append("Nothing was built. --dry-run --json prints the whole config.")
    return "\n".join(lines)


def duration(seconds: float | None) -> str:
    """Return about how long something takes; "" if it is unknown.

    >>> [duration(one) for one in (None, 12, 95, 5000, 200_000)]
    ['', 'about 10 s', 'about 2 min', 'about 1.4 h', 'about 2.3 days']
    """
    if seconds is None:
        return ""
    if seconds < 55:
        return f"about {max(10 * round(seconds / 10), 5)} s"
    for unit, length, digits in (("min", 60, 0), ("h", 3600, 1), ("days", 86400, 1)):
        if seconds < {"min": 3570, "h": 86400}.get(unit, float("inf")):
            return f"about {seconds / length:.{digits}f} {unit}"
    raise AssertionError


def volume(size: float | None) -> str:
    """Return about how much disk something takes; "" if it is unknown.

    >>> [volume(one) for one in (None, 40_000, 12_300_000, 4_560_000_000)]
    ['', 'about 1 MB', 'about 12 MB', 'about 4.6 GB']
    """
    if size is None:
        return ""
    return f"about {size / 1e9:.1f} GB" if size >= 1e9 else f"about {max(size / 1e6, 1):.0f} MB"
