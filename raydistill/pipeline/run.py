"""run: the stages of a config in order; a stage whose artifact exists is skipped.

The code of a stage is imported when the stage runs: it imports torch and Ray, and a finished
artifact is found without them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from raydistill.artifacts import kinds
from raydistill.artifacts.manifest import identity_of, open_manifest
from raydistill.config import Config, plain
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.stages.adapt.specs import adaptation_spec, adaptation_specs, require_target
from raydistill.stages.analyse.specs import analysis_spec, analysis_specs
from raydistill.stages.audit.specs import audit_spec, audit_specs
from raydistill.stages.augment.specs import augmentation_spec, augmentation_specs
from raydistill.stages.curate.counts import log_existing
from raydistill.stages.detect.specs import detection_spec, detection_specs
from raydistill.stages.hunt.specs import hunt_spec, hunt_specs, sample_plan
from raydistill.surveys.specs import predict_specs, spec_of_survey

if TYPE_CHECKING:
    from raydistill.tracking.tracker import Tracker

log = get_logger(__name__)


def _stage(name: str, function: str | None = None) -> Callable[..., Any]:
    """Return the function of a stage, which imports its module when called."""

    def build(*arguments: Any) -> Any:
        return getattr(import_module(f"raydistill.pipeline.{name}.stage"), function or name)(*arguments)

    return build


def _analyse(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> Any:
    """Train the experts of further networks, and analyse."""
    from raydistill.stages.analyse.repeats import plans_of_networks

    if not analysis_spec(plan).exists:
        for other in plans_of_networks(plan):
            STAGES["experts"](other, tracker, parent_run)
    return _stage("analyse")(plan, tracker, parent_run)


def _adapt(plan: Plan, target: str, tracker: Tracker) -> Any:
    require_target(plan, target)
    return _stage("adapt")(plan, target, tracker)


@dataclass(frozen=True)
class Stage:
    """A stage, whose functions take a plan and the stage's own arguments.

    Parameters
    ----------
    build
        Builds the artifact and returns it. It also takes a tracker and the id of the parent run.
    writes
        Returns the artifact that it builds.
    specs
        Returns the artifacts that it reads, and then the one that it builds. None: all artifacts
        from the survey on.
    """

    build: Callable[..., Any]
    writes: Callable[..., ArtifactSpec | None]
    specs: Callable[..., list[ArtifactSpec]] | None = None

    def __call__(self, plan: Plan, *arguments: Any) -> Any:
        """Build the artifact, or open it if it exists."""
        return self.build(plan, *arguments)


STAGES: dict[str, Stage] = {
    "simulate": Stage(_stage("simulate"), lambda plan: plan.survey),
    "curate": Stage(_stage("curate"), lambda plan: plan.curated),
    "experts": Stage(_stage("experts"), lambda plan: plan.trajectories),
    "distill": Stage(_stage("distill"), lambda plan: plan.distilled),
    "evaluate": Stage(_stage("evaluate"), lambda plan: plan.evaluation),
    "generate": Stage(_stage("generate"), lambda plan: plan.generator, Plan.generator_specs),
    "sample": Stage(_stage("sample"), lambda plan: plan.synthetic, Plan.synthetic_specs),
    "audit": Stage(_stage("audit"), audit_spec, audit_specs),
    "predict": Stage(_stage("predict"), spec_of_survey, predict_specs),
    "hunt": Stage(_stage("hunt"), hunt_spec, hunt_specs),
    "analyse": Stage(_analyse, analysis_spec, analysis_specs),
    "tune": Stage(_stage("tune"), lambda plan: plan.search, Plan.search_specs),
    "augment": Stage(_stage("augment"), augmentation_spec, augmentation_specs),
    "adapt": Stage(_adapt, adaptation_spec, adaptation_specs),
    "detect": Stage(_stage("detect"), detection_spec, detection_specs),
}
PURPOSES = {
    "simulate": "render galaxies, with simulated votes of volunteers on their shapes",
    "curate": "choose galaxies of each class, and check, crop and resize their pictures",
    "experts": "train networks on all training galaxies",
    "distill": "make a few images that train a network as all those galaxies do",
    "evaluate": "train new networks on these images and on others, and test them",
    "generate": "train a network that makes pictures of galaxies",
    "sample": "make synthetic galaxies",
    "audit": "test whether synthetic pictures differ from galaxies of the survey",
    "predict": "let the experts predict the class of each galaxy",
    "hunt": "search for rare galaxies, and learn from each label",
    "analyse": "measure the images beside galaxies of the survey",
}
BEFORE = {"curate": "simulate", "experts": "curate", "distill": "experts", "evaluate": "distill", "generate": "curate",
          "sample": "generate", "audit": "sample", "predict": "experts", "hunt": "predict",
          "analyse": "distill"}  # fmt: skip
IN_A_RUN = ("simulate", *BEFORE)  # the stages that `run` knows


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
    specs: list[ArtifactSpec | None] = []
    for name in stages_of(plan.config, last):
        if name == "hunt":
            specs += [sample_plan(plan, wanted).synthetic for wanted in plan.config.hunt.samples]
        specs.append(STAGES[name].writes(plan, *_arguments(plan, name)))
    return [spec for spec in specs if spec is not None]


def _arguments(plan: Plan, name: str) -> tuple[str | None, ...]:
    """Return the arguments of `predict` and `audit` in a run."""
    return {"predict": (plan.config.hunt.survey,), "audit": (None,)}.get(name, ())


def specs_of_stage(name: str, plan: Plan, *arguments: Any) -> list[ArtifactSpec]:
    """Return the artifacts that one stage reads, and then the one that it builds.

    It is empty for `simulate` of a survey that is not simulated.

    Raises
    ------
    RaydistillError
        A path of the config or an argument is wrong.
    """
    specs = STAGES[name].specs
    return specs_of(plan, name) if specs is None else specs(plan, *arguments)


def run_stage(name: str, plan: Plan, *arguments: Any) -> Any:
    """Run one stage, and return its artifact; what it reads must exist.

    Parameters
    ----------
    name
        Name of the stage.
    plan
        The plan.
    *arguments
        The survey of `predict`, the target of `adapt`, the path of the set of `audit` or `detect`.
    """
    specs_of_stage(name, plan, *arguments)  # reports a wrong path before the tracking database is created
    return STAGES[name](plan, *arguments, _make_tracker(plan))


def run(plan: Plan, last: str = "evaluate") -> Any:
    """Run all stages up to `last` as children of one MLflow run.

    Return the artifact of the last stage.
    """
    config = plan.config
    specs = specs_of(plan, last)  # reports a wrong path before the tracking database is created
    tracker = _make_tracker(plan)
    if not specs:  # only `simulate` of a survey that is not simulated, which says so
        return STAGES[last](plan, tracker)
    if last == "evaluate" and plan.evaluated_set.exists and plan.evaluation.exists:
        return STAGES[last](plan, tracker)  # its inputs are not needed and may be deleted
    from raydistill.pipeline.headline import record_headline
    from raydistill.runtime.cluster import ray_cluster

    with (
        ray_cluster(config.resources, plan.root),
        tracker.run("run", identity=_identity(specs[-1]), params=plain(config)) as parent,
    ):
        stages = stages_of(config, last)
        for number, name in enumerate(stages, start=1):
            log.info("stage %d of %d, %s: %s", number, len(stages), name, PURPOSES[name])
            for wanted in config.hunt.samples if name == "hunt" else ():  # the sets that `hunt.synthetic` describes
                STAGES["sample"](sample_plan(plan, wanted), tracker, parent.id)
            result = STAGES[name](plan, *_arguments(plan, name), tracker, parent.id)
        record_headline(parent, plan, last, result)
    return result


def is_finished(specs: Sequence[ArtifactSpec]) -> bool:
    """Return whether the last of these artifacts exists; verify its files.

    Its inputs are not needed, and may be deleted.

    Raises
    ------
    ArtifactIncompatible, ArtifactCorrupt
        The artifact is damaged.
    """
    if not (specs and specs[-1].exists):
        return False
    log.info("%s: exists, skipped", specs[-1].kind)
    log.info("  %s", specs[-1].folder.shown)
    open_manifest(specs[-1].folder, specs[-1].kind)
    if specs[-1].kind == kinds.CURATED:
        log_existing(specs[-1].folder)
    return True


def _make_tracker(plan: Plan) -> Tracker:
    from raydistill.tracking.of_plan import make_tracker

    return make_tracker(plan)


def _identity(last: ArtifactSpec) -> str:
    """Return an identity that no stage has.

    A run closes open MLflow runs of the same identity.
    """
    return identity_of("run", {}, {last.kind: last.identity}, last.seed)
