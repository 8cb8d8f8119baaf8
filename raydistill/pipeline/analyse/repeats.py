"""Repeat a distillation with other seeds, in parallel Ray tasks; each repetition is a distilled set.

A repetition differs in `distill.seed` alone, so it has the identity of a run with that seed. A
finished one is not made again, and one whose worker died resumes from its checkpoint.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import ray

from raydistill.artifacts.curated import CuratedSet
from raydistill.artifacts.distilled import DistilledSet
from raydistill.log import get_logger, progress
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.runtime.lease import AlreadyBuilt, hold_lease
from raydistill.pipeline.runtime.resources import choose_distill_cpus, ensure_schedulable
from raydistill.pipeline.runtime.tasks import run_tasks
from raydistill.pipeline.tracking.tracker import Run
from raydistill.pipeline.trainer.publish import publish
from raydistill.pipeline.trainer.task import make_task
from raydistill.pipeline.trainer.trainer import is_finished
from raydistill.pipeline.trainer.worker_pool import run_trainer

log = get_logger(__name__)


def repeated_sets(plan: Plan, count: int) -> list[DistilledSet]:
    """Return the distilled sets of this many further seeds; those that are missing are distilled.

    Parameters
    ----------
    plan
        The plan whose recipe is repeated.
    count
        Number of further sets.
    """
    recipe, resources = plan.config.distill, plan.config.resources
    plans = [plan.with_recipe(replace(recipe, seed=recipe.seed + number)) for number in range(1, count + 1)]
    missing = [one.with_resolved_paths() for one in plans if not one.distilled.exists]
    if missing:
        threads = choose_distill_cpus(resources, len(missing), max_useful=1)
        gpus = resources.distill_gpus
        ensure_schedulable(resources, threads, gpus, "distill_")
        log.info("analyse: %d further distillations", len(missing))
        task = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=resources.max_restarts)(_distill)
        with progress(count, "repeating", "distillations", start=count - len(missing)) as shown:
            for _ in run_tasks(missing, lambda one: task.remote(one, threads), resources):
                shown.advance(1)
    return [DistilledSet.open(one.distilled.folder) for one in plans]


def _distill(plan: Plan, threads: int) -> None:
    """Distil one set and commit it, unless another process has done so."""
    spec = plan.distilled
    with suppress(AlreadyBuilt), hold_lease(spec) as check_held:
        curated = CuratedSet.open(plan.curated.folder, verify=False)  # the driver has verified it
        if not is_finished(spec.folder):
            for _ in run_trainer(make_task(plan, curated, Run(), threads)):
                pass
        publish(plan.config, spec, curated, Run())
        check_held()
        spec.commit()
