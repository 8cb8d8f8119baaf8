"""generate: train a generator of galaxy pictures, conditioned on known properties.

    driver             -> how votes, classes, sizes and colours become conditions
    Ray Data tasks     -> decode the pictures of each worker, in the order of the training
    Ray Train workers  -> each computes shards of every batch, and gathers the others' gradients
    worker 0           -> validates, draws previews, saves checkpoints, sends updates to the driver

The result has the same bits on any number of workers. When a worker dies, all start again from the
last checkpoint; a command that was killed continues from it too.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import ray
import ray.train
import ray.train.torch
from ray.util.queue import Queue

from raydistill.artifacts.manifest import PARTIAL
from raydistill.config import Resources
from raydistill.errors import ClusterError
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.runtime.background import run_in_background
from raydistill.runtime.failures import WORKER_FAILURES, one_line, translate_errors
from raydistill.runtime.ray_train import ExitAfterReport, IndependentWorkers
from raydistill.runtime.resources import choose_num_workers, ensure_schedulable, on_driver_node
from raydistill.runtime.signals import preserve_sigint
from raydistill.runtime.stages import is_complete, stage_context, tracked_run
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.conditions import ConditionEncoding, fit_encoding
from raydistill.stages.experts.embedding import Embedder, Expert, open_expert
from raydistill.stages.generate.artifact import GeneratorArtifact
from raydistill.stages.generate.extra_sets import ExtraSet, extra_row_groups, open_extra_sets, without_held_out
from raydistill.stages.generate.feed import Pictures, used_groups
from raydistill.stages.generate.monitor import Monitor
from raydistill.stages.generate.task import GenerateTask
from raydistill.stages.generate.worker import MAX_STATISTICS, train_generator
from raydistill.storage import arrow_filesystem
from raydistill.tracking.tracker import Run, Tracker

log = get_logger(__name__)


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
    ArtifactMissing
        If the curated set does not exist, or the experts for a condition "embedding".
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
        own = plan.config.generate
        encoding = fit_encoding(curated, own.conditions, extras, own.embedding_size)
        expert = open_expert(plan, curated) if own.needs_experts else None
        used = without_held_out(extras, curated)
        with stage_context(plan), tracked_run(plan, spec, tracker, parent_run, curated) as run:
            _train(plan, curated, encoding, expert, used, run)
    return GeneratorArtifact.open(spec.folder)


def _train(
    plan: Plan,
    curated: CuratedSet,
    encoding: ConditionEncoding,
    expert: Expert | None,
    extras: tuple[ExtraSet, ...],
    run: Run,
) -> None:
    """Train the generator to its end. Raise the error that ended it."""
    config, spec = plan.config, plan.generator
    resources, training = config.resources, config.generate.training
    ensure_schedulable(resources, resources.cpus, resources.gpus, "")
    workers = num_workers(training.shards, choose_num_workers(resources, training.shards))
    size, further = curated.summary.image_size, [extra_row_groups(extra, curated) for extra in extras]
    pictures = Pictures(sum(further, used_groups(curated, "train")), size, encoding)
    validation = Pictures(used_groups(curated, "validation"), size, encoding)
    if expert is not None:
        chosen_NHWC = pictures.choose_images(MAX_STATISTICS, spec.seed, "embedding")
        embedder = Embedder.fit(expert, chosen_NHWC, config.generate.embedding_size)
        pictures, validation = replace(pictures, embedder=embedder), replace(validation, embedder=embedder)
    log.info(
        "generate: %d steps of %d pictures, from %d galaxies, on %d %s; conditions: %s",
        training.steps,
        training.batch_size,
        len(pictures),
        workers,
        "worker" if workers == 1 else "workers",
        ", ".join(encoding.groups) or "none",
    )
    task = GenerateTask(
        spec.folder.uri, curated.folder.uri, pictures, validation, config.generate.with_digest(),
        curated.summary.survey, spec.seed, resources.worker_threads, resources.gpus, resources.checkpoint_seconds,
    )  # fmt: skip
    updates = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": on_driver_node()})
    monitor = Monitor(plan, updates, run)
    with translate_errors("generate"):
        with run_in_background(monitor.show, timeout=60):
            _run_groups(resources, plan, task, updates, workers, monitor)
        updates.shutdown(force=True)
    if monitor.error is not None:
        raise monitor.error


def num_workers(shards: int, available: int) -> int:
    """Return the largest number of workers that computes equally many shards each."""
    return max(count for count in range(1, max(1, available) + 1) if shards % count == 0)


def _run_groups(
    resources: Resources, plan: Plan, task: GenerateTask, updates: Queue, workers: int, monitor: Monitor
) -> None:
    """Run groups of workers until one has reached the end, or has sent an error.

    Ray Train counts all failures of a run. Each group is a run of its own, so that only failures in a
    row without a checkpoint in between count.

    Raises
    ------
    ClusterError
        The workers died more often than `resources.max_restarts`, or cannot start.
    """
    failures = saved = 0
    while True:
        reason = _run_group(resources, plan, task, updates, workers)
        if reason is None:
            return
        before, saved = saved, monitor.wait_for_saved_step()
        if monitor.error is not None:
            return
        failures = 1 if saved > before else failures + 1
        if failures > resources.max_restarts:
            limit = f"more than resources.max_restarts={resources.max_restarts} times in a row"
            what = f"the workers died {limit}, or cannot start ({reason})"
            raise ClusterError(what, "generate", "run the same command again; it continues from the last checkpoint")
        log.warning("generate: a worker died (%s); all start again from step %d", reason, saved)


def _run_group(resources: Resources, plan: Plan, task: GenerateTask, updates: Queue, workers: int) -> str | None:
    """Run a group of workers; return why it failed, or None."""
    system, path = arrow_filesystem((plan.generator.folder / PARTIAL / "ray").uri)
    callbacks: Any = [ExitAfterReport()]  # typed as callbacks of Tune
    trainer = ray.train.torch.TorchTrainer(
        train_generator,
        train_loop_config={"task": task, "updates": updates},
        torch_config=IndependentWorkers(),  # they start their own process group
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
            failure_config=ray.train.FailureConfig(  # type: ignore[call-arg]  # mypy sees the class of Ray AIR
                max_failures=0,
                controller_failure_limit=resources.max_restarts,  # deaths before the training starts
            ),
            callbacks=callbacks,
        ),
    )
    try:
        with preserve_sigint():
            trainer.fit()
    except (ray.train.TrainingFailedError, *WORKER_FAILURES) as error:
        return one_line(error)
    return None
