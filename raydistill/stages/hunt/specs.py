"""The artifacts of a hunt: its inputs, and the round or the report that it writes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from raydistill.artifacts import kinds
from raydistill.config import Sample, plain
from raydistill.errors import ConfigError
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec, existing_spec, file_digest
from raydistill.stages.predict.artifact import classifies, predictions_of

POSITIVE, NEGATIVE = "positive", "negative"


def synthetic_specs(plan: Plan) -> dict[str, ArtifactSpec]:
    """Return the synthetic sets of all sources, by source and role.

    Raises
    ------
    ArtifactMissing, ArtifactIncompatible, ArtifactCorrupt
        A path is not a finished synthetic set.
    """
    specs = {}
    for name, source in sorted(plan.config.hunt.synthetic.items()):
        for role, given in ((POSITIVE, source.positive), (NEGATIVE, source.negative)):
            if isinstance(given, Sample):
                specs[f"{name}_{role}"] = Plan(replace(plan.config, sample=given)).synthetic
            else:
                fix = f"correct hunt.synthetic.{name}.{role}, or run 'raydistill sample CONFIG'"
                specs[f"{name}_{role}"] = existing_spec(kinds.SYNTHETIC, given, fix)
    return specs


def truth_table(plan: Plan) -> str:
    """Return the URI of the table of the truth.

    Raises
    ------
    ConfigError
        The config names none, and the survey is not simulated.
    """
    if (table := plan.config.hunt.scripted.table) is not None:
        return table
    if plan.truth is not None and plan.config.searched(plan.config.hunt.survey) is None:
        return plan.truth
    what = "no table of the truth is given, and the survey is not the simulated one of this config"
    raise ConfigError(what, "hunt.oracle.table", "give a table with object ids and the columns of hunt.oracle.positive")


def hunt_spec(plan: Plan) -> ArtifactSpec:
    """Return the round, or the report of a scripted labeller.

    The identity covers the content of the files that the config names, not their paths.
    """
    config = plan.config.hunt
    parts: dict[str, Any] = {}
    oracle = config.oracle
    if oracle is not None:
        if config.labels is not None:
            raise ConfigError("the oracle labels by itself", "hunt.labels", "leave it out, or set hunt.oracle=null")
        truth_table(plan)
        if oracle.table is not None:
            parts["table_sha256"] = file_digest(oracle.table, "table of the truth", "hunt.oracle.table")
        if oracle.examples is not None:
            parts["examples_sha256"] = file_digest(oracle.examples, "file of examples", "hunt.oracle.examples")
    elif config.labels is not None:
        parts["labels_sha256"] = file_digest(config.labels, "file of labels", "hunt.labels")
    part = {key: value for key, value in plain(config).items() if key not in ("survey", "labels")}
    part["synthetic"] = sorted(config.synthetic)  # the identities of the sets are those of the parents
    if oracle is not None:
        left_out = {"table", "examples"} | ({"part"} if oracle.part is None else set())
        part["oracle"] = {key: value for key, value in part["oracle"].items() if key not in left_out}
    parts["hunt"] = part
    if not config.classes:
        part.pop("classes")
    parents = {
        kinds.CURATED: plan.curated,
        kinds.PREDICTIONS: predictions_of(plan, plan.config.searched(config.survey)),
    }
    if classifies(plan.config):
        parents[kinds.TRAJECTORIES] = plan.trajectories
    kind = kinds.HUNT_ROUND if oracle is None else kinds.HUNT
    return plan.spec(kind, parts, {**parents, **synthetic_specs(plan)}, config.seed)
