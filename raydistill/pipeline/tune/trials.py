"""What the trials of a search report, kept by the driver in files and told to MLflow."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import ray.tune

from raydistill.artifacts.manifest import PARTIAL
from raydistill.artifacts.search import format_values
from raydistill.config import Population, Resources
from raydistill.errors import ConfigError, DivergenceError, RaydistillError
from raydistill.log import Progress, get_logger
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.runtime.failures import one_line
from raydistill.pipeline.runtime.resources import CAPACITY_CHECK_INTERVAL, ensure_schedulable
from raydistill.pipeline.tracking.tracker import Run, Tracker
from raydistill.pipeline.trainer.validation import Validation
from raydistill.pipeline.tune.space import decoded, recipe_of

log = get_logger(__name__)

METRIC = "balanced_accuracy"
RUNNING, FINISHED, STOPPED = "running", "finished", "stopped early"
DIVERGED, NO_RECIPE, FAILED = "diverged", "no recipe", "failed"
UNSUCCESSFUL = (DIVERGED, NO_RECIPE, FAILED)


def cpus_per_trial(resources: Resources) -> int:
    """CPUs of a trial, which distils on as many threads."""
    return resources.distill_cpus or 1


def final_result(validation: Validation) -> dict[str, Any]:
    """What a trial that has finished adds to its last report. Its last validation comes under another name than `iteration`, for a
    scheduler would end the trial there, or send it on with other images, and its files be written in vain."""
    return {METRIC: validation.balanced_accuracy, "last_iteration": validation.iteration, "ended": FINISHED}


def failed_result(error: DivergenceError | ConfigError) -> dict[str, Any]:
    """What a trial adds that has diverged, or whose values do not go together. To the sampler it is worth nothing: an image that was good
    before would not have stayed so."""
    status = DIVERGED if isinstance(error, DivergenceError) else NO_RECIPE
    return {METRIC: 0.0, "ended": status, "said": str(error)}


@dataclass
class Trial:
    """What a trial has reported. validations: iteration and balanced accuracy, of a member of a population those of its present images,
    whoever made them. schedule: of such a member, from which iteration on it had which values."""

    name: str
    values: dict[str, Any]
    folder: str
    status: str = RUNNING
    said: str = ""
    validations: list[tuple[int, float]] = field(default_factory=list)
    schedule: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    @property
    def best(self) -> tuple[float, int]:
        """Balanced accuracy and iteration of the best images; of equals, the first."""
        return max(
            ((value, iteration) for iteration, value in self.validations),
            key=lambda pair: (pair[0], -pair[1]),
            default=(0.0, 0),
        )


class TrialRecorder:
    """Keeps what trials report, in files and in MLflow."""

    def __init__(self, plan: Plan, tracker: Tracker, run: Run) -> None:
        self.plan, self.tracker, self.run = plan, tracker, run
        self.folder = plan.search.folder / PARTIAL / "trials"
        self.shown: Progress | None = None
        self._open: dict[str, tuple[ExitStack, Run]] = {}
        self._begun: set[str] = set()
        self._looked = time.monotonic()
        self.trials = {trial.name: trial for trial in map(self._kept, self.folder.files()) if trial is not None}

    def forget(self) -> None:
        self.trials.clear()
        self.folder.remove()

    @property
    def ended(self) -> int:
        return sum(trial.status != RUNNING for trial in self.trials.values())

    def begin(self, name: str, drawn: dict[str, Any]) -> None:
        """A trial is started, or a member of a population goes on, perhaps with other values."""
        if name in self._open:
            return
        if name in self.trials and self.trials[name].status == FINISHED:
            # The driver was killed before Tune had noted it. It stays finished, whatever a scheduler now makes of what it tells again.
            self._begin_run(self.trials[name])
            return
        values = decoded(self.plan.config.search, drawn)
        self.trials[name] = Trial(name, values, self._folder(values))
        self._begin_run(self.trials[name])

    def tell_of_earlier(self) -> None:
        """Of trials that had ended before the search was gone on with: so that its run in MLflow has all of them."""
        for trial in self.trials.values():
            if (
                trial.name not in self._begun and trial.status != RUNNING
            ):  # one that Tune had not noted when it was killed is gone
                self._begin_run(trial)
                self._end_run(trial)

    def _begin_run(self, trial: Trial) -> None:
        """Of a trial in MLflow, with what it has reported so far."""
        stack = ExitStack()
        opened = self.tracker.run(
            "trial",
            identity=f"{self.plan.search.identity}-{trial.name}",
            params={"distill": trial.values},
            parent_run_id=self.run.id,
            name=f"trial-{trial.name}",
        )
        run = stack.enter_context(opened)
        self._open[trial.name] = (stack, run)
        self._begun.add(trial.name)
        for iteration, value in trial.validations:
            run.metrics({f"validation/{METRIC}": value}, iteration)

    def _end_run(self, trial: Trial) -> None:
        stack, run = self._open.pop(trial.name)
        run.tags({"raydistill.ended": trial.status})
        run.metrics({"best": trial.best[0]}, trial.best[1])
        _close(stack, RaydistillError(trial.said) if trial.status in UNSUCCESSFUL else None)

    def _folder(self, values: Mapping[str, Any]) -> str:
        """Of the distilled set; of what is no recipe, or of a member of a population, there is none."""
        if not isinstance(self.plan.config.search.stopping, Population):
            with suppress(ConfigError):  # which the trial says
                return self.plan.with_recipe(recipe_of(self.plan.config, values)).distilled.folder.uri
        return ""

    def on_result(self, name: str, result: Mapping[str, Any]) -> None:
        trial = self.trials[name]
        if trial.status != FINISHED:
            trial.status, trial.said = result.get("ended", RUNNING), result.get("said", "")
        if "schedule" in result:
            trial.schedule = json.loads(result["schedule"])
            trial.values = trial.schedule[-1][1]
        iteration = result.get("last_iteration", result["iteration"])
        known = [told for told, _ in trial.validations]
        if iteration not in known:  # a trial that was lost tells again what it had told
            trial.validations.append((iteration, result[METRIC]))
            self._open[name][1].metrics({f"validation/{METRIC}": result[METRIC]}, iteration)
        if "validations" in result:
            trial.validations = [(told, value) for told, value in json.loads(result["validations"])]
        self._keep(trial)

    def end(self, name: str, status: str, said: str = "") -> None:
        trial = self.trials[name]
        if trial.status == RUNNING:
            trial.status, trial.said = status, said
        self._keep(trial)
        self._end_run(trial)
        self.run.metrics({"best": max(t.best[0] for t in self.trials.values())}, self.ended)
        log.info("tune: trial %s %s, %.3f: %s", name, trial.status, trial.best[0], format_values(trial.values))
        if self.shown:
            self.shown.update(self.ended, best=max(t.best[0] for t in self.trials.values()))

    def look(self, some_run: bool) -> None:
        """ClusterError where no trial runs, and for a while none has, for want of a machine: Tune would wait for ever."""
        if some_run:
            self._looked = time.monotonic()
        elif time.monotonic() - self._looked > CAPACITY_CHECK_INTERVAL:
            resources = self.plan.config.resources
            ensure_schedulable(resources, cpus_per_trial(resources), resources.distill_gpus, "distill_")
            self._looked = time.monotonic()

    def close(self, error: BaseException | None) -> None:
        """End the runs of trials that were under way."""
        for stack, _ in self._open.values():
            _close(stack, error)

    def _kept(self, name: str) -> Trial | None:
        try:
            return Trial(**json.loads(self.folder.read(name)))
        except (ValueError, TypeError):
            log.warning("tune: what a trial had reported is damaged, and left out (%s)", name)
            return None

    def _keep(self, trial: Trial) -> None:
        self.folder.write(f"{trial.name}.json", json.dumps(asdict(trial)).encode())


def _close(stack: ExitStack, error: BaseException | None) -> None:
    """End a trial's run in MLflow: as finished, or as what the error makes of it."""
    if error is None:
        stack.close()
        return
    with suppress(type(error)):
        stack.__exit__(type(error), error, error.__traceback__)


