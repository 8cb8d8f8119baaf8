"""run: the stages of a config in order; a stage whose artifact exists is skipped."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from raydistill.artifacts.adaptation import AdaptationReport
from raydistill.artifacts.analysis import AnalysisReport
from raydistill.artifacts.audit import AuditReport
from raydistill.artifacts.augmentation import AugmentationReport
from raydistill.artifacts.detection import DetectionReport
from raydistill.artifacts.generator import GeneratorArtifact
from raydistill.artifacts.hunt import HuntReport, HuntRound
from raydistill.artifacts.manifest import identity_of
from raydistill.artifacts.opening import Artifact
from raydistill.artifacts.predictions import PredictionSet
from raydistill.artifacts.search import SearchReport
from raydistill.artifacts.synthetic import SyntheticSet
from raydistill.config import Config, plain
from raydistill.log import get_logger
from raydistill.pipeline.adapt.specs import adaptation_specs, require_target
from raydistill.pipeline.analyse.specs import analysis_spec, analysis_specs
from raydistill.pipeline.audit.specs import audit_spec, audit_specs
from raydistill.pipeline.augment.specs import augmentation_specs
from raydistill.pipeline.curate.stage import curate
from raydistill.pipeline.detect.specs import detection_specs
from raydistill.pipeline.distill.stage import distill
from raydistill.pipeline.evaluate.stage import evaluate
from raydistill.pipeline.experts.stage import experts
from raydistill.pipeline.headline import record_headline
from raydistill.pipeline.hunt.specs import hunt_spec, hunt_specs, sample_plan
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.predict import stage as predictions
from raydistill.pipeline.runtime.cluster import ray_cluster
from raydistill.pipeline.runtime.stages import make_tracker
from raydistill.pipeline.simulate.stage import simulate
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.pipeline.survey_pictures.specs import spec_of_survey
from raydistill.pipeline.tracking.tracker import Tracker

log = get_logger(__name__)


def _generate(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> GeneratorArtifact:
    from raydistill.pipeline.generate import stage  # imports diffusers, which other stages do not need

    return stage.generate(plan, tracker, parent_run)


def _sample(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> SyntheticSet:
    from raydistill.pipeline.sample import stage  # imports diffusers, which other stages do not need

    return stage.sample(plan, tracker, parent_run)


def _audit(plan: Plan, tracker: Tracker, parent_run: str | None = None, *, path: str | None = None) -> AuditReport:
    from raydistill.pipeline.audit import stage  # imports Jinja, which other stages do not need

    return stage.audit(plan, path, tracker, parent_run)


def _predict(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> PredictionSet:
    """Predict the survey of `hunt`."""
    return predictions.predict(plan, plan.config.hunt.survey, tracker, parent_run)


def _hunt(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> HuntRound | HuntReport:
    from raydistill.pipeline.hunt import stage  # imports scikit-learn, which other stages do not need

    return stage.hunt(plan, tracker, parent_run)


def _analyse(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> AnalysisReport:
    from raydistill.pipeline.analyse import stage  # imports statmorph, which other stages do not need
    from raydistill.pipeline.analyse.repeats import plans_of_networks

    if not analysis_spec(plan).exists:
        for other in plans_of_networks(plan):
            experts(other, tracker, parent_run)
    return stage.analyse(plan, tracker, parent_run)


STAGES: dict[str, Callable[..., Any]] = {
    "simulate": simulate,
    "curate": curate,
    "experts": experts,
    "distill": distill,
    "evaluate": evaluate,
    "generate": _generate,
    "sample": _sample,
    "audit": _audit,
    "predict": _predict,
    "hunt": _hunt,
    "analyse": _analyse,
}
BEFORE = {"curate": "simulate", "experts": "curate", "distill": "experts", "evaluate": "distill", "generate": "curate",
          "sample": "generate", "audit": "sample", "predict": "experts", "hunt": "predict",
          "analyse": "distill"}  # fmt: skip


def stages_of(config: Config, last: str = "evaluate") -> list[str]:
    """Return the stages that a config needs up to the stage `last`, in their order."""
    needed = {last}
    while last in BEFORE:
        without_generator = last == "sample" and not config.sample.needs_generator
        needed.add(last := "curate" if without_generator else BEFORE[last])
    filtered = config.sample.filter is not None and config.sample.filter.experts is None
    embedded = "generate" in needed and config.generate.needs_experts
    if (
        embedded
        or ("sample" in needed and filtered)
        or ("audit" in needed and "experts" in (config.audit.spaces or ()))
    ):
        needed.add("experts")
    if "hunt" in needed and any(one.needs_generator for one in config.hunt.samples):
        needed.add("generate")
    if config.survey.kind != "simulated" and needed != {"simulate"}:
        needed.discard("simulate")
    if needed & {"evaluate", "analyse"} and config.distilled is not None:
        needed -= {"experts", "distill"}
    return [name for name in STAGES if name in needed]


def specs_of(plan: Plan, last: str = "evaluate") -> list[ArtifactSpec]:
    """Return the artifacts that `run` builds up to the stage `last`, in their order."""
    made: dict[str, Callable[[], ArtifactSpec | None]] = {
        "simulate": lambda: plan.survey,
        "curate": lambda: plan.curated,
        "experts": lambda: plan.trajectories,
        "distill": lambda: plan.distilled,
        "evaluate": lambda: plan.evaluation,
        "generate": lambda: plan.generator,
        "sample": lambda: plan.synthetic,
        "audit": lambda: audit_spec(plan, None),
        "predict": lambda: spec_of_survey(plan, plan.config.hunt.survey),
        "hunt": lambda: hunt_spec(plan),
        "analyse": lambda: analysis_spec(plan),
    }
    specs: list[ArtifactSpec | None] = []
    for name in stages_of(plan.config, last):
        if name == "hunt":
            specs += [sample_plan(plan, wanted).synthetic for wanted in plan.config.hunt.samples]
        specs.append(made[name]())
    return [spec for spec in specs if spec is not None]


def run_stage(name: str, plan: Plan) -> Artifact:
    """Run one stage and return its artifact."""
    specs_of(plan, name)  # reports a wrong path before the tracking database is created
    artifact: Artifact = STAGES[name](plan, make_tracker(plan))
    return artifact


def run(plan: Plan, last: str = "evaluate") -> Any:
    """Run all stages up to `last` as children of one MLflow run.

    Return the artifact of the last stage.
    """
    config = plan.config
    specs = specs_of(plan, last)  # reports a wrong path before the tracking database is created
    tracker = make_tracker(plan)
    if not specs:  # only `simulate` of a survey that is not simulated, which says so
        return STAGES[last](plan, tracker)
    if last == "evaluate" and plan.evaluated_set.exists and plan.evaluation.exists:
        return evaluate(plan, tracker)  # its inputs are not needed and may be deleted
    with (
        ray_cluster(config.resources, plan.root),
        tracker.run("run", identity=_identity(specs[-1]), params=plain(config)) as parent,
    ):
        stages = stages_of(config, last)
        for number, name in enumerate(stages, start=1):
            log.info("stage %d of %d: %s", number, len(stages), name)
            for wanted in config.hunt.samples if name == "hunt" else ():  # the sets that `hunt.synthetic` describes
                _sample(sample_plan(plan, wanted), tracker, parent.id)
            result = STAGES[name](plan, tracker, parent.id)
        record_headline(parent, plan, last, result)
    return result


def _identity(last: ArtifactSpec) -> str:
    """Return an identity that no stage has.

    A run closes open MLflow runs of the same identity.
    """
    return identity_of("run", {}, {last.kind: last.identity}, last.seed)


def search(plan: Plan) -> SearchReport:
    """Search for a recipe; its experts must exist."""
    from raydistill.pipeline.tune.stage import tune  # imports Ray Tune and Optuna, which other commands do not need

    plan.search_specs()  # reports a wrong path before the tracking database is created
    return tune(plan, make_tracker(plan))


def predict(plan: Plan, survey: str | None) -> PredictionSet:
    """Predict a survey's pictures, by default the plan's own; the experts must exist."""
    specs_of(plan)  # reports a wrong path before the tracking database is created
    return predictions.predict(plan, survey, make_tracker(plan))


def sample(plan: Plan) -> SyntheticSet:
    """Make synthetic galaxies; the curated set must exist, and a generator if needed."""
    plan.synthetic_specs()  # reports a wrong path before the tracking database is created
    return _sample(plan, make_tracker(plan))


def audit(plan: Plan, path: str | None) -> AuditReport:
    """Compare a synthetic or distilled set with real galaxies.

    By default it is the plan's synthetic set.
    """
    audit_specs(plan, path)  # reports a wrong path before the tracking database is created
    return _audit(plan, make_tracker(plan), path=path)


def hunt(plan: Plan) -> HuntRound | HuntReport:
    """Rank a survey for a person, or compare strategies; the predictions must exist."""
    hunt_specs(plan)  # reports a wrong path before the tracking database is created
    return _hunt(plan, make_tracker(plan))


def analyse(plan: Plan) -> AnalysisReport:
    """Measure prototypes beside real galaxies; the distilled set must exist."""
    analysis_specs(plan)  # reports a wrong path before the tracking database is created
    return _analyse(plan, make_tracker(plan))


def run_augment(plan: Plan) -> AugmentationReport:
    """Compare classifiers trained on real, synthetic and distilled galaxies.

    The sets must exist.
    """
    from raydistill.pipeline.augment.stage import augment

    augmentation_specs(plan)  # reports a wrong path before the tracking database is created
    return augment(plan, make_tracker(plan))


def adapt(plan: Plan, target: str) -> AdaptationReport:
    """Align networks with another survey, the target; both curated sets must exist."""
    from raydistill.pipeline.adapt import stage  # imports scikit-learn and geomloss, which other stages do not need

    adaptation_specs(plan, target)  # reports a wrong path before the tracking database is created
    require_target(plan, target)
    return stage.adapt(plan, target, make_tracker(plan))


def detect(plan: Plan, path: str | None) -> DetectionReport:
    """Train a detector on a synthetic set, and evaluate it on real frames.

    By default it is the plan's own set.
    """
    from raydistill.pipeline.detect import stage  # imports matplotlib, which other stages do not need

    detection_specs(plan, path)  # reports a wrong path before the tracking database is created
    return stage.detect(plan, path, make_tracker(plan))


def generate(plan: Plan) -> GeneratorArtifact:
    """Train a generator; the curated set must exist."""
    plan.generator_specs()  # reports a wrong path before the tracking database is created
    return _generate(plan, make_tracker(plan))


def dry_run(plan: Plan, artifacts: Sequence[ArtifactSpec]) -> str:
    """Return JSON: the resolved config, and which of these artifacts exist."""
    specs = [{"kind": one.kind, "path": one.folder.uri, "exists": one.exists} for one in artifacts]
    return json.dumps({"config": plain(plan.config), "artifacts": specs}, indent=1)
