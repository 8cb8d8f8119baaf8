"""Show, record and measure a training while it runs."""

from __future__ import annotations

import math
import threading
import time
from typing import Any

import numpy as np
import torch
from ray.util.queue import Empty, Queue

from raydistill.diffusion.losses import measure
from raydistill.diffusion.model import Generator, to_pixels, to_tensors
from raydistill.diffusion.sampling import sample
from raydistill.diffusion.training import TrainingState
from raydistill.errors import RaydistillError
from raydistill.figures.image_grids import image_grid
from raydistill.log import Progress, get_logger, progress
from raydistill.pipeline.plan import Plan
from raydistill.seeding import generator as seeded
from raydistill.stages.curate.select.conditions import picture_colours
from raydistill.stages.generate.artifact import PREVIEWS
from raydistill.stages.generate.feed import GenerateTask, Update
from raydistill.storage import Folder
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


# Show and measure what a generator has learned so far.
#
# A preview samples pictures with the conditions of real validation galaxies, from equal noise at every
# step. It compares them with those galaxies, and measures the loss on them.

MAX_VALIDATION = 512  # pictures on which the loss is measured
ROWS = ("galaxies", "sampled", "sampled without averaging")


class Previews:
    """Samples for the same validation galaxies after any step."""

    def __init__(self, task: GenerateTask, device: torch.device) -> None:
        self.task, self.folder = task, Folder(task.folder)
        validation, size = task.validation, task.validation.image_size
        chosen = validation.choose(MAX_VALIDATION, task.seed, "preview")  # class by class
        count = len(chosen.images_NHWC)
        self.validation = chosen.rows(torch.randperm(count, generator=seeded(task.seed, "preview order")))
        self.shown = min(task.generate.preview_images, count)
        self.noise = torch.randn((self.shown, 3, size, size), generator=seeded(task.seed, "preview noise"))

    def make(self, state: TrainingState) -> tuple[dict[str, Any], str]:
        """Return the row of `validation.parquet` for a state, and the name of the picture.

        While the averaged parameters have the larger loss, the picture shows samples of the
        parameters themselves too.
        """
        averaged, raw = state.averaged(), state.generator
        training = raw.training
        raw.eval()
        real = np.asarray(self.validation.images_NHWC[: self.shown])
        rows = [real, self._sample(averaged)]
        loss, loss_raw = self._loss(averaged), self._loss(raw)
        if loss >= loss_raw:
            rows.append(self._sample(raw))
        raw.train(training)
        row = {"step": state.step, "loss": loss, "loss_raw": loss_raw}
        for samples, suffix in zip(rows[1:], ("", "_raw"), strict=False):
            row |= {f"bias_{name}{suffix}": value for name, value in biases(samples, real).items()}
        return row, self._draw(state.step, rows)

    def _sample(self, generator: Generator) -> np.ndarray:
        """Return samples for the shown galaxies, uint8 [N, H, W, 3]."""
        conditions = self.validation.conditions[: self.shown]
        return to_pixels(sample(generator, conditions, self.noise, self.task.generate.sampling))

    def _loss(self, generator: Generator) -> float:
        images = to_tensors(self.validation.images_NHWC)
        return measure(generator, images, self.validation.conditions, self.task.seed).mean

    def _draw(self, step: int, images: list[np.ndarray]) -> str:
        """Draw the galaxies above the samples; return the name of the file."""
        name = f"{PREVIEWS}/step-{step:06d}.png"
        labels = np.repeat(np.arange(len(images)), [len(of_class) for of_class in images])
        caption = (
            f"{self.task.survey}, galaxies above samples after {step} steps; "
            "each sample has the condition of the galaxy at its place"
        )
        with self.folder.writing(name) as path:
            image_grid(np.concatenate(images), labels, ROWS[: len(images)], path, columns=16, caption=caption)
        return name


def biases(samples_NHWC: np.ndarray, real_NHWC: np.ndarray) -> dict[str, float]:
    """Return how far samples are off the real pictures with the same conditions.

    Parameters
    ----------
    samples_NHWC, real_NHWC
        uint8 [N, H, W, 3].

    Returns
    -------
    dict
        "flux": mean pixel of the samples over that of the real pictures, minus 1. "red" and "blue":
        difference of the mean `picture_colours`, in dex.
    """
    colours = picture_colours(samples_NHWC).mean(axis=0) - picture_colours(real_NHWC).mean(axis=0)
    flux = float(samples_NHWC.mean(dtype=np.float64) / max(float(real_NHWC.mean(dtype=np.float64)), 1e-9)) - 1
    return {"flux": flux, "red": float(colours[0]), "blue": float(colours[1])}
