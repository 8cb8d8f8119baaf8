"""The artifacts of an analysis: what it reads, and the report."""

from __future__ import annotations

from typing import Any

from raydistill.artifacts import kinds
from raydistill.config import plain
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec, file_digest


def analysis_spec(plan: Plan) -> ArtifactSpec:
    """Return the analysis of the plan's distilled set, or of that of `distilled=PATH`.

    Experts and a generator are parents where they exist: they add sections.
    """
    parents = {kinds.CURATED: plan.curated, kinds.DISTILLED: plan.evaluated_set}
    optional = {kinds.TRAJECTORIES: plan.trajectories, kinds.GENERATOR: plan.generator}
    parents |= {kind: spec for kind, spec in optional.items() if spec.exists}
    parts: dict[str, Any] = {"analyse": plain(plan.config.analyse)}
    if (properties := plan.config.analyse.properties) is not None:
        parts["properties_sha256"] = file_digest(properties.table, "table", "analyse.properties.table")
        parts["analyse"]["properties"].pop("table")  # its digest names it, wherever it is
    if (spectra := plan.config.analyse.spectra) is not None:
        parts["spectra_sha256"] = file_digest(spectra.root, "folder of spectra", "analyse.spectra.root")
        parts["analyse"]["spectra"].pop("root")
    return plan.spec(kinds.ANALYSIS, parts, parents, plan.config.analyse.seed)
