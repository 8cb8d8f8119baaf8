"""Show and record the updates of a training while it runs."""

from __future__ import annotations

import math
import threading
import time

from ray.util.queue import Empty, Queue

from raydistill.errors import RaydistillError
from raydistill.log import Progress, get_logger, progress
from raydistill.pipeline.plan import Plan
from raydistill.stages.generate.task import Update
from raydistill.tracking.tracker import Run

log = get_logger(__name__)

POLL_SECONDS = 0.5


class Monitor:
    """Read the updates of the workers.

    Parameters
    ----------
    plan
        Of the run.
    updates
        The queue of the workers.
    run
        The MLflow run.

    Attributes
    ----------
    error
        The first error that a worker sent, if any.
    """

    def __init__(self, plan: Plan, updates: Queue, run: Run) -> None:
        self.error: RaydistillError | None = None
        self._plan, self._updates, self._run = plan, updates, run
        self._seen = -1  # last step that was shown
        self._saved = 0  # step of the last checkpoint

    def show(self, done: threading.Event) -> None:
        """Show progress and record updates in MLflow, until `done` and an empty queue."""
        with progress(self._plan.config.generate.training.steps, "training the generator", "steps") as shown:
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
        except Empty:
            return None
        return update

    def _process(self, update: Update, shown: Progress) -> None:
        if update.error is not None:
            self.error = self.error or update.error
            return
        self._record(update)
        self._show(update, shown)
        if update.saved:
            self._saved = update.step
        self._seen = max(self._seen, update.step)

    def _record(self, update: Update) -> None:
        """Record in MLflow the records that are newer than the last step.

        Workers that start again send their records again.
        """
        for row in update.history:
            if row["step"] > self._seen:
                by_time = {f"loss_by_time/{n}": loss for n, loss in enumerate(row["loss_by_time"]) if loss is not None}
                self._run.metrics({"loss": row["loss"], "lr": row["lr"]} | by_time, row["step"])
        for row in update.validation:
            if row["step"] >= self._seen:
                known = {key: value for key, value in row.items() if key != "step" and math.isfinite(value)}
                self._run.metrics({f"validation/{key}": value for key, value in known.items()}, row["step"])
        for name in update.pictures:
            self._run.artifact(self._plan.generator.folder.local(name), "previews")

    def _show(self, update: Update, shown: Progress) -> None:
        if self._seen < 0 and update.step:
            shown.resume_at(update.step)
        metrics = {"loss": update.history[-1]["loss"]} if update.history else {}
        shown.update(max(update.step, self._seen), **metrics)
        for row in update.validation:
            if row["step"] > self._seen or update.pictures:
                what = "generate: step %d: loss %.4f on validation pictures; mean flux of samples against galaxies: %+.1f %%"
                log.info(what, row["step"], row["loss"], 100 * row["bias_flux"])
