"""The artifacts of an adaptation: the sets that it reads, and its report."""

from __future__ import annotations

from dataclasses import replace

from raydistill import config as configs
from raydistill import shipped
from raydistill.artifacts import kinds
from raydistill.artifacts.manifest import NAME
from raydistill.errors import ArtifactIncompatible, ArtifactMissing, ConfigError
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec, existing_spec
from raydistill.storage import Folder

TARGET = "target"  # the role of the target among the parents


def target_spec(plan: Plan) -> ArtifactSpec:
    """Return the curated set of `adapt.target`; that of a config need not exist yet.

    The set of a config is looked for in its own output, then in that of the source.

    Raises
    ------
    ConfigError
        No target is given.
    ArtifactMissing, ArtifactIncompatible
        There is no such set, or it is that of the source.
    """
    target = plan.config.adapt.target
    fix = "give the config of another survey, or the folder of its curated set"
    if target is None:
        raise ConfigError("no survey to adapt to is given", "adapt.target", fix)
    if target.endswith((".yaml", ".yml")) or (shipped.find(target) and not Folder(target).exists(NAME)):
        other = configs.load(target)
        spec = Plan(other).curated
        if not spec.exists:  # `output=FOLDER` on the command line is that of both runs
            spec = Plan(replace(other, output=plan.config.output)).curated
    else:
        spec = existing_spec(kinds.CURATED, target, fix)
    if spec.identity == plan.curated.identity:
        raise ArtifactIncompatible("this is the curated set of the source itself", spec.folder.uri, fix)
    return spec


def require_target(plan: Plan) -> None:
    """Raise ArtifactMissing unless the curated set of the target exists."""
    spec = target_spec(plan)
    if not spec.exists:
        what = "there is no curated set of the target here"
        raise ArtifactMissing(
            what, spec.folder.uri, f"run 'raydistill run {plan.config.adapt.target} --to curate' first"
        )


def training_specs(plan: Plan) -> dict[str, list[ArtifactSpec]]:
    """Return the sets beside the source's galaxies for training networks, by kind."""
    options = plan.config.adapt
    specs: dict[str, list[ArtifactSpec]] = {}
    if options.synthetics:
        specs[kinds.SYNTHETIC] = [
            existing_spec(kinds.SYNTHETIC, path, "correct adapt.synthetics") for path in options.synthetics
        ]
    if options.distilled is not None:
        specs[kinds.DISTILLED] = [existing_spec(kinds.DISTILLED, options.distilled, "correct adapt.distilled")]
    return specs


def adaptation_spec(plan: Plan) -> ArtifactSpec:
    """Return the report of the adaptation to `adapt.target`."""
    options = plan.config.adapt
    parents = {kinds.CURATED: plan.curated, TARGET: target_spec(plan)}
    for kind, specs in training_specs(plan).items():
        parents |= {f"{kind}_{number}": spec for number, spec in enumerate(specs, start=1)}
    # Paths of the sets do not matter, but their identities do.
    parts = {
        "adapt": configs.plain(replace(options, target=None, synthetics=(), distilled=None)),
        "sources": configs.sources(options.network),
    }
    return plan.spec(kinds.ADAPTATION, parts, parents, plan.config.seed)
