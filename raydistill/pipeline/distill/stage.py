"""distill: match the experts' trajectories until the images teach what the experts know.

worker (one Ray task)  iterates; every so often it validates, draws and saves its state; streams what happened (`session`); others may
                       help it (`team`)
driver                 shows progress, tells MLflow, starts a lost worker again from the saved state, draws the final pictures
"""

from __future__ import annotations

from typing import Any

import ray

from raydistill.artifacts.curated import CuratedSet
from raydistill.artifacts.distilled import DistilledSet
from raydistill.core.cost_model import describe, useful_threads
from raydistill.log import get_logger, progress
from raydistill.pipeline.plan import ArtifactSpec, Plan
from raydistill.pipeline.runtime.failures import WORKER_FAILURES, one_line, translate_errors
from raydistill.pipeline.runtime.resources import choose_distill_cpus, choose_num_workers, ensure_schedulable
from raydistill.pipeline.runtime.stages import is_complete, load_inputs, stage_context, tracked_run
from raydistill.pipeline.tracking.tracker import Run, Tracker
from raydistill.pipeline.trainer.publish import publish
from raydistill.pipeline.trainer.trainer import ProgressUpdate, is_finished, make_task, recipe_and_estimate
from raydistill.pipeline.trainer.worker_pool import run_trainer

log = get_logger(__name__)


def distill(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> DistilledSet:
    """Distill the set of the plan, or open the one that exists."""
    config, spec = plan.config, plan.distilled
    if not is_complete(spec):
        curated = load_inputs(plan)
        with stage_context(plan), tracked_run(plan, spec, tracker, parent_run, curated) as run:
            _run(plan, curated, run)
            publish(config, spec, curated, run)
    return DistilledSet.open(spec.folder)


def _run(plan: Plan, curated: CuratedSet, run: Run) -> None:
    """Keep a worker going until the images are finished."""
    spec, resources = plan.distilled, plan.config.resources
    if is_finished(spec.folder):
        return  # and killed between the worker's end and the manifest
    pieces = plan.config.distill.trajectories_per_step
    _, work = recipe_and_estimate(plan.config, curated)
    threads = choose_distill_cpus(resources, pieces, useful_threads(work))
    job = make_task(plan, curated, run, threads, workers=choose_num_workers(resources, pieces, distill_cpus=threads))
    # A generator's own retries would replay from the start; ours go on from the saved state.
    task: Any = ray.remote(num_cpus=job.threads, num_gpus=job.gpus, max_retries=0, num_returns="streaming")(run_trainer)
    log.info(
        "distill: %d images, students of %d steps%s, %d threads%s, %s",
        curated.num_classes * job.distill.images_per_class,
        job.distill.num_steps,
        f", {pieces} pieces an iteration on up to {job.helpers + 1} workers" if pieces > 1 else "",
        job.threads,
        " on a GPU" if job.gpus else "",
        describe(job.distill),
    )
    heard = -1  # the last iteration told: a worker that goes on from a saved state begins with all that it holds
    with progress(job.distill.iterations, "distilling", "iterations") as shown, translate_errors("distill"):
        in_vain = 0  # losses of the worker since something new was heard
        while True:
            before = heard
            try:
                for reference in task.remote(job):
                    news = ray.get(reference)
                    if heard < 0 and news.iteration:
                        shown.resume_at(news.iteration)
                    heard = _tell(news, heard, shown, run, spec)
                return
            except WORKER_FAILURES as error:
                in_vain = 1 if heard > before else in_vain + 1
                if in_vain > resources.max_restarts:
                    raise
                log.warning("distill: the worker was lost (%s), it is started again", one_line(error))
                # The machines that are gone may have been the only ones that carry it.
                ensure_schedulable(resources, job.threads, job.gpus, "distill_")


def _tell(news: ProgressUpdate, heard: int, shown: Any, run: Run, spec: ArtifactSpec) -> int:
    """Show and record what has not been heard yet; the iteration up to which it has been now."""
    for record in news.records:
        if record.iteration <= heard:
            continue
        named = record._asdict()
        numbers = {k: named[k] for k in ("loss", "next_epoch_loss", "student_lr", "gradient_norm", "cap")}
        run.metrics({name: value for name, value in numbers.items() if value == value}, record.iteration)
    for validation in news.validations:
        if validation.iteration <= heard:
            continue
        run.metrics({"validation/balanced_accuracy": validation.balanced_accuracy}, validation.iteration)
        log.info(
            "iteration %d: balanced accuracy %.3f on validation images",
            validation.iteration,
            validation.balanced_accuracy,
        )
    for warning in news.warnings:
        log.warning("distill: %s", warning)
    for name in news.pictures:
        run.artifact(spec.folder.local(name), "prototypes")
    last = news.records[-1] if news.records else None
    shown.update(news.iteration, **({"loss": last.loss, "cap": last.cap} if last else {}))
    return max(heard, news.iteration)
