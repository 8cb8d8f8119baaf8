"""run: build an artifact and all that it needs; what exists is kept.

The code of a stage is imported when the stage runs: it imports torch and Ray, and a finished
artifact is found without them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from raydistill import table
from raydistill.artifacts import kinds
from raydistill.artifacts.manifest import identity_of, open_manifest
from raydistill.config import chosen, plain
from raydistill.escaping import for_markdown, markdown_table
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.stages.evaluate.artifact import EvaluationReport
from raydistill.stages.evaluate.report.printing import fraction_of_experts
from raydistill.stages.evaluate.report.text import HEAD, accuracy_table, verdict
from raydistill.text import shown_name
from raydistill.tracking.tracker import Run

if TYPE_CHECKING:
    from raydistill.tracking.tracker import Tracker


log = get_logger(__name__)


def spec_of(plan: Plan, stage: str) -> ArtifactSpec | None:
    """Return what a stage builds.

    It is None for `simulate` of a survey that is not simulated.

    Raises
    ------
    RaydistillError
        A path of the config is wrong.
    """
    return table.resolve(table.stages()[stage].spec)(plan)


def lineage(spec: ArtifactSpec | None, needed: bool = False) -> list[ArtifactSpec]:
    """Return an artifact after all that it is made from, each once.

    Parameters
    ----------
    spec
        The artifact.
    needed
        Leave out what is finished, and what is not finished and only finished artifacts were made
        from.
    """
    visited: set[str] = set()  # an artifact has many paths to its ancestors, and a bucket is asked once for each

    def walk(spec: ArtifactSpec) -> Iterator[ArtifactSpec]:
        if spec.identity in visited:
            return
        visited.add(spec.identity)
        if needed and spec.exists:
            return
        for parent in spec.parents.values():
            yield from walk(parent)
        yield spec

    return [] if spec is None else list(walk(spec))


def run_stage(name: str, plan: Plan) -> Any:
    """Run one stage, and return its artifact; what it reads must exist."""
    spec_of(plan, name)  # reports a wrong path before the tracking database is created
    return _build(table.stages()[name], plan, _make_tracker(plan))


def run(plan: Plan, last: str = "evaluate") -> Any:
    """Build the artifact of a stage and all that it needs; return it.

    Their runs in MLflow are children of one.
    """
    spec = spec_of(plan, last)  # reports a wrong path before the tracking database is created
    tracker = _make_tracker(plan)
    needed = lineage(spec, needed=True)
    if spec is None or not needed:  # `simulate` of a survey that is not simulated says so
        return _build(table.stages()[last], plan, tracker)
    from raydistill.runtime.cluster import ray_cluster

    # A run closes open MLflow runs of the same identity. No stage has this one.
    identity = identity_of("run", {}, {spec.kind: spec.identity}, spec.seed)
    with (
        ray_cluster(plan.config.resources, plan.root),
        tracker.run("run", identity=identity, config=plain(plan.config), params=chosen(plan.config)) as parent,
    ):
        for number, artifact in enumerate(needed, start=1):
            stage = table.stage_of(artifact.kind)
            log.info("stage %d of %d, %s: %s", number, len(needed), stage.name, stage.purpose or stage.summary)
            assert artifact.plan is not None  # else it exists
            result = _build(stage, artifact.plan, tracker, parent.id)
        record_headline(parent, plan, last, result)
    return result


def is_finished(spec: ArtifactSpec | None) -> bool:
    """Return whether the artifact exists; verify its files.

    Its inputs are not needed, and may be deleted.

    Raises
    ------
    ArtifactIncompatible, ArtifactCorrupt
        The artifact is damaged.
    """
    if spec is None or not spec.exists:
        return False
    log.info("%s: exists, skipped", spec.kind)
    log.info("  %s", spec.folder.shown)
    open_manifest(spec.folder, spec.kind)
    if spec.kind == kinds.CURATED:
        from raydistill.stages.curate.summary import log_existing

        log_existing(spec.folder)
    return True


def _build(stage: table.Stage, plan: Plan, *arguments: Any) -> Any:
    """Build the artifact of a stage, or open it if it exists."""
    return table.resolve(stage.run)(plan, *arguments)


def _make_tracker(plan: Plan) -> Tracker:
    from raydistill.tracking.tracker import make_tracker

    return make_tracker(plan)


# The headline of a run in MLflow: figures, pictures, and how to repeat the run.


def record_headline(run: Run, plan: Plan, last: str, artifact: Any) -> None:
    """Record a note and the last stage's figures and pictures in a pipeline run.

    Parameters
    ----------
    run
        The run of the pipeline, the parent of those of the stages.
    plan
        Its plan.
    last
        Name of the last stage.
    artifact
        The artifact of that stage.
    """
    parts = [f"**{for_markdown(plan.config.name)}**, up to the stage `{last}`."]
    if isinstance(artifact, EvaluationReport):
        for name, entry in artifact.summary.items():
            balanced = entry["balanced_accuracy"]
            figures = {"balanced_accuracy": balanced["mean"], "balanced_accuracy_ci95": balanced["ci95"]}
            run.metrics(
                {f"{shown_name(name)}/{figure}": value for figure, value in figures.items() if value is not None}, 0
            )
        share = fraction_of_experts(artifact, plan.config)
        if share is not None:
            run.metrics({"distilled/fraction_of_experts": share}, 0)
        for folder, name in ((plan.evaluated_set.folder, "atlas.png"), (artifact.folder, "accuracy.png")):
            if folder.exists(name):  # sets of other programs have no atlas
                run.artifact(folder.local(name))
        reached = [] if share is None else [f"It reaches {share:.0%} of its experts' balanced accuracy."]
        # The verdict first: MLflow's page shows some six lines, and the rest after a click.
        parts = [
            " ".join([parts[0], for_markdown(verdict(artifact.summary)), *reached]),
            markdown_table([HEAD, *accuracy_table(artifact.summary)]),
        ]
        parts.append(
            "Pictures: `atlas.png` (prototypes beside images of their class) and `accuracy.png` below Artifacts."
        )
    parts += [
        f"Files: `{artifact.folder}`",
        "The runs of the stages are below this one; each has its figures as artifacts.",
        f"Repeat it with `raydistill run CONFIG --to {last}` and config.yaml below Artifacts as CONFIG.",
    ]
    run.note("\n\n".join(parts))
