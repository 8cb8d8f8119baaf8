"""Train a model by a group of Ray Train workers, and restart from a checkpoint.

    driver             -> starts the group, shows progress, records updates in MLflow
    Ray Train workers  -> train together; worker 0 saves checkpoints and sends updates

When a worker dies, all start again from the last checkpoint. A command that was killed continues
from it too.
"""

from __future__ import annotations

import math
import queue
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray
import ray.train
import ray.train.torch
from ray.util.queue import Queue

from raydistill.artifacts.manifest import PARTIAL
from raydistill.config import Resources
from raydistill.errors import ClusterError, RaydistillError
from raydistill.learning.options import ShardedTraining
from raydistill.log import Progress, get_logger, progress
from raydistill.runtime.failures import WORKER_FAILURES, one_line, translate_errors
from raydistill.runtime.ray_train import ExitAfterReport, IndependentWorkers
from raydistill.runtime.resources import choose_num_workers, group_options, on_driver_node
from raydistill.runtime.signals import preserve_sigint, run_in_background
from raydistill.storage import Folder, arrow_filesystem
from raydistill.tracking.tracker import Run

log = get_logger(__name__)

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Update:
    """A message of worker 0 to the driver, or the error of any worker.

    Parameters
    ----------
    step
        Steps of the training so far.
    history, validation
        New rows of the tables of the same names.
    pictures
        New previews.
    saved
        Whether a checkpoint of this step exists.
    error
        The error that ends the training.
    """

    step: int
    history: list[dict[str, Any]] = field(default_factory=list)
    validation: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    saved: bool = False
    error: RaydistillError | None = None


class Monitor(ABC):
    """Read the updates of the workers. A stage overrides `record` and `describe`.

    Parameters
    ----------
    updates
        The queue of the workers.
    run
        The MLflow run.
    title
        What the progress bar says.
    steps
        Steps of the training.

    Attributes
    ----------
    error
        The first error that a worker sent, if any.
    """

    def __init__(self, updates: Queue, run: Run, title: str, steps: int) -> None:
        self.error: RaydistillError | None = None
        self._updates, self.run, self._title, self._steps = updates, run, title, steps
        self._seen = -1  # last step that was shown
        self._saved = 0  # step of the last checkpoint
        self._described = -1  # step of the last row of the validation that was shown

    def record(self, update: Update, seen: int) -> None:
        """Record in MLflow the rows of an update that are newer than step `seen`."""
        for row in update.history:
            if row["step"] > seen:
                self.run.metrics({key: row[key] for key in ("loss", "lr")}, row["step"])
        for row in update.validation:
            if row["step"] >= seen:
                known = {key: value for key, value in row.items() if key != "step" and math.isfinite(value)}
                self.run.metrics({f"validation/{key}": value for key, value in known.items()}, row["step"])

    @abstractmethod
    def describe(self, row: dict[str, Any]) -> str:
        """Return a line about a row of the validation."""

    def show(self, done: threading.Event) -> None:
        """Show progress and record updates in MLflow, until `done` and an empty queue."""
        with progress(self._steps, self._title, "steps") as shown:
            while True:
                last = done.wait(POLL_SECONDS)
                while (update := self._next()) is not None:
                    self._process(update, shown)
                if last:
                    return

    def wait_for_saved_step(self) -> int:
        """Return the step of the last checkpoint, once all updates were read."""
        while not self._updates.empty():
            time.sleep(POLL_SECONDS)
        time.sleep(POLL_SECONDS)  # the last one may have been taken from the queue, and not be processed
        return self._saved

    def _next(self) -> Update | None:
        """Return the next update, or None if there is none yet."""
        try:
            update: Update = self._updates.get_nowait()
        except queue.Empty:
            return None
        return update

    def _process(self, update: Update, shown: Progress) -> None:
        if update.error is not None:
            self.error = self.error or update.error
            return
        try:
            self.record(update, self._seen)  # workers that start again send their records again
            self._show(update, shown)
        except Exception:  # what is shown and recorded never stops the training, whatever it is
            log.warning("the records of step %d could not be shown", update.step, exc_info=True)
        if update.saved:
            self._saved = update.step
        self._seen = max(self._seen, update.step)

    def _show(self, update: Update, shown: Progress) -> None:
        if self._seen < 0 and update.step:
            shown.resume_at(update.step)
        metrics = {"loss": update.history[-1]["loss"]} if update.history else {}
        shown.update(max(update.step, self._seen), **metrics)
        for row in update.validation:
            if row["step"] > self._described:
                log.info("%s", self.describe(row))
                self._described = row["step"]


