"""generate: train a generator of galaxy pictures, conditioned on what is known of the galaxies.

    driver             -> how votes, classes, sizes and colours become conditions
    Ray Train workers  -> each computes some shards of every batch, and gathers the others' gradients
    worker 0           -> validates, draws previews, saves checkpoints, sends updates to the driver

The result has the same bits on any number of workers. When a worker dies, Ray Train restarts the
group from the last checkpoint; a command that was killed continues from it too.
"""

from __future__ import annotations

import math
import threading
import uuid
from functools import partial
from typing import Any

import ray
import ray.train
import ray.train.torch
from ray.util.queue import Empty, Queue

from raydistill.artifacts.conditions import ConditionEncoding, fit_encoding
from raydistill.artifacts.curated import CuratedSet
from raydistill.artifacts.generator import GeneratorArtifact
from raydistill.artifacts.manifest import PARTIAL
from raydistill.config import Resources
from raydistill.errors import ClusterError, RaydistillError
from raydistill.log import Progress, get_logger, progress
from raydistill.pipeline.generate.extra_sets import ExtraSet, open_extra_sets, without_held_out
from raydistill.pipeline.generate.task import GenerateTask, Update
from raydistill.pipeline.generate.worker import train_generator
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.runtime.background import run_in_background
from raydistill.pipeline.runtime.failures import one_line, translate_errors
from raydistill.pipeline.runtime.ray_train import ExitAfterReport, IndependentWorkers
from raydistill.pipeline.runtime.resources import choose_num_workers, ensure_schedulable, on_driver_node
from raydistill.pipeline.runtime.signals import preserve_sigint
from raydistill.pipeline.runtime.stages import is_complete, stage_context, tracked_run
from raydistill.pipeline.tracking.tracker import Run, Tracker
from raydistill.storage import arrow_filesystem

log = get_logger(__name__)

POLL_SECONDS = 0.5


def generate(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> GeneratorArtifact:
    """Train the generator of the plan, or open the existing one.

    Parameters
    ----------
    plan
        Where the artifacts of the run are.
    tracker
        Where the run is recorded.
    parent_run
        MLflow id of the enclosing run, if any.

    Returns
    -------
    GeneratorArtifact

    Raises
    ------
    ArtifactIncompatible
        If the curated set lacks a split, or a quantity that `generate.conditions` names. If an extra
        set does not fit it.
    DivergenceError
        If the loss is not finite.
    ClusterError
        If workers cannot start, or die too often.
    """
    spec = plan.generator
    if not is_complete(spec):
        curated = CuratedSet.open(plan.curated.folder)
        curated.require_splits("train", "validation")
        extras = open_extra_sets([extra.folder for extra in plan.extra_sets], curated)
        encoding = fit_encoding(curated, plan.config.generate.conditions, extras)
        used = without_held_out(extras, curated)
        with stage_context(plan), tracked_run(plan, spec, tracker, parent_run, curated) as run:
            _train(plan, curated, encoding, used, run)
    return GeneratorArtifact.open(spec.folder)


def _train(
    plan: Plan, curated: CuratedSet, encoding: ConditionEncoding, extras: tuple[ExtraSet, ...], run: Run
) -> None:
    """Train the generator to its end. Raise the error that ended it."""
    config, spec = plan.config, plan.generator
    resources, training = config.resources, config.generate.training
    ensure_schedulable(resources, resources.cpus, resources.gpus, "")
    workers = num_workers(training.shards, choose_num_workers(resources, training.shards))
    log.info(
        "generate: %d steps of %d pictures on %d %s; conditions: %s",
        training.steps,
        training.batch_size,
        workers,
        "worker" if workers == 1 else "workers",
        ", ".join(encoding.groups) or "none",
    )
    task = GenerateTask(
        spec.folder.uri, curated.folder.uri, encoding, config.generate, curated.summary.survey, spec.seed,
        resources.worker_threads, resources.gpus, resources.checkpoint_seconds, extras,
    )  # fmt: skip
    updates = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": on_driver_node()})
    errors: list[RaydistillError] = []
    with translate_errors("generate"):
        with run_in_background(partial(_show_updates, plan, updates, run, errors), timeout=60):
            failure = _run_workers(resources, plan, task, updates, workers)
        updates.shutdown(force=True)
    if error := next(iter(errors), failure):
        raise error


def num_workers(shards: int, available: int) -> int:
    """Return the largest number of workers that computes equally many shards each."""
    return max(count for count in range(1, max(1, available) + 1) if shards % count == 0)


def _run_workers(
    resources: Resources, plan: Plan, task: GenerateTask, updates: Queue, workers: int
) -> ClusterError | None:
    """Run the group of workers to its end; return an error if it could not start, or died too often."""
    system, path = arrow_filesystem((plan.generator.folder / PARTIAL / "ray").uri)
    callbacks: Any = [ExitAfterReport()]  # typed as callbacks of Tune
    backend = "nccl" if resources.gpus else "gloo"
    trainer = ray.train.torch.TorchTrainer(
        train_generator,
        train_loop_config={"task": task, "updates": updates},
        torch_config=IndependentWorkers() if workers == 1 else ray.train.torch.TorchConfig(backend=backend),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers,
            use_gpu=resources.gpus > 0,
            resources_per_worker={"CPU": resources.cpus} | ({"GPU": resources.gpus} if resources.gpus else {}),
        ),
        run_config=ray.train.RunConfig(
            # A new name keeps Ray from resuming a finished run: the stage has its own checkpoints.
            name=f"generate-{uuid.uuid4().hex[:8]}",
            storage_path=path,
            storage_filesystem=system,
            failure_config=ray.train.FailureConfig(max_failures=resources.max_restarts),
            callbacks=callbacks,
        ),
    )
    try:
        with preserve_sigint():
            trainer.fit()
    except ray.train.TrainingFailedError as error:
        what = f"the workers died more than {resources.max_restarts} times, or cannot start ({one_line(error)})"
        return ClusterError(what, "generate", "run the same command again; it continues from the last checkpoint")
    return None


