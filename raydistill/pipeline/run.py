"""run: all stages of a config in order; a stage whose artifact exists is skipped."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from raydistill.artifacts.audit import AuditReport
from raydistill.artifacts.evaluation import EvaluationReport
from raydistill.artifacts.generator import GeneratorArtifact
from raydistill.artifacts.manifest import identity_of
from raydistill.artifacts.opening import Artifact
from raydistill.artifacts.predictions import PredictionSet
from raydistill.artifacts.search import SearchReport
from raydistill.artifacts.synthetic import SyntheticSet
from raydistill.config import Config, plain
from raydistill.pipeline.curate.stage import curate
from raydistill.pipeline.distill.stage import distill
from raydistill.pipeline.evaluate.stage import evaluate
from raydistill.pipeline.experts.stage import experts
from raydistill.pipeline.plan import ArtifactSpec, Plan
from raydistill.pipeline.predict import stage as predictions
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
    """Return the names of the stages that a config needs."""
    unneeded = set() if config.survey.kind == "simulated" else {"simulate"}
    if config.distilled is not None:
        unneeded |= {"experts", "distill"}
    return [name for name in STAGES if name not in unneeded]


def run_stage(name: str, plan: Plan) -> Artifact:
    """Run one stage and return its artifact."""
    plan.specs()  # reports a wrong path before the tracking database is created
    return STAGES[name](plan, make_tracker(plan))


def run(plan: Plan) -> EvaluationReport:
    """Run all stages as children of one MLflow run; return the report of the last one."""
    config = plan.config
    plan.specs()  # reports a wrong path before the tracking database is created
    tracker = make_tracker(plan)
    if plan.evaluated_set.exists and plan.evaluation.exists:  # its inputs are not needed and may be deleted
        return evaluate(plan, tracker)
    with (
        ray_cluster(config.resources, plan.root),
        tracker.run("run", identity=_identity(plan), params=plain(config)) as parent,
    ):
        for name in stages_of(config):
            result = STAGES[name](plan, tracker, parent.id)
    assert isinstance(result, EvaluationReport)
    return result


def _identity(plan: Plan) -> str:
    """Return an identity that no stage has: a run closes open MLflow runs of the same identity."""
    return identity_of("run", {}, {"evaluation": plan.evaluation.identity}, plan.config.seed)


def search(plan: Plan) -> SearchReport:
    """Search for a recipe; its experts must exist."""
    from raydistill.pipeline.tune.stage import tune  # imports Ray Tune and Optuna, which other commands do not need

    plan.search_specs()  # reports a wrong path before the tracking database is created
    return tune(plan, make_tracker(plan))


def predict(plan: Plan, survey: str | None) -> PredictionSet:
    """Predict every picture of a survey, by default the plan's own; the experts must exist."""
    plan.specs()  # reports a wrong path before the tracking database is created
    return predictions.predict(plan, survey, make_tracker(plan))


def sample(plan: Plan) -> SyntheticSet:
    """Sample synthetic galaxies; the generator must exist."""
    from raydistill.pipeline.sample import stage  # imports diffusers, which other commands do not need

    plan.synthetic_specs()  # reports a wrong path before the tracking database is created
    return stage.sample(plan, make_tracker(plan))


def audit(plan: Plan, path: str | None) -> AuditReport:
    """Compare a synthetic or distilled set with real galaxies, by default the plan's synthetic set."""
    from raydistill.pipeline.audit import stage  # imports Jinja, which other commands do not need

    plan.audit_specs(path)  # reports a wrong path before the tracking database is created
    return stage.audit(plan, path, make_tracker(plan))


def generate(plan: Plan) -> GeneratorArtifact:
    """Train a generator; the curated set must exist."""
    from raydistill.pipeline.generate import stage  # imports diffusers, which other commands do not need

    plan.generator_specs()  # reports a wrong path before the tracking database is created
    return stage.generate(plan, make_tracker(plan))


def dry_run(plan: Plan, artifacts: Sequence[ArtifactSpec] | None = None) -> str:
    """Return JSON: the resolved config, and which artifacts exist.

    By default they are those of `run`.
    """
    specs = [
        {"kind": p.kind, "path": p.folder.uri, "exists": p.exists}
        for p in (plan.specs() if artifacts is None else artifacts)
    ]
    return json.dumps({"config": plain(plan.config), "artifacts": specs}, indent=1)