@dataclass(frozen=True)
class GroupTraining:
    """A training by a group of workers.

    Parameters
    ----------
    stage
        Its name.
    loop
        The function of a worker, which gets {"task", "updates"} and reports once, at its end.
    task
        What a worker does; it is pickled.
    folder
        Folder of the artifact.
    resources
        Of the run.
    """

    stage: str
    loop: Callable[[dict[str, Any]], None]
    task: Any
    folder: Folder
    resources: Resources

    def run(self, workers: int, make_monitor: Callable[[Queue], Monitor]) -> None:
        """Train to the end. Raise the error that ended it.

        Raises
        ------
        ClusterError
            The workers died more often than `resources.max_restarts`, or cannot start.
        """
        updates = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": on_driver_node()})
        monitor = make_monitor(updates)
        with translate_errors(self.stage):
            with run_in_background(monitor.show, timeout=60):
                self._run_groups(updates, workers, monitor)
            updates.shutdown(force=True)
        if monitor.error is not None:
            raise monitor.error

    def _run_groups(self, updates: Queue, workers: int, monitor: Monitor) -> None:
        """Run groups of workers until one has reached the end, or has sent an error.

        Ray Train counts all failures of a run. Each group is a run of its own, so that only failures
        in a row without a checkpoint in between count.
        """
        failures = saved = 0
        while True:
            reason = self._run_group(updates, workers)
            if reason is None:
                return
            before, saved = saved, monitor.wait_for_saved_step()
            if monitor.error is not None:
                return
            failures = 1 if saved > before else failures + 1
            if failures > self.resources.max_restarts:
                limit = f"more than resources.max_restarts={self.resources.max_restarts} times in a row"
                what = f"the workers died {limit}, or cannot start ({reason})"
                fix = "run the same command again; it continues from the last checkpoint"
                raise ClusterError(what, self.stage, fix)
            log.warning("%s: a worker died (%s); all start again from step %d", self.stage, reason, saved)

    def _run_group(self, updates: Queue, workers: int) -> str | None:
        """Run a group of workers; return why it failed, or None."""
        system, path = arrow_filesystem((self.folder / PARTIAL / "ray").uri)
        callbacks: Any = [ExitAfterReport()]  # typed as callbacks of Tune
        trainer = ray.train.torch.TorchTrainer(
            self.loop,
            train_loop_config={"task": self.task, "updates": updates},
            torch_config=IndependentWorkers(),  # they start their own process group
            scaling_config=ray.train.ScalingConfig(num_workers=workers, **group_options(self.resources)),
            run_config=ray.train.RunConfig(
                # A new name keeps Ray from resuming a finished run: the stage has its own checkpoints.
                name=f"{self.stage}-{uuid.uuid4().hex[:8]}",
                storage_path=path,
                storage_filesystem=system,
                failure_config=ray.train.FailureConfig(  # type: ignore[call-arg]  # mypy sees the class of Ray AIR
                    max_failures=0,
                    controller_failure_limit=self.resources.max_restarts,  # deaths before the training starts
                ),
                callbacks=callbacks,
            ),
        )
        try:
            with preserve_sigint():
                trainer.fit()
        except (ray.train.TrainingFailedError, *WORKER_FAILURES) as error:
            return one_line(error)
        return None


def num_workers(training: ShardedTraining, resources: Resources) -> int:
    """Return the largest number of workers that computes equally many shards each."""
    return equal_workers(training.shards, choose_num_workers(resources, training.shards))


def equal_workers(shards: int, available: int) -> int:
    """Return the largest number of the available workers that divides the shards."""
    return max(count for count in range(1, max(1, available) + 1) if shards % count == 0)
