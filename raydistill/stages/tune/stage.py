"""tune: search the distillation recipe with Ray Tune.

Validation images select the best recipe. All trials use the same experts.

    trial (an actor of Ray Tune)
        runs a trainer in the folder that `distill` would use for its recipe; reports each validation
        (or is a member of a population: `population`)
    driver
        Optuna proposes recipes, ASHA stops the weakest; MLflow has a child run per trial

A trial is a distilled set in progress: after the death of a worker it resumes from its checkpoint,
and `raydistill distill best.yaml` finds the best set there. Reports are stored at once, and
`Tuner.restore` resumes a search whose driver died: no finished trial is lost.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from typing import Any, NamedTuple

import optuna
import ray.tune
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search import BasicVariantGenerator, SearchAlgorithm, Searcher
from ray.tune.search.optuna import OptunaSearch

from raydistill.artifacts.manifest import PARTIAL, open_manifest
from raydistill.artifacts.tables import read_table
from raydistill.config import Config, Halving, Population
from raydistill.errors import ClusterError, ConfigError, DivergenceError
from raydistill.log import get_logger, progress
from raydistill.pipeline.plan import Plan
from raydistill.runtime.lease import AlreadyBuilt, hold_lease
from raydistill.runtime.resources import choose_num_workers
from raydistill.runtime.signals import preserve_sigint
from raydistill.runtime.stages import is_complete, load_inputs, stage_context, tracked_run
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill.stage import run_trainer
from raydistill.stages.distill.task import Validation, make_task
from raydistill.stages.distill.trainer import is_finished
from raydistill.stages.tune.artifact import SearchReport
from raydistill.stages.tune.population import domains, num_checkpoints, population_member, scheduler
from raydistill.stages.tune.recorder import (
    METRIC,
    RecorderCallback,
    TrialRecorder,
    cpus_per_trial,
    failed_result,
    final_result,
    recording_trials,
)
from raydistill.stages.tune.report import write_report
from raydistill.stages.tune.space import (
    WHERE,
    check_space,
    decode,
    distributions,
    max_iterations,
    own_recipe,
    recipe_of,
)
from raydistill.storage import arrow_filesystem
from raydistill.tracking.tracker import Run, Tracker

log = get_logger(__name__)


def tune(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> SearchReport:
    """Search the plan's space of recipes, or open the existing report.

    Raises
    ------
    ConfigError
        If the space is empty or holds an invalid recipe.
    ClusterError
        If trials did not finish; the command can be run again.
    """
    config, spec = plan.config, plan.search
    if not is_complete(spec):
        check_space(config)
        curated = load_inputs(plan)
        with stage_context(plan), tracked_run(plan, spec, tracker, parent_run, curated) as run:
            with recording_trials(plan, tracker, run) as recorder:
                _run_trials(plan, recorder)
            write_report(plan, recorder.trials.values(), curated, run)
    return SearchReport.open(spec.folder)


def _run_trials(plan: Plan, recorder: TrialRecorder) -> None:
    """Run all trials to their ends, or resume those of a search whose driver died."""
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # its banner would go to stdout
    # With Tune's own handler, an interrupted search would look finished.
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")  # tracebacks; the recorder logs one line
    logging.getLogger("ray.tune.utils.util").setLevel(logging.ERROR)  # warns of every half second spent in MLflow
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search, tuner = plan.config.search, _make_tuner(plan, recorder)
    with (
        progress(search.trials, "searching", "trials", start=recorder.num_ended) as recorder.shown,
        preserve_sigint(),
        warnings.catch_warnings(action="ignore", category=UserWarning),  # Optuna's, of repeated reports
    ):
        tuner.fit()
    recorder.track_earlier_trials()
    missing = search.trials - recorder.num_ended
    if missing > 0:
        raise ClusterError(
            f"{missing} of {search.trials} trials did not finish",
            "tune",
            "run the same command again; the finished trials are kept",
        )


# ---- set up Tune ----


def _make_tuner(plan: Plan, recorder: TrialRecorder) -> ray.tune.Tuner:
    search, resources = plan.config.search, plan.config.resources
    threads = cpus_per_trial(resources)
    strategy = _strategy(plan.config, choose_num_workers(resources, search.trials, distill_cpus=threads))
    trainable: Any = ray.tune.with_parameters(strategy.trial, plan=plan.with_resolved_paths(), threads=threads)
    trainable = ray.tune.with_resources(trainable, {"CPU": threads, "GPU": resources.distill_gpus})
    system, storage = arrow_filesystem((plan.search.folder / PARTIAL).uri)
    if ray.tune.Tuner.can_restore(f"{storage}/tune", system) and not recorder.damaged:
        log.info("tune: resumes the unfinished trials")
        return ray.tune.Tuner.restore(
            f"{storage}/tune", trainable, resume_unfinished=True, restart_errored=True, storage_filesystem=system
        )
    # The search died before Tune's first snapshot, or a trial's file is damaged. Distilled sets stay.
    recorder.clear()
    plan.search.folder.remove(f"{PARTIAL}/tune")
    return ray.tune.Tuner(
        trainable,
        param_space=strategy.param_space,
        tune_config=ray.tune.TuneConfig(
            metric=METRIC,
            mode="max",
            num_samples=search.trials,
            max_concurrent_trials=strategy.max_concurrent,
            search_alg=strategy.search_alg,
            scheduler=strategy.scheduler,
            reuse_actors=True,  # starting a worker takes seconds
        ),
        run_config=ray.tune.RunConfig(
            name="tune",
            storage_path=storage,
            storage_filesystem=system,
            verbose=0,
            callbacks=[RecorderCallback(plan.search.identity)],
            failure_config=ray.tune.FailureConfig(max_failures=resources.max_restarts),
            checkpoint_config=ray.tune.CheckpointConfig(num_to_keep=strategy.num_checkpoints),
        ),
    )


class _Strategy(NamedTuple):
    """How recipes are proposed and trials stopped, and the function of a trial."""

    trial: Callable[..., None]
    param_space: dict[str, Any] | None
    search_alg: Searcher | SearchAlgorithm
    scheduler: TrialScheduler | None
    max_concurrent: int | None
    num_checkpoints: int | None  # to keep of each trial


def _strategy(config: Config, workers: int) -> _Strategy:
    search = config.search
    if isinstance(search.stopping, Population):
        return _Strategy(
            population_member,
            domains(search),
            BasicVariantGenerator(random_state=search.seed % 2**32),
            scheduler(search, search.stopping),
            None,  # all members start at once; those without a worker queue
            num_checkpoints(config, search.stopping),
        )
    return _Strategy(run_trial, None, _sampler(config), halving_scheduler(config), workers, None)


def _sampler(config: Config) -> OptunaSearch:
    search = config.search
    samplers: dict[str, Any] = {
        "tpe": lambda: optuna.samplers.TPESampler(seed=search.seed % 2**32, constant_liar=True),
        "random": lambda: optuna.samplers.RandomSampler(seed=search.seed % 2**32),
    }
    recipe = own_recipe(config)
    if recipe is None:
        log.warning("tune: the config's own recipe lies outside %s, so it is not among the trials", WHERE)
    points = None if recipe is None else [recipe]
    return OptunaSearch(
        distributions(search), metric=METRIC, mode="max", sampler=samplers[search.sampler](), points_to_evaluate=points
    )


def halving_scheduler(config: Config) -> ASHAScheduler | None:
    """Return the scheduler that stops weak trials early; None without `Halving`."""
    stopping = config.search.stopping
    if not isinstance(stopping, Halving):
        return None
    return ASHAScheduler(
        time_attr="iteration",
        max_t=max(max_iterations(config), stopping.grace),
        grace_period=stopping.grace,
        reduction_factor=stopping.reduction,
    )


# ---- in a trial ----


def run_trial(drawn: dict[str, Any], plan: Plan, threads: int) -> None:
    """Distil with the drawn values; report each validation, and how the trial ended."""
    report = {"iteration": 0, METRIC: 0.0}
    newest = None
    try:
        recipe = recipe_of(plan.config, decode(plan.config.search, drawn))
        # Closing the generator releases the lease of a trial that is stopped early.
        with closing(trial_validations(plan.with_recipe(recipe), threads)) as validations:
            for newest in validations:
                # The last one is reported after its files are written: see `final_result`.
                if newest.iteration < recipe.iterations:
                    report = {"iteration": newest.iteration, METRIC: newest.balanced_accuracy}
                    ray.tune.report(report)
    except (DivergenceError, ConfigError) as error:
        ray.tune.report(report | failed_result(error))
        return
    assert newest is not None  # the initial images are validated
    ray.tune.report(report | final_result(newest))


def trial_validations(plan: Plan, threads: int) -> Generator[Validation, None, None]:
    """Distil in the artifact's folder, with its lease, and yield validations.

    The validations of a finished set are read from its verified file.
    """
    spec = plan.distilled
    with suppress(AlreadyBuilt), hold_lease(spec):
        if not is_finished(spec.folder):
            curated = CuratedSet.open(plan.curated.folder, verify=False)
            for update in run_trainer(make_task(plan, curated, Run(), threads)):
                yield from update.validations
            return
    if spec.exists:
        open_manifest(spec.folder, spec.kind)
    for row in read_table(spec.folder, "validation.parquet").to_pylist():
        yield Validation(**row)
