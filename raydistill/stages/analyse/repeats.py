"""Repeat distillation with other seeds, experts or networks in parallel Ray tasks.

Each repetition has another `distill.seed`, and is a distilled set with the identity of a run of its
own config. A finished one is not made again, and one whose worker died resumes from its checkpoint.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

import ray

from raydistill.artifacts.manifest import open_manifest
from raydistill.log import get_logger, progress
from raydistill.pipeline.plan import Plan
from raydistill.runtime.lease import AlreadyBuilt, hold_lease
from raydistill.runtime.resources import choose_distill_cpus, ensure_schedulable
from raydistill.runtime.tasks import run_tasks
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.stages.distill.publish import publish
from raydistill.stages.distill.task import make_task
from raydistill.stages.distill.trainer import is_finished
from raydistill.stages.distill.worker_pool import run_trainer
from raydistill.stages.experts import artifact as trajectories
from raydistill.tracking.tracker import Run

log = get_logger(__name__)


@dataclass(frozen=True)
class Repeats:
    """Sets that are compared with each other.

    Attributes
    ----------
    varied
        "seeds", "experts" or "networks".
    names
        A short name of each set, such as "seed 1".
    plans
        The plan of each set.
    """

    varied: str
    names: tuple[str, ...]
    plans: tuple[Plan, ...]


def plan_repeats(plan: Plan) -> list[Repeats]:
    """Return the repeats that `analyse` asks for: seeds, expert groups and networks.

    The plan's own set is one of those with other seeds, and one of those with other networks. It is
    not among those of disjoint groups of experts, because it was matched to all experts.
    """
    options, recipe = plan.config.analyse, plan.config.distill
    found = []
    if options.repeats:
        seeds = range(recipe.seed, recipe.seed + options.repeats + 1)
        plans = tuple(plan.with_recipe(replace(recipe, seed=seed)) for seed in seeds)
        found.append(Repeats("seeds", tuple(f"seed {seed}" for seed in seeds), plans))
    if options.expert_groups:
        groups = _expert_groups(plan)
        plans = tuple(
            plan.with_recipe(replace(recipe, seed=recipe.seed + number, experts=group))
            for number, group in enumerate(groups, 1)
        )
        found.append(Repeats("experts", tuple(_name_group(group) for group in groups), plans))
    if options.networks:
        names = (plan.config.network.name, *(network.name for network in options.networks))
        found.append(Repeats("networks", names, (plan, *plans_of_networks(plan))))
    return found


def plans_of_networks(plan: Plan) -> list[Plan]:
    """Return a plan per network of `analyse.networks`, with its own experts and seed."""
    recipe = plan.config.distill
    found = []
    for number, network in enumerate(plan.config.analyse.networks, 1):
        distill = replace(recipe, seed=recipe.seed + number)
        evaluate = replace(plan.config.evaluate, other_networks=())  # their names must differ from the network's
        found.append(Plan(replace(plan.config, network=network, distill=distill, evaluate=evaluate)))
    return found


def _expert_groups(plan: Plan) -> list[tuple[int, ...]]:
    """Return disjoint groups of the recipe's experts; sizes differ by at most one."""
    chosen = plan.config.distill.experts or tuple(range(plan.config.experts.num_experts))
    count = plan.config.analyse.expert_groups
    return [chosen[first::count] for first in range(count)]


def _name_group(group: tuple[int, ...]) -> str:
    return f"expert{'s' if len(group) > 1 else ''} {', '.join(map(str, group))}"


def distil_repeats(repeats: list[Repeats]) -> list[list[DistilledSet]]:
    """Return the distilled sets of all plans; those that are missing are distilled.

    Raises
    ------
    ArtifactMissing
        The experts of another network do not exist.
    DivergenceError
        A matching loss or its gradient is not finite.
    """
    plans = {plan.distilled.identity: plan for one in repeats for plan in one.plans}
    missing = [plan for plan in plans.values() if not plan.distilled.exists]
    for plan in missing:
        open_manifest(plan.trajectories.folder, trajectories.KIND, verify=False)
    if missing:
        resources = missing[0].config.resources
        threads = choose_distill_cpus(resources, len(missing), max_useful=1)
        ensure_schedulable(resources, threads, resources.distill_gpus, "distill_")
        log.info("analyse: %d further distillations", len(missing))
        task = ray.remote(num_cpus=threads, num_gpus=resources.distill_gpus, max_retries=resources.max_restarts)(
            _distill
        )
        ready = [plan.with_resolved_paths() for plan in missing]
        with progress(len(plans), "repeating", "distillations", start=len(plans) - len(missing)) as shown:
            for _ in run_tasks(ready, lambda one: task.remote(one, threads), resources):
                shown.advance(1)
    return [[DistilledSet.open(plan.distilled.folder) for plan in one.plans] for one in repeats]


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
