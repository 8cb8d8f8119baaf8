"""The artifacts of an augmentation: the sets that it reads, and its report."""

from __future__ import annotations

from dataclasses import replace

from raydistill import config as configs
from raydistill.artifacts import kinds
from raydistill.errors import ConfigError
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec, existing_spec
from raydistill.stages.augment.config import DISTILLED

LABELLED = "labelled"  # the role of the curated set of the labelled galaxies
OWN = "synthetic"  # the name of the run's own synthetic set
SYNTHETIC_METHODS = ("synthetic_only", "real_synthetic")
DISTILLED_METHODS = ("distilled_only", "real_distilled")


def sources_of(plan: Plan) -> dict[str, list[ArtifactSpec]]:
    """Return the sets whose images are added, by the name of their source.

    Raises
    ------
    ArtifactMissing, ArtifactIncompatible
        A path of the config has no finished set of its kind.
    ConfigError
        Two paths of a source hold the same set.
    """
    options = plan.config.augment
    specs: dict[str, list[ArtifactSpec]] = {}
    if set(options.methods) & set(SYNTHETIC_METHODS):
        for name, paths in options.synthetics.items():
            fix = f"correct augment.synthetics.{name}, or run 'raydistill sample CONFIG'"
            specs[name] = [existing_spec(kinds.SYNTHETIC, path, fix) for path in paths]
            if len({spec.identity for spec in specs[name]}) < len(paths):
                what = "two of these paths hold the same set"
                raise ConfigError(what, f"augment.synthetics.{name}", "give each set once")
        if not specs:
            specs[OWN] = [plan.synthetic]
    if options.distilled is not None and set(options.methods) & set(DISTILLED_METHODS):
        specs[DISTILLED] = [existing_spec(kinds.DISTILLED, options.distilled, "correct augment.distilled")]
    return specs


def labelled_spec(plan: Plan) -> ArtifactSpec:
    """Return the curated set of the labelled galaxies, by default the run's own."""
    labelled = plan.config.augment.labelled
    if labelled is None:
        return plan.curated
    return existing_spec(kinds.CURATED, labelled, "correct augment.labelled, or run 'raydistill curate CONFIG'")


def augmentation_spec(plan: Plan) -> ArtifactSpec:
    """Return the report of the comparison."""
    options = plan.config.augment
    parents = {kinds.CURATED: plan.curated}
    for name, specs in sources_of(plan).items():
        parents |= {f"{specs[0].kind}_{name}_{number}": spec for number, spec in enumerate(specs, start=1)}
    if options.labelled is not None:
        parents[LABELLED] = labelled_spec(plan)
    # Paths of the sets do not matter, but their identities do.
    parts = {
        "augment": configs.plain(replace(options, synthetics={}, distilled=None, labelled=None)),
        "sources": configs.sources(options.network),
    }
    return plan.spec(kinds.AUGMENTATION, parts, parents, plan.config.seed)
