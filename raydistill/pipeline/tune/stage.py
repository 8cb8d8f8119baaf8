"""tune: search the recipe whose images teach best; all trials match the same experts, and validation images judge.

    trial (an actor of Ray Tune)  a distilling session in the folder that `distill` gives its recipe; reports every validation
                                  (or a member of a population: `population`)
    driver                        Optuna proposes, ASHA ends the hopeless; MLflow has a child run per trial; table, best config, picture

A trial is a distilled set in the making: a lost one goes on from its saved state, and `raydistill distill best.yaml` finds the best one
there. What a trial reports is kept at once, and `Tuner.restore` goes on where a killed driver was: no finished trial is lost.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Callable, Generator, Iterable
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any, NamedTuple

import optuna
import pyarrow as pa
import pyarrow.parquet as pq
import ray.tune
import yaml
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search import BasicVariantGenerator, SearchAlgorithm, Searcher
from ray.tune.search.optuna import OptunaSearch

from raydistill.analysis.search import parallel_coordinates
from raydistill.artifacts.curated import CuratedSet
from raydistill.artifacts.manifest import PARTIAL
from raydistill.artifacts.search import BEST, TRIALS, TRIALS_SCHEMA, SearchReport
from raydistill.artifacts.tables import read_table
from raydistill.config import Config, Halving, Population, plain
from raydistill.errors import ClusterError, ConfigError, DivergenceError, RaydistillError
from raydistill.log import get_logger, progress
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.runtime.lease import AlreadyBuilt, hold_lease
from raydistill.pipeline.runtime.resources import choose_num_workers
from raydistill.pipeline.runtime.signals import preserve_sigint
from raydistill.pipeline.runtime.stages import is_complete, load_inputs, save_figure, stage_context, tracked_run
from raydistill.pipeline.tracking.tracker import Run, Tracker
from raydistill.pipeline.trainer.task import make_task
from raydistill.pipeline.trainer.trainer import is_finished
from raydistill.pipeline.trainer.validation import Validation
from raydistill.pipeline.trainer.worker_pool import run_trainer
from raydistill.pipeline.tune.population import domains, num_checkpoints, population_member, publish_best, scheduler
from raydistill.pipeline.tune.space import WHERE, check_space, decoded, distributions, longest, own_recipe, recipe_of
from raydistill.pipeline.tune.trials import (
    DIVERGED,
    FAILED,
    METRIC,
    NO_RECIPE,
    RUNNING,
    UNSUCCESSFUL,
    RecorderCallback,
    Trial,
    TrialRecorder,
    cpus_per_trial,
    failed_result,
    final_result,
    recording_trials,
)
from raydistill.storage import arrow_filesystem

log = get_logger(__name__)


def tune(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> SearchReport:
    """Search the plan's space of recipes, or open the report that exists."""
    config, spec = plan.config, plan.search
    if not is_complete(spec):
        check_space(config)
        curated = load_inputs(plan)
        with stage_context(plan), tracked_run(plan, spec, tracker, parent_run, curated) as run:
            with recording_trials(plan, tracker, run) as listener:
                _fit(plan, listener)
            _write(plan, listener, curated, run)
    return SearchReport.open(spec.folder)


