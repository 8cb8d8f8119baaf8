"""The result of an analysis as text: its most significant statements."""

from __future__ import annotations

from raydistill.config import Config
from raydistill.stages.analyse.artifact import AnalysisReport
from raydistill.text import interval, sentence

SHOWN_STATEMENTS = 10


def analysis_report(config: Config, report: AnalysisReport) -> str:
    """Return the most significant statements of an analysis."""
    statements = report.statements()
    tested, found = statements[statements.p_value.notna()], statements[statements.significant]
    lines = [f"{len(found)} of {len(tested)} tested statements are significant."]
    for one in found.sort_values("p_value", kind="stable").head(SHOWN_STATEMENTS).to_dict("records"):
        value = interval(one["value"], one["low"], one["high"])
        p_value = f"p = {one['p_value']:.3f}" if one["p_value"] >= 0.001 else "p < 0.001"
        lines.append(sentence(f"- {one['text']}: {value}, n = {one['n']}, {p_value}", indent="  "))
    if len(found) > SHOWN_STATEMENTS:
        lines.append(f"- and {len(found) - SHOWN_STATEMENTS} more")
    return "\n".join(lines)