def _show_updates(plan: Plan, updates: Queue, run: Run, errors: list[RaydistillError], done: threading.Event) -> None:
    """Show progress, and record updates in MLflow, until the body ends and the queue is empty."""
    seen, folder = -1, plan.generator.folder
    with progress(plan.config.generate.training.steps, "training the generator", "steps") as shown:
        while True:
            last = done.wait(POLL_SECONDS)
            while (update := _next(updates)) is not None:
                if update.error is not None:
                    errors.append(update.error)
                    continue
                _record(update, seen, run)
                _show(update, seen, shown)
                for name in update.pictures:
                    run.artifact(folder.local(name), "previews")
                seen = max(seen, update.step)
            if last:
                return


def _next(updates: Queue) -> Update | None:
    """Return the next update, or None if there is none yet."""
    try:
        update: Update = updates.get_nowait()
    except Empty:
        return None
    return update


def _record(update: Update, seen: int, run: Run) -> None:
    """Record in MLflow what is newer than step `seen`; a restarted group sends its records again."""
    for row in update.history:
        if row["step"] > seen:
            by_time = {f"loss_by_time/{n}": value for n, value in enumerate(row["loss_by_time"]) if value is not None}
            run.metrics({"loss": row["loss"], "lr": row["lr"]} | by_time, row["step"])
    for row in update.validation:
        if row["step"] >= seen:
            run.metrics({f"validation/{k}": v for k, v in row.items() if k != "step" and math.isfinite(v)}, row["step"])


def _show(update: Update, seen: int, shown: Progress) -> None:
    if seen < 0 and update.step:
        shown.resume_at(update.step)
    if update.history:
        shown.update(update.step, loss=update.history[-1]["loss"])
    for row in update.validation:
        if row["step"] > seen or update.pictures:
            what = "generate: step %d: loss %.4f on validation pictures; flux of the samples %+.1f %%"
            log.info(what, row["step"], row["loss"], 100 * row["bias_flux"])
