"""Population-based training: a search whose trials take over each other's images and change their values on the way.

A member reports every validation with its state, which is what another one goes on from, and with the values it has had so far.
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
import torch
from ray.tune.schedulers import PopulationBasedTraining
from ray.tune.search.sample import Domain

from raydistill.artifacts import distilled
from raydistill.artifacts.curated import CuratedSet
from raydistill.artifacts.manifest import PARTIAL, identity_of
from raydistill.artifacts.tensors import WHITENING
from raydistill.config import Config, Population, Range, Search, plain
from raydistill.errors import ConfigError, DivergenceError
from raydistill.pipeline.plan import ArtifactSpec, Plan
from raydistill.pipeline.tracking.tracker import Run
from raydistill.pipeline.trainer.checkpoint import STATE
from raydistill.pipeline.trainer.publish import publish
from raydistill.pipeline.trainer.task import make_task
from raydistill.pipeline.trainer.trainer import WRITTEN, Trainer
from raydistill.pipeline.tune.space import recipe_of
from raydistill.pipeline.tune.trials import METRIC, Trial, failed_result, final_result
from raydistill.storage import Folder

BEST_SET = "best"  # folder of the search: the distilled set of the best member
SCHEDULE = "schedule.json"  # beside a member's state: [[iteration, values from there on], ...]


def domains(search: Search) -> dict[str, Any]:
    """The space in Tune's words."""
    return {key: _domain(values) for key, values in search.space.items() if isinstance(values, Range)}


def _domain(values: Range) -> Domain:
    if values.whole:
        draw = ray.tune.lograndint if values.log else ray.tune.randint
        return draw(int(values.low), int(values.high) + 1)
    return (ray.tune.loguniform if values.log else ray.tune.uniform)(values.low, values.high)


def scheduler(search: Search, population: Population) -> PopulationBasedTraining:
    def inside(drawn: dict[str, Any]) -> dict[str, Any]:
        ends = {key: values for key, values in search.space.items() if isinstance(values, Range)}
        return {key: min(max(value, ends[key].low), ends[key].high) for key, value in drawn.items()}

    return PopulationBasedTraining(
        time_attr="iteration",
        perturbation_interval=population.every,
        quantile_fraction=population.share,
        hyperparam_mutations=domains(search),
        custom_explore_fn=inside,
    )


def num_checkpoints(config: Config, population: Population) -> int:
    """Checkpoints of a member that others may go on from, who perhaps wait for a worker first: those of three rounds."""
    return 3 * math.ceil(population.every / config.distill.validate_every) + 1


def population_member(drawn: dict[str, Any], plan: Plan, threads: int) -> None:
    """Distil with these values, from the start or from where another member was."""
    torch.set_num_threads(threads)
    folder = plan.search.folder / PARTIAL / "members" / ray.tune.get_context().get_trial_id()
    schedule = _begin(folder, drawn)
    try:
        plan = plan.with_recipe(recipe_of(plan.config, drawn))
    except ConfigError as error:
        ray.tune.report({"iteration": 0} | failed_result(error))
        return
    curated = CuratedSet.open(plan.curated.folder, verify=False)
    session = Trainer(make_task(plan, curated, Run(), threads, folder))
    heard = session.distiller.iteration if schedule else -1
    if not schedule or schedule[-1][1] != drawn:
        schedule.append((session.distiller.iteration, drawn))
    told: dict[str, Any] = {"iteration": max(heard, 0), METRIC: 0.0, "schedule": json.dumps(schedule)}
    try:
        while not session.distiller.finished:
            newest = session.validations[-1]
            if newest.iteration > heard:
                heard = newest.iteration
                told |= {"iteration": heard, METRIC: newest.balanced_accuracy, "validations": _so_far(session)}
                session.save()
                _report(told, folder)
            session.step()
    except DivergenceError as error:
        ray.tune.report(told | failed_result(error))
        return
    session.write()
    ray.tune.report(told | {"validations": _so_far(session)} | final_result(session.validations[-1]))


def _so_far(session: Trainer) -> str:
    """All validations of these images, those among them that another member has made before they were taken over."""
    return json.dumps([(validation.iteration, validation.balanced_accuracy) for validation in session.validations])


def _begin(folder: Folder, drawn: Mapping[str, Any]) -> list[tuple[int, Any]]:
    """Put the state to go on from in its place; the values that led there. Without a state nothing is left of an earlier start."""
    checkpoint = ray.tune.get_checkpoint()
    if checkpoint is None:
        folder.remove()
        return []
    with checkpoint.as_directory() as found:
        folder.write(STATE, (Path(found) / Path(STATE).name).read_bytes())
        return [(iteration, values) for iteration, values in json.loads((Path(found) / SCHEDULE).read_text())]


def _report(told: dict[str, Any], folder: Folder) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / Path(STATE).name).write_bytes(folder.read(STATE))
        (Path(scratch) / SCHEDULE).write_text(told["schedule"])
        ray.tune.report(told, checkpoint=ray.tune.Checkpoint.from_directory(scratch))


def publish_best(plan: Plan, best: Trial, curated: CuratedSet, run: Run) -> str:
    """Make the best member's distilled set an artifact of its own in the folder of the search; where it is."""
    search, found = plan.search, plan.search.folder / PARTIAL / "members" / best.name
    recipe = recipe_of(plan.config, best.values)
    config = {"distill": plain(recipe), "schedule": best.schedule}
    parents = {name: spec.identity for name, spec in search.parents.items()}
    identity = identity_of(distilled.KIND, [config, search.identity], parents, search.seed)
    spec = ArtifactSpec(distilled.KIND, identity, search.folder / BEST_SET, search.seed, config, search.parents)
    for name in (*WRITTEN, *([WHITENING] if found.exists(WHITENING) else [])):
        spec.folder.write(name, found.read(name))
    publish(replace(plan.config, distill=recipe), spec, curated, run)
    spec.commit()
    return spec.folder.uri
