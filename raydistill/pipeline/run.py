"""run: all stages of a config in the order of the data's flow, each skipped where its artifact exists."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from raydistill.artifacts.evaluation import EvaluationReport
from raydistill.artifacts.manifest import identity_of
from raydistill.artifacts.opening import Artifact
from raydistill.artifacts.search import SearchReport
from raydistill.config import Config, plain
from raydistill.pipeline.curate.stage import curate
from raydistill.pipeline.distill.stage import distill
from raydistill.pipeline.evaluate.stage import evaluate
from raydistill.pipeline.experts.stage import experts
from raydistill.pipeline.plan import ArtifactSpec, Plan
from raydistill.pipeline.runtime.cluster import ray_cluster
from raydistill.pipeline.runtime.stages import make_tracker
from raydistill.pipeline.simulate.stage import simulate

STAGES: dict[str, Callable[..., Artifact]] = {
    "simulate": simulate,
    "curate": curate,
    "experts": experts,
    "distill": distill,
    "evaluate": evaluate,
}


def stages_of(config: Config) -> list[str]:
    """The stages that a config needs."""
    unneeded = set() if config.survey.kind == "simulated" else {"simulate"}
    if config.distilled is not None:
        unneeded |= {"experts", "distill"}
    return [name for name in STAGES if name not in unneeded]


def run_stage(name: str, plan: Plan) -> Artifact:
    """Run one stage and return its artifact."""
    plan.specs()  # a wrong path shows before a database is made
    return STAGES[name](plan, make_tracker(plan))


def run(plan: Plan) -> EvaluationReport:
    """Run all stages, as children of one MLflow run."""
    config = plan.config
    plan.specs()  # a wrong path shows before a database is made
    tracker = make_tracker(plan)
    if plan.judged.done and plan.evaluation.done:  # though the experts were cleared away, which nothing needs any more
        return evaluate(plan, tracker)
    with (
        ray_cluster(config.resources, plan.root),
        tracker.run("run", identity=_identity(plan), params=plain(config)) as recorded,
    ):
        for name in stages_of(config):
            result = STAGES[name](plan, tracker, recorded.id)
    assert isinstance(result, EvaluationReport)
    return result


def _identity(plan: Plan) -> str:
    """Not its last stage's own: a stage closes what an earlier process left running under its identity."""
    return identity_of("run", {}, {"evaluation": plan.evaluation.identity}, plan.config.seed)


def search(plan: Plan) -> SearchReport:
    """Search a recipe, on experts that exist."""
    from raydistill.pipeline.tune.stage import tune  # loads Ray Tune and Optuna, which no other command needs

    plan.search_specs()  # a wrong path shows before a database is made
    return tune(plan, make_tracker(plan))


def dry_run(plan: Plan, wanted: Sequence[ArtifactSpec] | None = None) -> str:
    """The resolved config, and what `run` would write or skip, or what else is wanted, as JSON."""
    specs = [
        {"kind": p.kind, "path": p.folder.uri, "exists": p.done} for p in (plan.specs() if wanted is None else wanted)
    ]
    return json.dumps({"config": plain(plan.config), "artifacts": specs}, indent=1)
