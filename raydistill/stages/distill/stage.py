"""distill: match the experts' trajectories with synthetic images.

curated set + trajectories -> [Ray task: run_trainer] -> images, history -> figures, FITS

worker (one Ray task)
    iterates, validates, draws, saves its checkpoint, streams updates; may use a pool of workers
driver
    shows progress, records it in MLflow, restarts a worker that died, draws the final figures
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
import torch

from raydistill.artifacts.manifest import Manifest
from raydistill.artifacts.tables import read_table
from raydistill.config import Config
from raydistill.distillation.cost_model import useful_threads
from raydistill.distillation.distiller import Distiller
from raydistill.distillation.matching import MatchResult
from raydistill.distillation.schedule import Decision
from raydistill.distillation.segments import OUTCOME, SegmentResult, SharedState
from raydistill.log import Progress, get_logger, progress
from raydistill.pipeline.checks import warn_of_few_training
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.runtime.cluster import PROGRESS_INTERVAL
from raydistill.runtime.failures import WORKER_FAILURES, one_line, translate_errors
from raydistill.runtime.resources import choose_distill_cpus, choose_num_workers, ensure_schedulable
from raydistill.runtime.stages import is_complete, load_inputs, model_of, stage_context, tracked_run
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill.artifact import SELECTED, DistilledSet, read_images
from raydistill.stages.distill.report import publish
from raydistill.stages.distill.task import DistillTask, TrainerInputs, make_task, recipe_and_estimate
from raydistill.stages.distill.trainer import ProgressUpdate, Trainer, is_finished
from raydistill.tracking.registry import DISTILLED_SET, model_name
from raydistill.tracking.tracker import Run, Tracker

log = get_logger(__name__)


def distill(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> DistilledSet:
    """Distil the set of the plan, or open the existing one.

    Raises
    ------
    ConfigError
        If the recipe needs more epochs than the experts store.
    DivergenceError
        If the matching loss or its gradient is not finite.
    """
    config, spec = plan.config, plan.distilled
    if not is_complete(spec):
        curated = load_inputs(plan)
        train = {entry.name: entry.train for entry in curated.summary.classes}
        warn_of_few_training(train, config.distill, "distill")
        register = partial(_register, config=config, curated=curated, spec=spec)
        with stage_context(plan), tracked_run(plan, spec, tracker, parent_run, curated, on_commit=register) as run:
            if not is_finished(spec.folder):  # an earlier run may have ended between its last file and the manifest
                _train(plan, _plan_task(plan, curated, run), run)
            publish(config, spec, curated, run)
    return DistilledSet.open(spec.folder)


def _register(run: Run, manifest: Manifest, *, config: Config, curated: CuratedSet, spec: ArtifactSpec) -> None:
    """Register the set as a model, with its iterate's accuracy on validation images.

    The iterate was selected by this accuracy.
    """
    selected, _ = read_images(spec.folder, SELECTED)
    validations = read_table(spec.folder, "validation.parquet").to_pylist()
    accuracies = {row["iteration"]: row["balanced_accuracy"] for row in validations}
    name, iteration = model_name(config.name, config.distill.images_per_class), selected.iteration
    run.register(model_of(name, DISTILLED_SET, accuracies[iteration], manifest, spec, curated, config, iteration))


def _plan_task(plan: Plan, curated: CuratedSet, run: Run) -> DistillTask:
    """Return the task, with threads and workers chosen from the cluster."""
    resources, segments = plan.config.resources, plan.config.distill.trajectories_per_step
    _, work = recipe_and_estimate(plan, curated)
    threads = choose_distill_cpus(resources, segments, useful_threads(work))
    task = make_task(plan, curated, run, threads, workers=choose_num_workers(resources, segments, distill_cpus=threads))
    if task.distill.objective.kind == "ridge":
        experts = len(plan.config.matched_experts)
        count, noun = (len(task.encoders), "encoder") if task.encoders else (experts, "expert")
        what = "distill: %d images, for ridge heads on the features of %d %s"
        log.info(what, curated.num_classes * task.distill.images_per_class, count, noun if count == 1 else f"{noun}s")
        return task
    log.info(
        "distill: %d images, students of %d steps to targets %d %s ahead%s, %d %s%s, %s",
        task.distill.num_images(curated.num_classes),
        task.recipe.student_steps,
        task.recipe.expert_epochs,
        "epoch" if task.recipe.expert_epochs == 1 else "epochs",
        f", {segments} segments an iteration on up to {task.extra_workers + 1} workers" if segments > 1 else "",
        threads,
        "thread" if threads == 1 else "threads",
        " on a GPU" if task.processor.gpus else "",
        task.recipe.arithmetic,
    )
    if task.recipe.student_lr is None:
        log.info("distill: choosing the student's learning rate on the initial images")
    return task


def _train(plan: Plan, task: DistillTask, run: Run) -> None:
    """Run the trainer to its end; restart it from its checkpoint when its worker dies."""
    spec, resources = plan.distilled, plan.config.resources
    # Ray's own retries of a generator would replay it from the start.
    remote: Any = ray.remote
    remote_trainer = remote(**task.ray_options, max_retries=0, num_returns="streaming")(run_trainer)
    last_seen = -1  # iteration; a resumed trainer first reports everything in its checkpoint
    with progress(task.distill.iterations, "distilling", "iterations") as shown, translate_errors("distill"):
        consecutive_failures = 0  # without any progress in between
        while True:
            before = last_seen
            try:
                for reference in remote_trainer.remote(task):
                    update = ray.get(reference)
                    if last_seen < 0 and update.iteration:
                        shown.resume_at(update.iteration)
                    last_seen = record_progress(update, last_seen, shown, run, spec)
                return
            except WORKER_FAILURES as error:
                consecutive_failures = 1 if last_seen > before else consecutive_failures + 1
                if consecutive_failures > resources.max_restarts:
                    raise
                log.warning("distill: the worker died (%s); it is restarted from its checkpoint", one_line(error))
                # The only nodes that can run it may have left the cluster.
                ensure_schedulable(resources, task.processor.threads)


def record_progress(update: ProgressUpdate, last_seen: int, shown: Progress, run: Run, spec: ArtifactSpec) -> int:
    """Show and record an update beyond iteration `last_seen`; return its new value."""
    for record in update.records:
        if record.iteration <= last_seen:
            continue
        values = record._asdict()
        numbers = {k: values[k] for k in ("loss", "next_epoch_loss", "student_lr", "gradient_norm", "cap")}
        run.metrics({name: value for name, value in numbers.items() if value == value}, record.iteration)
        if record.decision == Decision.LENGTHEN.value:
            log.info("distill: losses no longer fall; students are longer after iteration %d", record.iteration)
    for validation in update.validations:
        if validation.iteration <= last_seen:
            continue
        run.metrics({"validation/balanced_accuracy": validation.balanced_accuracy}, validation.iteration)
        log.info(
            "iteration %d: balanced accuracy %.3f on validation images",
            validation.iteration,
            validation.balanced_accuracy,
        )
    for warning in update.warnings:
        log.warning("distill: %s", warning)
    for name in update.pictures:
        run.artifact(spec.folder.local(name), "prototypes")
    last = update.records[-1] if update.records else None
    if last and last.decision == Decision.STOP.value:
        shown.set_total(last.iteration)
        log.info("distill: the schedule ends the distillation at iteration %d", last.iteration)
    figures = {"loss": last.loss} | ({} if last.expert == OUTCOME else {"cap": last.cap}) if last else {}
    shown.update(update.iteration, **figures)
    return max(last_seen, update.iteration)


# The trainer's Ray task, and the pool of workers that evaluate segments for it.
#
# trainer (a Ray task, `run_trainer`)
#     distributes `SharedState`, evaluates its own segments, and advances by all segments in their order
# worker (an actor, `PoolWorker`)
#     evaluates the segments that it is given
#
# With equal threads a segment has the same bits on every worker. Workers add throughput; progress
# never depends on them: the trainer does not wait for a worker that has not started. It evaluates the
# segments of a worker that died, and starts another one.

CPU = torch.device("cpu")


def run_trainer(task: DistillTask) -> Iterator[ProgressUpdate]:
    """Distil until all images are written; yield an update about once a second."""
    trainer = Trainer(task)
    reported = time.monotonic()
    yield trainer.progress_update()
    with closing(WorkerPool(task, trainer.warn)) as pool:
        while not trainer.distiller.finished:
            trainer.step(pool.evaluate)
            if time.monotonic() - reported > PROGRESS_INTERVAL:
                yield trainer.progress_update()
                reported = time.monotonic()
    trainer.write()
    yield trainer.progress_update()


@dataclass
class _Member:
    """A worker of the pool."""

    actor: Any
    started: Any  # reference that is ready once the actor has started
    consecutive_failures: int  # of this worker and of those that it replaces


class WorkerPool:
    """The workers that evaluate segments for a trainer.

    `warn` is called when a worker died.
    """

    def __init__(self, task: DistillTask, warn: Callable[[str], None]) -> None:
        self._task, self._warn = task, warn
        self._members = [self._start_worker(0) for _ in range(task.extra_workers)]

    def evaluate(self, distiller: Distiller) -> list[SegmentResult]:
        """Return the results of the iteration's segments, in order.

        The trainer and the started workers evaluate them.
        """
        segments = range(self._task.distill.trajectories_per_step)
        members = self._started_members()
        stride = 1 + len(members)
        shared = ray.put(_shared_to(CPU, distiller.shared())) if members else None
        pending = {
            number: (member, member.actor.evaluate.remote(shared, list(segments[number::stride])))
            for number, member in enumerate(members, 1)
        }
        results = {segment: distiller.measure(segment) for segment in segments[::stride]}
        for number, (member, reference) in pending.items():
            assigned = segments[number::stride]
            evaluated = self._get(member, reference)
            if evaluated:
                member.consecutive_failures = 0
            results |= zip(assigned, evaluated or map(distiller.measure, assigned), strict=True)
        return [_result_to(distiller.images.device, results[segment]) for segment in segments]

    def close(self) -> None:
        """Stop the workers."""
        for member in self._members:
            ray.kill(member.actor)

    def _start_worker(self, consecutive_failures: int) -> _Member:
        task = self._task
        actor: Any = ray.remote(PoolWorker).options(**task.ray_options).remote(task)
        return _Member(actor, actor.ready.remote(), consecutive_failures)

    def _started_members(self) -> list[_Member]:
        ready = [member for member in self._members if ray.wait([member.started], timeout=0)[0]]
        return [member for member in ready if self._get(member, member.started)]

    def _get(self, member: _Member, reference: Any) -> Any:
        """Return a worker's answer; None if it failed.

        A failed worker is replaced, at most `max_restarts` times in a row.
        """
        try:
            return ray.get(reference)
        # A RayTaskError is a fault of the worker's machine: a fault of the segment recurs in the
        # trainer.
        except (*WORKER_FAILURES, ray.exceptions.RayTaskError) as error:
            self._members.remove(member)
            failures = member.consecutive_failures + 1
            restart = failures <= self._task.max_restarts
            self._warn(
                f"a pool worker died ({one_line(error)}); {'it is replaced' if restart else 'the others continue'}"
            )
            if restart:
                self._members.append(self._start_worker(failures))
            return None


class PoolWorker:
    """An actor that evaluates segments for a trainer."""

    def __init__(self, task: DistillTask) -> None:
        inputs = TrainerInputs.of(task)
        self._evaluator, self._device = inputs.evaluator(task), torch.device(inputs.device)

    def ready(self) -> bool:
        """Return once the constructor has finished."""
        return True

    def evaluate(self, shared: SharedState, segments: list[int]) -> list[SegmentResult]:
        """Return the results of some segments, on the CPU."""
        on_device = _shared_to(self._device, shared)
        return [_result_to(CPU, self._evaluator.measure(on_device, segment)) for segment in segments]


def _shared_to(device: torch.device, shared: SharedState) -> SharedState:
    images, targets, log_lrs, schedule = shared
    return SharedState(images.to(device), targets.to(device), log_lrs.to(device), schedule)


def _result_to(device: torch.device, result: SegmentResult) -> SegmentResult:
    loss, d_images, d_targets, d_lr, steps = result.matched
    on_device = MatchResult(loss.to(device), d_images.to(device), d_targets.to(device), d_lr.to(device), steps)
    return result._replace(matched=on_device)
