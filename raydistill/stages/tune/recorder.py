"""The recorder of a search: the driver stores trials' reports in files and MLflow."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import ray.tune

from raydistill.artifacts.manifest import PARTIAL
from raydistill.config import Population, Resources, plain
from raydistill.errors import ConfigError, DivergenceError, RaydistillError
from raydistill.log import Progress, get_logger
from raydistill.pipeline.plan import Plan
from raydistill.runtime.failures import one_line
from raydistill.runtime.resources import CAPACITY_CHECK_INTERVAL, ensure_schedulable
from raydistill.stages.distill.task import Validation
from raydistill.stages.tune.artifact import format_values
from raydistill.stages.tune.space import decode, recipe_of
from raydistill.storage import checked
from raydistill.tracking.formatting import search_tags
from raydistill.tracking.tracker import Run, Tracker

log = get_logger(__name__)

SHARED_TAGS = ("config", "survey", "network", "seed")  # tags for searches that no recipe changes


class TrialRecorder:
    """Store each report of a trial at once; finished trials outlive the driver."""

    def __init__(self, plan: Plan, tracker: Tracker, run: Run) -> None:
        self.plan, self.tracker, self.run = plan, tracker, run
        self.folder = plan.search.folder / PARTIAL / "trials"
        self.shown: Progress | None = None
        self._open_runs: dict[str, tuple[ExitStack, Run]] = {}
        self._tracked: set[str] = set()  # trials that have a run in MLflow
        self._last_running = time.monotonic()
        files = self.folder.files()
        self.trials = {trial.name: trial for trial in map(self._load, files) if trial is not None}
        self.damaged = len(self.trials) < len(files)

    def clear(self) -> None:
        """Forget all trials, in files too."""
        self.trials.clear()
        self.folder.remove()

    @property
    def num_ended(self) -> int:
        return sum(trial.status != RUNNING for trial in self.trials.values())

    def on_start(self, name: str, drawn: dict[str, Any]) -> None:
        """Record that a trial starts, or that a member of a population continues."""
        if name in self._open_runs:
            return
        if name not in self.trials or self.trials[name].status != FINISHED:
            values = decode(self.plan.config.search, drawn)
            self.trials[name] = Trial(name, values, self._distilled_folder(values))
        # else: the driver died before Tune recorded the end. The trial stays finished.
        self._open_run(self.trials[name])

    def on_result(self, name: str, result: Mapping[str, Any]) -> None:
        """Record a report; a restarted trial repeats earlier ones, which count once."""
        trial = self.trials[name]
        if trial.status != FINISHED:
            trial.status, trial.said = result.get("ended", RUNNING), result.get("said", "")
        if "schedule" in result:
            trial.schedule = json.loads(result["schedule"])
            trial.values = trial.schedule[-1][1]
        iteration = result.get("last_iteration", result["iteration"])
        if iteration not in [recorded for recorded, _ in trial.validations]:
            trial.validations.append((iteration, result[METRIC]))
            self._open_runs[name][1].metrics({f"validation/{METRIC}": result[METRIC]}, iteration)
        if "validations" in result:
            trial.validations = [(recorded, value) for recorded, value in json.loads(result["validations"])]
        self._store(trial)

    def on_end(self, name: str, status: str, said: str = "") -> None:
        """Record the end of a trial.

        Status and message count unless the trial has reported its own.
        """
        trial = self.trials[name]
        if trial.status == RUNNING:
            trial.status, trial.said = status, said
        self._store(trial)
        self._close_run(trial)
        best = max(t.best[0] for t in self.trials.values())
        self.run.metrics({"best": best}, self.num_ended)
        log.info("tune: trial %s %s, %.3f: %s", name, trial.status, trial.best[0], format_values(trial.values))
        if self.shown:
            self.shown.update(self.num_ended, best=best)

    def track_earlier_trials(self) -> None:
        """Record in MLflow the trials that ended before the search was resumed."""
        for trial in self.trials.values():
            # A running one is skipped: the driver died before Tune recorded it, and Tune does not
            # resume it.
            if trial.name not in self._tracked and trial.status != RUNNING:
                self._open_run(trial)
                self._close_run(trial)

    def check_capacity(self, any_running: bool) -> None:
        """Raise ClusterError if no trial has run for some time and no node can run one.

        Tune would wait without end.
        """
        if any_running:
            self._last_running = time.monotonic()
        elif time.monotonic() - self._last_running > CAPACITY_CHECK_INTERVAL:
            resources = self.plan.config.resources
            ensure_schedulable(resources, cpus_per_trial(resources))
            self._last_running = time.monotonic()

    def close(self, error: BaseException) -> None:
        """End the MLflow runs of trials in progress, with an error."""
        for stack, _ in self._open_runs.values():
            _exit(stack, error)

    def _open_run(self, trial: Trial) -> None:
        """Open the trial's run in MLflow, with what the trial has reported so far."""
        stack = ExitStack()
        run = stack.enter_context(
            self.tracker.run(
                "trial",
                identity=f"{self.plan.search.identity}-{trial.name}",
                params={"distill": trial.values},
                parent_run_id=self.run.id,
                name=f"trial {self.plan.config.name} {trial.name}",
            )
        )
        of_search = search_tags(plain(self.plan.config))
        run.tags({name: of_search[name] for name in SHARED_TAGS if name in of_search})
        self._open_runs[trial.name] = (stack, run)
        self._tracked.add(trial.name)
        for iteration, value in trial.validations:
            run.metrics({f"validation/{METRIC}": value}, iteration)

    def _close_run(self, trial: Trial) -> None:
        stack, run = self._open_runs.pop(trial.name)
        run.tags({"raydistill.ended": trial.status})
        run.metrics({"best": trial.best[0]}, trial.best[1])
        if trial.status in UNSUCCESSFUL:
            _exit(stack, RaydistillError(trial.said))
        else:
            stack.close()

    def _distilled_folder(self, values: Mapping[str, Any]) -> str:
        """Return the folder of the trial's distilled set.

        It is empty for an invalid recipe and for a member of a population.
        """
        if not isinstance(self.plan.config.search.stopping, Population):
            with suppress(ConfigError):  # reported by the trial itself
                return self.plan.with_recipe(recipe_of(self.plan.config, values)).distilled.folder.uri
        return ""

    def _load(self, name: str) -> Trial | None:
        data = checked.read(self.folder, name)
        return None if data is None else Trial(**json.loads(data))

    def _store(self, trial: Trial) -> None:
        checked.write(self.folder, f"{trial.name}.json", json.dumps(asdict(trial)).encode())