def _fit(plan: Plan, listener: TrialRecorder) -> None:
    """All trials, to their ends."""
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # its banner would go to stdout
    # With its own handler, an interrupted search would seem to have ended.
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")  # tracebacks; the listener tells of them in a line
    logging.getLogger("ray.tune.utils.util").setLevel(logging.ERROR)  # warns of every half second that MLflow takes
    search, resources = plan.config.search, plan.config.resources
    threads = cpus_per_trial(resources)
    strategy = _strategy(plan.config, choose_num_workers(resources, search.trials, distill_cpus=threads))
    trainable: Any = ray.tune.with_parameters(strategy.trial, plan=plan.with_resolved_paths(), threads=threads)
    trainable = ray.tune.with_resources(trainable, {"CPU": threads, "GPU": resources.distill_gpus})
    system, storage = arrow_filesystem((plan.search.folder / PARTIAL).uri)
    if ray.tune.Tuner.can_restore(f"{storage}/tune", system):
        log.info("tune: goes on with the trials that were under way")
        tuner = ray.tune.Tuner.restore(
            f"{storage}/tune", trainable, resume_unfinished=True, restart_errored=True, storage_filesystem=system
        )
    else:
        listener.forget()  # a search that was killed before Tune had written of it; its distilled sets stay
        tuner = ray.tune.Tuner(
            trainable,
            param_space=strategy.param_space,
            tune_config=ray.tune.TuneConfig(
                metric=METRIC,
                mode="max",
                num_samples=search.trials,
                max_concurrent_trials=strategy.max_concurrent,
                search_alg=strategy.search_alg,
                scheduler=strategy.scheduler,
                reuse_actors=True,  # a worker is some seconds in starting
            ),
            run_config=ray.tune.RunConfig(
                name="tune",
                storage_path=storage,
                storage_filesystem=system,
                verbose=0,
                callbacks=[RecorderCallback(plan.search.identity)],
                failure_config=ray.tune.FailureConfig(max_failures=resources.max_restarts),
                checkpoint_config=ray.tune.CheckpointConfig(num_to_keep=strategy.checkpoints),
            ),
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with (
        progress(search.trials, "searching", "trials", start=listener.ended) as listener.shown,
        preserve_sigint(),
        warnings.catch_warnings(action="ignore", category=UserWarning),  # Optuna's, of what a resumed trial tells again
    ):
        tuner.fit()
    listener.tell_of_earlier()
    missing = search.trials - listener.ended
    if missing > 0:
        raise ClusterError(
            f"{missing} of {search.trials} trials did not end",
            "tune",
            "run the same command again; the others are kept",
        )


# ---- what Tune is given ----


class _Strategy(NamedTuple):
    """Who proposes recipes, who ends them or sends them on, and what a trial is."""

    trial: Callable[..., None]
    param_space: dict[str, Any] | None
    search_alg: Searcher | SearchAlgorithm
    scheduler: TrialScheduler | None
    max_concurrent: int | None
    checkpoints: int | None  # of each trial to keep


def _strategy(config: Config, workers: int) -> _Strategy:
    search = config.search
    if isinstance(search.stopping, Population):
        begins = BasicVariantGenerator(random_state=search.seed)  # all at once: who has no worker waits for its turn
        return _Strategy(
            population_member,
            domains(search),
            begins,
            scheduler(search, search.stopping),
            None,
            num_checkpoints(config, search.stopping),
        )
    return _Strategy(_trial, None, _sampler(config), _stopping(config), workers, None)


def _sampler(config: Config) -> OptunaSearch:
    search = config.search
    samplers: dict[str, Any] = {
        "tpe": lambda: optuna.samplers.TPESampler(seed=search.seed, constant_liar=True),
        "random": lambda: optuna.samplers.RandomSampler(seed=search.seed),
    }
    own = own_recipe(config)
    if own is None:
        log.warning("tune: the config's own recipe lies outside %s, so it is not among the trials", WHERE)
    points = None if own is None else [own]
    return OptunaSearch(
        distributions(search), metric=METRIC, mode="max", sampler=samplers[search.sampler](), points_to_evaluate=points
    )


def _stopping(config: Config) -> ASHAScheduler | None:
    stopping = config.search.stopping
    if not isinstance(stopping, Halving):
        return None
    return ASHAScheduler(
        time_attr="iteration",
        max_t=max(longest(config), stopping.grace),
        grace_period=stopping.grace,
        reduction_factor=stopping.reduction,
    )


# ---- in a trial ----


def _trial(drawn: dict[str, Any], plan: Plan, threads: int) -> None:
    """Distil with these values; report each validation, and how it ended."""
    told = {"iteration": 0, METRIC: 0.0}
    newest = None
    try:
        recipe = recipe_of(plan.config, decoded(plan.config.search, drawn))
        # Closed, so that a trial that is ended early signs no longer.
        with closing(_validations(plan.with_recipe(recipe), threads)) as heard:
            for newest in heard:
                # After the last one it has its files to write: see `last_word`.
                if newest.iteration < recipe.iterations:
                    told = {"iteration": newest.iteration, METRIC: newest.balanced_accuracy}
                    ray.tune.report(told)
    except (DivergenceError, ConfigError) as error:
        ray.tune.report(told | failed_result(error))
        return
    assert newest is not None  # images are judged before the first iteration
    ray.tune.report(told | final_result(newest))


def _validations(plan: Plan, threads: int) -> Generator[Validation, None, None]:
    """In the folder of the distilled set, whose maker a trial is until it reports no more."""
    spec = plan.distilled
    with suppress(AlreadyBuilt), hold_lease(spec):
        if not is_finished(spec.folder):
            curated = CuratedSet.open(plan.curated.folder, verify=False)
            for news in run_trainer(make_task(plan, curated, Run(), threads)):
                yield from news.validations
            return
    for row in read_table(spec.folder, "validation.parquet").to_pylist():
        yield Validation(**row)


# ---- what is left of it ----


def _write(plan: Plan, listener: TrialRecorder, curated: CuratedSet, run: Run) -> None:
    """The table, the best recipe as a config, and a picture of what was tried."""
    spec, search = plan.search, plan.config.search
    trials = ranked(trial for trial in listener.trials.values() if trial.status != RUNNING)
    if all(trial.status in UNSUCCESSFUL for trial in trials):
        raise _nothing_found(trials)
    if isinstance(search.stopping, Population):
        trials[0].folder = publish_best(plan, trials[0], curated, run)
    with spec.folder.writing(TRIALS) as path:
        pq.write_table(pa.Table.from_pylist([_row(trial) for trial in trials], TRIALS_SCHEMA), path)
    spec.folder.write(BEST, _best_config(plan, trials[0]).encode())
    run.artifact(spec.folder.local(BEST))
    run.metrics({f"best/{METRIC}": trials[0].best[0]}, 0)
    shown = [(trial.values, trial.best[0]) for trial in trials if trial.status not in UNSUCCESSFUL]
    title = f"{plan.config.name}: {len(trials)} recipes, balanced accuracy on validation images"
    save_figure(spec, run, "parallel.png", lambda path: parallel_coordinates(path, shown, distributions(search), title))


def ranked(trials: Iterable[Trial]) -> list[Trial]:
    """The best first. What a recipe was worth before it diverged is no merit of it."""
    return sorted(trials, key=lambda trial: (trial.status in UNSUCCESSFUL, -trial.best[0], trial.name))


def _nothing_found(trials: list[Trial]) -> RaydistillError:
    """Of one trial; first of what the cluster did to it, which may be over when the search goes on."""
    narrow = f"narrow {WHERE}"
    kinds: dict[str, tuple[type[RaydistillError], str]] = {
        FAILED: (ClusterError, "run the same command again; it tries them anew"),
        DIVERGED: (DivergenceError, narrow),
        NO_RECIPE: (ConfigError, narrow),
    }
    one = min(trials, key=lambda trial: list(kinds).index(trial.status))
    kind, fix = kinds[one.status]
    return kind(f"none of {len(trials)} trials came to an end; one of them: {one.said}", "tune", fix)


def _row(trial: Trial) -> dict[str, Any]:
    best, iteration = trial.best
    last = trial.validations[-1] if trial.validations else (0, 0.0)
    return {
        "trial": trial.name, "values": json.dumps(trial.values), "best": best, "best_iteration": iteration,
        "last": last[1], "iterations": last[0], "status": trial.status, "said": trial.said, "folder": trial.folder,
        "schedule": json.dumps(trial.schedule) if trial.schedule else None,
    }  # fmt: skip


def _best_config(plan: Plan, best: Trial) -> str:
    config = plain(replace(plan.config, distill=recipe_of(plan.config, best.values)))
    del config["search"]
    if best.schedule:  # no recipe would make it again
        config["distilled"] = best.folder
    head = f"# {plan.config.name}: the best of {plan.config.search.trials} recipes of a search, {best.best[0]:.3f} on validation images.\n"
    return (
        head + f"# command:  raydistill run {plan.search.folder.uri}/{BEST}\n" + yaml.safe_dump(config, sort_keys=False)
    )