_listeners: dict[str, TrialRecorder] = {}


@contextmanager
def recording_trials(plan: Plan, tracker: Tracker, run: Run) -> Iterator[TrialRecorder]:
    listener = _listeners[plan.search.identity] = TrialRecorder(plan, tracker, run)
    try:
        yield listener
    except BaseException as error:
        listener.close(error)
        raise
    finally:
        del _listeners[plan.search.identity]


class RecorderCallback(ray.tune.Callback):
    """Tune keeps its callbacks in a pickle, so this is but the name of who listens."""

    def __init__(self, search: str) -> None:
        self.search = search

    @property
    def _listener(self) -> TrialRecorder:
        return _listeners[self.search]

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._listener.look(any(trial.status == ray.tune.experiment.Trial.RUNNING for trial in trials))

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._listener.begin(trial.trial_id, trial.config)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._listener.on_result(trial.trial_id, result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._listener.end(trial.trial_id, STOPPED)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        log.warning(
            "tune: trial %s lost its worker and goes on with another (%s)", trial.trial_id, one_line(_why(trial))
        )

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._listener.begin(trial.trial_id, trial.config)  # one whose worker never came has not begun
        self._listener.end(trial.trial_id, FAILED, one_line(_why(trial)))


def _why(trial: Any) -> Exception:
    return trial.get_error() or RuntimeError("lost")
