"""The files of a search: `trials.parquet`, `best.yaml` and the figure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.config import Population, plain
from raydistill.errors import ClusterError, ConfigError, DivergenceError, RaydistillError
from raydistill.escaping import for_config
from raydistill.pipeline.plan import Plan
from raydistill.runtime.stages import save_figure
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.tune.artifact import BEST, TRIALS, TRIALS_SCHEMA
from raydistill.stages.tune.figures import parallel_coordinates
from raydistill.stages.tune.population import publish_best
from raydistill.stages.tune.space import WHERE, distributions, recipe_of
from raydistill.stages.tune.trials import DIVERGED, FAILED, METRIC, NO_RECIPE, RUNNING, UNSUCCESSFUL, Trial
from raydistill.tracking.tracker import Run


def write_report(plan: Plan, trials: Iterable[Trial], curated: CuratedSet, run: Run) -> None:
    """Write the table of trials, the best recipe as a config, and a figure of values."""
    spec, search = plan.search, plan.config.search
    ranking = rank(trial for trial in trials if trial.status != RUNNING)
    if all(trial.status in UNSUCCESSFUL for trial in ranking):
        raise no_success_error(ranking)
    best = ranking[0]
    if isinstance(search.stopping, Population):
        best.folder = publish_best(plan, best, curated, run)
    with spec.folder.writing(TRIALS) as path:
        pq.write_table(pa.Table.from_pylist([_row(trial) for trial in ranking], TRIALS_SCHEMA), path)
    spec.folder.write(BEST, _best_config(plan, best).encode())
    run.artifact(spec.folder.local(BEST))
    run.metrics({f"best/{METRIC}": best.best[0]}, 0)
    points = [(trial.values, trial.best[0]) for trial in ranking if trial.status not in UNSUCCESSFUL]
    title = f"{plan.config.name}: {len(ranking)} recipes, balanced accuracy on validation images"
    save_figure(
        spec, run, "parallel.png", lambda path: parallel_coordinates(path, points, distributions(search), title)
    )


def rank(trials: Iterable[Trial]) -> list[Trial]:
    """Return the trials, best first; unsuccessful ones come last at any accuracy."""
    return sorted(trials, key=lambda trial: (trial.status in UNSUCCESSFUL, -trial.best[0], trial.name))


def no_success_error(trials: list[Trial]) -> RaydistillError:
    """Return the error of a search without a successful trial, for one example.

    A failure of the cluster is named first: running the command again may succeed.
    """
    narrow = f"narrow {WHERE}"
    kinds: dict[str, tuple[type[RaydistillError], str]] = {
        FAILED: (ClusterError, "run the same command again to repeat the failed trials"),
        DIVERGED: (DivergenceError, narrow),
        NO_RECIPE: (ConfigError, narrow),
    }
    example = min(trials, key=lambda trial: list(kinds).index(trial.status))
    kind, fix = kinds[example.status]
    return kind(f"none of {len(trials)} trials succeeded; one of them: {example.said}", "tune", fix)


def _row(trial: Trial) -> dict[str, Any]:
    best, iteration = trial.best
    last = trial.validations[-1] if trial.validations else (0, 0.0)
    return {
        "trial": trial.name, "values": json.dumps(trial.values), "best": best, "best_iteration": iteration,
        "last": last[1], "iterations": last[0], "status": trial.status, "said": trial.said, "folder": trial.folder,
        "schedule": json.dumps(trial.schedule) if trial.schedule else None,
    }  # fmt: skip


def _best_config(plan: Plan, best: Trial) -> str:
    """Return `best.yaml`: the whole config with the best recipe, and how to run it."""
    config = plain(replace(plan.config, distill=recipe_of(plan.config, best.values)))
    del config["search"]
    if best.schedule:  # the values changed on the way, so no recipe reproduces the set
        config["distilled"] = best.folder
    head = f"# {plan.config.name}: the best of {plan.config.search.trials} recipes of a search, {best.best[0]:.3f} on validation images.\n"
    command = f"# command:  raydistill run {plan.search.folder.uri}/{BEST}\n"
    return head + command + for_config(config)
