"""What all stages share: skip what exists, record the run in MLflow, seal what was made."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from raydistill.artifacts.curated import CuratedSet
from raydistill.artifacts.manifest import PARTIAL, check_parent
from raydistill.artifacts.trajectories import TrajectoryStore
from raydistill.config import CatalogSurvey, Config, plain
from raydistill.core.cost_model import Hardware, Wanted, WorkEstimate, describe, resolve_auto
from raydistill.datasets.base import DataSet
from raydistill.errors import ArtifactIncompatible
from raydistill.log import get_logger
from raydistill.pipeline.plan import ArtifactSpec, Plan
from raydistill.pipeline.runtime.cluster import ray_cluster
from raydistill.pipeline.runtime.lease import AlreadyBuilt, hold_lease, wait_for_artifact
from raydistill.pipeline.tracking.tracker import InputDataset, Run, Tracker, default_uri
from raydistill.storage import Folder

log = get_logger(__name__)

SETTLED = "settled.json"
BEGUN_ON = f"{PARTIAL}/begun-on"  # what decides bits and is no part of the artifact


def tracking_uri(plan: Plan) -> str | None:
    """Where the runs of a plan are recorded; None: nowhere, for SQLite needs a disk, which the run folder is not."""
    if plan.config.tracking.uri or not plan.root.is_local:
        return plan.config.tracking.uri
    return default_uri(Path(plan.root.uri).absolute())


def make_tracker(plan: Plan) -> Tracker:
    """The tracker of a run, its database created before any worker touches it."""
    wanted, uri = plan.config.tracking, tracking_uri(plan)
    if uri is None and wanted.enabled:
        log.warning(
            "tracking is off: %s is no disk, and SQLite needs one; give tracking.uri=http://… of an MLflow server",
            plan.root,
        )
    tracker = Tracker(uri or "", wanted.experiment or plan.config.name, wanted.enabled and uri is not None)
    tracker.initialise()
    return tracker


def is_complete(spec: ArtifactSpec) -> bool:
    """True, with a line in the log, when the artifact is there already."""
    there = wait_for_artifact(spec)
    if there:
        log.info("%s: exists, skipped (%s)", spec.kind, spec.folder)
    return there


def load_inputs(plan: Plan) -> CuratedSet:
    """The curated set of a plan whose experts are there and are its own, with all that distilling takes of it."""
    curated = CuratedSet.open(plan.curated.folder)
    store = TrajectoryStore.open(plan.trajectories.folder)
    check_parent(store.manifest, "curated", curated.manifest, store.folder.uri)
    curated.require_splits("train", "validation")
    require_votes(plan.config, curated)
    return curated


def require_votes(config: Config, curated: CuratedSet) -> None:
    """ArtifactIncompatible, before anything is trained, for labels from votes where the survey has none."""
    experts, distill = config.experts, config.distill
    wanted = {
        "experts.targets": (experts.targets == "votes", "hard"),
        "distill.labels": (distill.labels == "votes", "hard"),
        "distill.label_init": (distill.label_init == "votes", "experts"),
    }
    keys = [key for key, (votes, _) in wanted.items() if votes]
    if keys and not curated.has_votes:
        fix = " and ".join(f"{key}={wanted[key][1]}" for key in keys)
        what = f"its galaxies have labels and no votes, which {' and '.join(keys)} would take"
        raise ArtifactIncompatible(what, curated.folder.uri, f"set {fix}, or take a survey with votes")


@contextmanager
def stage_context(plan: Plan) -> Iterator[None]:
    """A cluster for `recorded`, whose body is left out when another run has made the artifact by the time the cluster is there."""
    with suppress(AlreadyBuilt), ray_cluster(plan.config.resources, plan.root):
        yield


@contextmanager
def tracked_run(
    plan: Plan, spec: ArtifactSpec, tracker: Tracker, parent_run: str | None, curated: CuratedSet | None = None
) -> Iterator[Run]:
    """The body makes the artifact's files; then the folder is sealed and the run finished with its digests."""
    parents = {name: parent.identity for name, parent in spec.parents.items()}
    inputs = _inputs(plan, spec, curated)
    with (
        hold_lease(spec) as require_held,
        tracker.run(
            spec.kind,
            identity=spec.identity,
            params=plain(plan.config),
            parents=parents,
            inputs=inputs,
            parent_run_id=parent_run,
        ) as run,
    ):
        log.info("%s: begins (%s)", spec.kind, spec.folder)
        yield run
        require_held()
        manifest = spec.commit()
        run.tags({"raydistill.content": manifest.content, "raydistill.uri": spec.folder.uri})
        log.info("%s: done, content %s", spec.kind, manifest.content[:12])


def resolve(folder: Folder, run: Run, wanted: Wanted, work: WorkEstimate, gpus: float, threads: int) -> Wanted:
    """The training or recipe without `auto`, by this machine or, where the artifact was begun already, as it was settled then: what one
    machine has begun, another finishes with the same arithmetic. A warning where it cannot, for want of a GPU or of threads."""
    here = "GPUs" if gpus else f"{threads} {'thread' if threads == 1 else 'threads'} of a CPU"
    if (how := _settled_before(folder)) is not None:
        chosen = replace(wanted, **how)
        there = folder.read(BEGUN_ON).decode() if folder.exists(BEGUN_ON) else here
        if there != here:
            log.warning(
                "%s was begun on %s and goes on with %s: the same to rounding, not to the bit", folder, there, here
            )
    else:
        chosen = resolve_auto(wanted, work, Hardware.of_workers(gpus))
        how = {"compile": chosen.compile, "precision": chosen.precision}
        folder.write(BEGUN_ON, here.encode())
        folder.write(SETTLED, json.dumps(how).encode())
    run.tags({"raydistill.settled": describe(chosen)})
    return chosen


def _settled_before(folder: Folder) -> dict[str, Any] | None:
    if folder.exists(SETTLED):
        try:
            return dict(json.loads(folder.read(SETTLED)))
        except ValueError:
            log.warning("%s: '%s' is damaged; what was left to auto is settled again", folder, SETTLED)
    return None


def _inputs(plan: Plan, spec: ArtifactSpec, curated: CuratedSet | None) -> list[InputDataset]:
    """The data that a stage reads: the curated set, or the vote table that it is made from."""
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
    """Draw a picture into the artifact and show it in MLflow."""
    with spec.folder.writing(name) as path:
        draw(path)
    run.artifact(spec.folder.local(name), str(Path(name).parent) if "/" in name else None)
