"""simulate: render the simulated survey, in the layout of the public release.

    galaxy numbers -> [Ray tasks: truth, picture, votes]
        -> catalog.csv, truth.csv, filename_mapping.csv, images/*.jpg

Galaxy n depends on `fold_in(seed, "galaxy", n)` alone, so the number of workers does not change the
survey.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pyarrow as pa
import ray

from raydistill.errors import ConfigError
from raydistill.log import progress
from raydistill.pipeline.plan import Plan
from raydistill.runtime.failures import translate_errors
from raydistill.runtime.resources import choose_num_workers
from raydistill.runtime.stages import is_complete, stage_context, tracked_run
from raydistill.simulation.config import SimulatedSurvey
from raydistill.simulation.simulate import schema_of, simulate_chunk, write_survey
from raydistill.stages.simulate.artifact import Survey
from raydistill.storage import Folder, disk_errors
from raydistill.tracking.tracker import Tracker

CHUNK = 25  # galaxies per task: about a second of work


def simulate(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> Survey:
    """Write the simulated survey of the plan, or open the existing one.

    Raises
    ------
    ConfigError
        If the survey of the plan is not simulated.
    """
    config, survey, spec = plan.config, plan.config.survey, plan.survey
    if spec is None or not isinstance(survey, SimulatedSurvey):
        raise ConfigError(
            "this survey is not simulated", "survey", "use a config with survey.kind=simulated, like configs/demo.yaml"
        )
    if not is_complete(spec):
        with stage_context(plan), tracked_run(plan, spec, tracker, parent_run):
            renderers = replace(config.resources, cpus=1, gpus=0)
            workers = choose_num_workers(renderers, -(-survey.num_galaxies // CHUNK))
            with closing(_render(survey, config.seed, workers)) as tables:
                _write(spec.folder, tables, schema_of(survey))
    return Survey.open(spec.folder, verify=False)


def _render(survey: SimulatedSurvey, seed: int, workers: int) -> Generator[pa.Table, None, None]:
    """Yield chunks in order of galaxy numbers; at most two per worker are in flight."""
    task = ray.remote(num_cpus=1, max_retries=3)(simulate_chunk)
    starts = deque(range(0, survey.num_galaxies, CHUNK))
    pending: deque[Any] = deque()
    with progress(survey.num_galaxies, "simulating", "galaxies") as shown:
        while starts or pending:
            while starts and len(pending) < 2 * workers:
                start = starts.popleft()
                pending.append(task.remote(survey, seed, start, min(start + CHUNK, survey.num_galaxies)))
            with translate_errors("simulate"):
                table = ray.get(pending.popleft())
            shown.advance(len(table))
            yield table


def _write(folder: Folder, tables: Iterator[pa.Table], schema: pa.Schema) -> None:
    """Write the survey's files, to a remote folder by way of a temporary one."""
    if folder.is_local:
        with disk_errors(folder.uri):
            write_survey(folder.uri, tables, schema)
        return
    with tempfile.TemporaryDirectory() as scratch:
        write_survey(scratch, tables, schema)
        folder.put_tree(scratch)