def _exit(stack: ExitStack, error: BaseException) -> None:
    """Leave the contexts with an error, as if it had been raised inside."""
    with suppress(type(error)):
        stack.__exit__(type(error), error, error.__traceback__)


_recorders: dict[str, TrialRecorder] = {}  # by identity of the search


@contextmanager
def recording_trials(plan: Plan, tracker: Tracker, run: Run) -> Iterator[TrialRecorder]:
    """Provide the recorder of a search, which gets everything from `RecorderCallback`."""
    recorder = _recorders[plan.search.identity] = TrialRecorder(plan, tracker, run)
    try:
        yield recorder
    except BaseException as error:
        recorder.close(error)
        raise
    finally:
        del _recorders[plan.search.identity]


class RecorderCallback(ray.tune.Callback):
    """Pass Tune's events on to a recorder.

    Tune pickles its callbacks, so this one holds only the identity of the search.
    """

    def __init__(self, search: str) -> None:
        self.search = search

    @property
    def _recorder(self) -> TrialRecorder:
        return _recorders[self.search]

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._recorder.check_capacity(any(trial.status == ray.tune.experiment.Trial.RUNNING for trial in trials))

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._recorder.on_start(trial.trial_id, trial.config)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._recorder.on_result(trial.trial_id, result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._recorder.on_end(trial.trial_id, STOPPED)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        log.warning("tune: the worker of trial %s died; another one resumes it (%s)", trial.trial_id, _error_of(trial))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._recorder.on_start(trial.trial_id, trial.config)  # a trial whose worker never started is not recorded yet
        self._recorder.on_end(trial.trial_id, FAILED, _error_of(trial))


def _error_of(trial: Any) -> str:
    return one_line(trial.get_error() or RuntimeError("Ray Tune gives no cause"))


# The result of a trial: its status, its validations and its last report.

METRIC = "balanced_accuracy"
RUNNING, FINISHED, STOPPED = "running", "finished", "stopped early"
DIVERGED, NO_RECIPE, FAILED = "diverged", "no recipe", "failed"
UNSUCCESSFUL = (DIVERGED, NO_RECIPE, FAILED)


def cpus_per_trial(resources: Resources) -> int:
    """Return the CPUs of a trial, which are also its threads."""
    return resources.distill_cpus or 1


def final_result(validation: Validation) -> dict[str, Any]:
    """Return the metrics that a finished trial adds to its last report.

    The last iteration is not called `iteration`: there the scheduler would stop the trial or
    exploit it, and its files would be lost.
    """
    return {METRIC: validation.balanced_accuracy, "last_iteration": validation.iteration, "ended": FINISHED}


def failed_result(error: DivergenceError | ConfigError) -> dict[str, Any]:
    """Return metrics and error of a trial that diverged or has an invalid recipe."""
    status = DIVERGED if isinstance(error, DivergenceError) else NO_RECIPE
    return {METRIC: 0.0, "ended": status, "said": str(error)}


@dataclass
class Trial:
    """The reports of a trial.

    Parameters
    ----------
    name
        Tune's id of the trial.
    values
        The drawn values, by key of `distill`.
    folder
        URI of its distilled set; empty if it has none.
    status
        One of the constants of this module.
    said
        The error of an unsuccessful trial.
    validations
        (iteration, balanced accuracy). A member of a population has those of its current images,
        even if another member distilled them.
    schedule
        (iteration, the values from there on), for a member of a population.
    """

    name: str
    values: dict[str, Any]
    folder: str
    status: str = RUNNING
    said: str = ""
    validations: list[tuple[int, float]] = field(default_factory=list)
    schedule: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    @property
    def best(self) -> tuple[float, int]:
        """Balanced accuracy and iteration of the best images; in a tie the first."""
        return max(
            ((value, iteration) for iteration, value in self.validations),
            key=lambda pair: (pair[0], -pair[1]),
            default=(0.0, 0),
        )
