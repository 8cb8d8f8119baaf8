"""Population-based training: members take over images and change their values.

A member reports each validation with its checkpoint, from which another member continues, and the
values it has had so far.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray.tune
from ray.tune.schedulers import PopulationBasedTraining
from ray.tune.search.sample import Domain

from raydistill.artifacts.manifest import PARTIAL, identity_of
from raydistill.artifacts.tensors import WHITENING
from raydistill.config import Config, Population, Range, Search, plain
from raydistill.errors import ArtifactCorrupt, ConfigError, DivergenceError
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill import artifact as distilled
from raydistill.stages.distill.report import publish
from raydistill.stages.distill.task import STATE, make_task
from raydistill.stages.distill.trainer import WRITTEN, Trainer, is_finished
from raydistill.stages.tune.recorder import METRIC, Trial, failed_result, final_result
from raydistill.stages.tune.space import recipe_of
from raydistill.storage import Folder, checked
from raydistill.tracking.tracker import Run

BEST_SET = "best"  # folder of the search: the distilled set of the best member
SCHEDULE = "schedule.json"  # beside a member's checkpoint: [[iteration, values from there on], ...]


# ---- in the driver ----


def domains(search: Search) -> dict[str, Any]:
    """Return the search space as Tune's domains."""
    return {key: _domain(values) for key, values in search.space.items() if isinstance(values, Range)}


def _domain(values: Range) -> Domain:
    if values.whole:
        draw = ray.tune.lograndint if values.log else ray.tune.randint
        return draw(int(values.low), int(values.high) + 1)
    return (ray.tune.loguniform if values.log else ray.tune.uniform)(values.low, values.high)


def scheduler(search: Search, population: Population) -> PopulationBasedTraining:
    """Return Tune's scheduler; perturbed values stay within the space."""

    def clip(drawn: dict[str, Any]) -> dict[str, Any]:
        ranges = {key: values for key, values in search.space.items() if isinstance(values, Range)}
        return {key: min(max(value, ranges[key].low), ranges[key].high) for key, value in drawn.items()}

    return PopulationBasedTraining(
        time_attr="iteration",
        perturbation_interval=population.every,
        quantile_fraction=population.share,
        hyperparam_mutations=domains(search),
        custom_explore_fn=clip,
    )


def num_checkpoints(config: Config, population: Population) -> int:
    """Return how many checkpoints of a member to keep: those of three rounds.

    Members that continue from one of them may have to wait for a worker.
    """
    return 3 * math.ceil(population.every / config.distill.validate_every) + 1


def publish_best(plan: Plan, best: Trial, curated: CuratedSet, run: Run) -> str:
    """Commit the best member's distilled set in the search's folder; return its URI."""
    search, member_folder = plan.search, plan.search.folder / PARTIAL / "members" / best.name
    recipe = recipe_of(plan.config, best.values)
    config = {"distill": plain(recipe), "schedule": best.schedule}
    parents = {name: spec.identity for name, spec in search.parents.items()}
    identity = identity_of(distilled.KIND, [config, search.identity], parents, search.seed)
    spec = ArtifactSpec(distilled.KIND, identity, search.folder / BEST_SET, search.seed, config, search.parents)
    if not is_finished(member_folder):
        fix = f"remove {search.folder}/{PARTIAL} and run the same command again"
        raise ArtifactCorrupt("the images of the best member are damaged", member_folder.uri, fix)
    for name in (*WRITTEN, *([WHITENING] if member_folder.exists(WHITENING) else [])):
        spec.folder.write(name, member_folder.read(name))
    publish(replace(plan.config, distill=recipe), spec, curated, run)
    spec.commit()
    return spec.folder.uri


# ---- in a trial ----


def population_member(drawn: dict[str, Any], plan: Plan, threads: int) -> None:
    """Distil with the drawn values, from the start or another member's checkpoint."""
    folder = plan.search.folder / PARTIAL / "members" / ray.tune.get_context().get_trial_id()
    schedule = _restore(folder)
    try:
        plan = plan.with_recipe(recipe_of(plan.config, drawn))
    except ConfigError as error:
        ray.tune.report({"iteration": 0} | failed_result(error))
        return
    curated = CuratedSet.open(plan.curated.folder, verify=False)
    trainer = Trainer(make_task(plan, curated, Run(), threads, folder))
    last_reported = trainer.distiller.iteration if schedule else -1
    if not schedule or schedule[-1][1] != drawn:
        schedule.append((trainer.distiller.iteration, drawn))
    report: dict[str, Any] = {"iteration": max(last_reported, 0), METRIC: 0.0, "schedule": json.dumps(schedule)}
    try:
        while not trainer.distiller.finished:
            newest = trainer.validations[-1]
            if newest.iteration > last_reported:
                last_reported = newest.iteration
                report |= {
                    "iteration": last_reported,
                    METRIC: newest.balanced_accuracy,
                    "validations": _validations_json(trainer),
                }
                trainer.save()
                _report(report, folder)
            trainer.step()
    except DivergenceError as error:
        ray.tune.report(report | failed_result(error))
        return
    trainer.write()
    ray.tune.report(report | {"validations": _validations_json(trainer)} | final_result(trainer.validations[-1]))


def _validations_json(trainer: Trainer) -> str:
    """Return all validations of the current images, also those by earlier members."""
    return json.dumps([(validation.iteration, validation.balanced_accuracy) for validation in trainer.validations])


def _restore(folder: Folder) -> list[tuple[int, Mapping[str, Any]]]:
    """Put the checkpoint from Tune into the member's folder, and return its schedule.

    Without an intact checkpoint, empty the folder.
    """
    checkpoint = ray.tune.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as directory:
            saved = Folder(directory)
            state, schedule = (checked.read(saved, name) for name in (Path(STATE).name, SCHEDULE))
        if state is not None and schedule is not None:
            checked.write(folder, STATE, state)
            return [(iteration, values) for iteration, values in json.loads(schedule)]
    folder.remove()
    return []


def _report(report: dict[str, Any], folder: Folder) -> None:
    """Report to Tune, with the member's checkpoint and its schedule."""
    with tempfile.TemporaryDirectory() as directory:
        saved = Folder(directory)
        checked.write(saved, Path(STATE).name, checked.require(folder, STATE))
        checked.write(saved, SCHEDULE, report["schedule"].encode())
        ray.tune.report(report, checkpoint=ray.tune.Checkpoint.from_directory(directory))
