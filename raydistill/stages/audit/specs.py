"""The artifacts of an audit: the audited set and the report."""

from __future__ import annotations

from dataclasses import replace

from raydistill.artifacts import kinds
from raydistill.artifacts.manifest import describe_kind, exists, kind_of
from raydistill.errors import ArtifactIncompatible, ArtifactMissing
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec, existing_spec
from raydistill.storage import Folder


def audited_spec(plan: Plan) -> ArtifactSpec:
    """Return the set to audit: the run's synthetic set, or that of `audit.set`.

    Raises
    ------
    ArtifactMissing, ArtifactIncompatible
        The folder has no finished synthetic, distilled or other curated set.
    """
    path = plan.config.audit.set
    if path is None:
        return plan.synthetic
    folder, fix = Folder(path), "give the folder of a synthetic, a distilled or another curated set"
    if not exists(folder):
        raise ArtifactMissing("no finished set is here", folder.uri, fix)
    kind = kind_of(folder)
    if kind not in (kinds.SYNTHETIC, kinds.DISTILLED, kinds.CURATED):
        raise ArtifactIncompatible(f"this is a {describe_kind(kind)[0]}, which cannot be audited", folder.uri, fix)
    spec = existing_spec(kind, path, fix)
    if kind == kinds.CURATED and spec.identity == plan.curated.identity:
        raise ArtifactIncompatible("this is the curated set that others are compared with", folder.uri, fix)
    return spec


def audit_spec(plan: Plan) -> ArtifactSpec:
    """Return the audit of the run's synthetic set, or of that of `audit.set`."""
    audited = audited_spec(plan)
    role = "other" if audited.kind == kinds.CURATED else audited.kind
    parents = {kinds.CURATED: plan.curated, role: audited}
    if uses_experts(plan):
        parents[kinds.TRAJECTORIES] = plan.trajectories
    # The path of the set does not matter, but its identity does.
    parts = {"audit": replace(plan.config.audit, set=None)}
    return plan.spec(kinds.AUDIT, parts, parents, plan.config.audit.seed)


def uses_experts(plan: Plan) -> bool:
    """Return whether the audit compares features of the run's experts."""
    spaces = plan.config.audit.spaces
    return plan.trajectories.exists if spaces is None else "experts" in spaces
