"""Run the steps that all stages share: leases, tracked runs, manifests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from raydistill.artifacts import kinds
from raydistill.artifacts.manifest import PARTIAL, Manifest, check_parent
from raydistill.config import CatalogSurvey, Config, chosen, plain
from raydistill.datasets.base import DataSet
from raydistill.distillation.cost_model import Hardware, WorkEstimate, resolve_auto
from raydistill.errors import ArtifactIncompatible
from raydistill.learning.arithmetic import Arithmetic, RequestsArithmetic
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.runtime.cluster import ray_cluster
from raydistill.runtime.cost import measured
from raydistill.runtime.lease import AlreadyBuilt, hold_lease, wait_for_artifact
from raydistill.runtime.resources import Processor
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.experts.artifact import TrajectoryStore
from raydistill.stages.generate.artifact import GeneratorArtifact
from raydistill.stages.pretrain.artifact import EncoderArtifact
from raydistill.storage import Folder, checked
from raydistill.tracking.formatting import InputDataset, search_tags
from raydistill.tracking.registry import Model
from raydistill.tracking.tracker import Run, Tracker

log = get_logger(__name__)

RESOLVED = "resolved.json"
STARTED_ON = f"{PARTIAL}/begun-on"  # the resolved values, and the hardware, which can change bits


def is_complete(spec: ArtifactSpec) -> bool:
    """Return whether the artifact exists; wait while another process builds it."""
    exists = wait_for_artifact(spec)
    if exists:
        log.info("%s: exists, skipped", spec.kind)
        log.info("  %s", spec.folder.shown)
    return exists


def load_inputs(plan: Plan) -> CuratedSet:
    """Return the curated set that distillation reads.

    Raises
    ------
    ArtifactMissing
        The curated set, or the experts, encoders or generator, do not exist.
    ArtifactIncompatible
        The experts were trained on another curated set.
        Or the set lacks a split, or the votes that the config needs.
    """
    curated = CuratedSet.open(plan.curated.folder)
    for encoder in map(EncoderArtifact.open, [spec.folder for spec in plan.encoders]):
        encoder.require_gradient()
        encoder.warn_of_other_set(curated.manifest, "distill")
    if not plan.encoders:
        store = TrajectoryStore.open(plan.trajectories.folder)
        check_parent(store.manifest, "curated", curated.manifest, store.folder.uri)
    if plan.config.distill.needs_generator:
        GeneratorArtifact.open(plan.generator.folder)
    require_classes(curated)
    curated.require_splits("train", "validation")
    require_votes(plan.config, curated)
    return curated


def require_classes(curated: CuratedSet) -> None:
    """Raise ArtifactIncompatible for a set without classes."""
    if not curated.has_classes:
        what = "its galaxies have no classes, because curate.classes is unlabelled"
        raise ArtifactIncompatible(what, curated.folder.uri, "set curate.classes to classes of the survey")


def require_votes(config: Config, curated: CuratedSet) -> None:
    """Raise ArtifactIncompatible if the curated set lacks votes that the config needs."""
    values = {  # key: (whether it needs votes, its value without votes)
        "experts.targets": (config.experts.needs_votes, "hard"),
        "distill.labels": (config.distill.labels == "votes", "hard"),
        "distill.label_init": (config.distill.label_init == "votes", "experts"),
    }
    keys = [key for key, (needed, _) in values.items() if needed]
    if keys and not curated.has_votes:
        fix = " and ".join(f"{key}={values[key][1]}" for key in keys)
        what = (
            f"its galaxies have labels and no votes, which {' and '.join(keys)} {'needs' if len(keys) == 1 else 'need'}"
        )
        raise ArtifactIncompatible(what, curated.folder.uri, f"set {fix}, or take a survey with votes")


@contextmanager
def stage_context(plan: Plan) -> Iterator[None]:
    """Hold a Ray cluster for the body.

    The body ends early if `tracked_run` finds that another process built the artifact in the
    meantime.
    """
    with suppress(AlreadyBuilt), ray_cluster(plan.config.resources, plan.root):
        yield


@contextmanager
def tracked_run(
    plan: Plan,
    spec: ArtifactSpec,
    tracker: Tracker,
    parent_run: str | None,
    curated: CuratedSet | None = None,
    inputs: Sequence[InputDataset] = (),
    on_commit: Callable[[Run, Manifest], object] | None = None,
) -> Iterator[Run]:
    """Hold the lease and track a run while the body writes an artifact's files.

    The manifest is written after the body.

    Parameters
    ----------
    plan
        The plan to which the artifact belongs.
    spec
        The artifact that the body builds.
    tracker
        Where the run is recorded.
    parent_run
        Id of the MLflow run of the whole pipeline; None if the stage runs alone.
    curated
        The curated set that the stage reads; None for a stage that reads none.
    inputs
        Further data that the stage reads.
    on_commit
        Called with the run and the manifest once the artifact is complete.

    Yields
    ------
    Run
        The run of the stage. At its end it is tagged with the artifact's content digest and URI.

    Raises
    ------
    AlreadyBuilt
        Another process built the artifact in the meantime; `stage_context` handles it.
    ClusterError
        Another process took over the lease. The manifest is not written.
    """
    with (
        hold_lease(spec) as check_held,
        tracker.run(
            spec.kind,
            identity=spec.identity,
            config=plain(plan.config),
            params=chosen(plan.config),
            parents={name: parent.identity for name, parent in spec.parents.items()},
            inputs=[*_inputs(plan, spec, curated), *inputs],
            parent_run_id=parent_run,
        ) as run,
    ):
        log.info("%s: begins", spec.kind)
        resources = plan.config.resources
        with measured(spec.folder, resources.distill_gpus if spec.kind == kinds.DISTILLED else resources.gpus):
            yield run
        check_held()
        manifest = spec.commit()
        run.tags({"raydistill.content": manifest.content, "raydistill.uri": spec.folder.uri})
        if on_commit is not None:
            on_commit(run, manifest)
        log.info("%s: done, content %s", spec.kind, manifest.content[:12])
        log.info("  %s", spec.folder.shown)


def model_of(
    name: str,
    kind: str,
    accuracy: float,
    manifest: Manifest,
    spec: ArtifactSpec,
    curated: CuratedSet,
    config: Config,
    step: int = 0,
    save: Callable[[Folder], None] | None = None,
    code: Path | None = None,
) -> Model:
    """Return the description of a committed artifact's model.

    `registry.Model` describes the parameters.
    """
    place = str(Path(spec.folder.uri).absolute()) if spec.folder.is_local else spec.folder.uri
    return Model(
        name=name,
        kind=kind,
        uri=place,
        identity=manifest.identity,
        content=manifest.content,
        accuracy=accuracy,
        step=step,
        dataset=curated.summary.survey,
        dataset_digest=curated.manifest.content,
        params=search_tags(plain(config)),
        save=save,
        code=code,
    )


def resolve(
    folder: Folder, run: Run, requested: RequestsArithmetic, work: WorkEstimate, processor: Processor
) -> Arithmetic:
    """Return the arithmetic of a stage, and store it in the artifact's folder.

    A resumed artifact keeps its arithmetic on every machine. The log warns if GPUs or threads
    differ, because then bits may differ.

    Parameters
    ----------
    folder
        Folder of the artifact.
    run
        MLflow run, which gets the arithmetic as a tag.
    requested
        The options as configured.
    work
        Estimate of the work, which decides an "auto".
    processor
        GPUs and CPU threads of a worker.
    """
    here = str(processor)
    before = checked.read(folder, STARTED_ON)
    if before is None:
        arithmetic = resolve_auto(requested, work, Hardware.of_workers(processor.gpus))
        checked.write(folder, STARTED_ON, json.dumps({"hardware": here, **arithmetic._asdict()}).encode())
    else:
        values = json.loads(before)
        there = values.pop("hardware")
        arithmetic = Arithmetic(**values)
        if there != here:
            log.warning(
                "%s was started on %s and resumes on %s: results agree to rounding, not bit for bit",
                folder,
                there,
                here,
            )
    folder.write(RESOLVED, json.dumps(arithmetic._asdict()).encode())
    run.tags({"raydistill.resolved": str(arithmetic)})
    return arithmetic


def _inputs(plan: Plan, spec: ArtifactSpec, curated: CuratedSet | None) -> list[InputDataset]:
    """Return the data that a stage reads: the curated set, or the survey."""
    survey = plan.config.survey
    if curated is not None:
        rows = sum(entry.kept for entry in curated.summary.classes)
        context = "evaluation" if spec.kind == "evaluation" else "training"
        return [InputDataset(curated.summary.survey, curated.manifest.content, curated.folder.uri, rows, context)]
    if spec.kind == "curated" and isinstance(survey, CatalogSurvey):
        return [InputDataset(plan.config.name, spec.config["catalog_sha256"], survey.catalog, context="curation")]
    if spec.kind == "curated" and isinstance(survey, DataSet):
        return [InputDataset(plan.config.name, spec.config["data_sha256"], survey.root, context="curation")]
    return []


def save_figure(spec: ArtifactSpec, run: Run, name: str, draw: Callable[[Path], object]) -> None:
    """Let `draw(path)` save a figure into the artifact, and log it to the run."""
    with spec.folder.writing(name) as path:
        draw(path)
    run.artifact(spec.folder.local(name), str(Path(name).parent) if "/" in name else None)
