"""Show, record and measure a training while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ray.util.queue import Queue

from raydistill.config import Generate
from raydistill.diffusion.losses import measure
from raydistill.diffusion.model import Generator, to_pixels, to_tensors
from raydistill.diffusion.sampling import sample
from raydistill.figures.image_grids import image_grid
from raydistill.learning.sharded import TrainingState
from raydistill.pipeline.plan import Plan
from raydistill.runtime.group_training import Monitor, Update
from raydistill.seeding import generator as seeded
from raydistill.stages.curate.feeding.worker import FedTask
from raydistill.stages.curate.select.conditions import picture_colours
from raydistill.stages.generate.artifact import PREVIEWS
from raydistill.storage import Folder
from raydistill.tracking.tracker import Run


@dataclass(frozen=True)
class GenerateTask(FedTask):
    """The arguments of a worker."""

    generate: Generate
    survey: str


class GeneratorMonitor(Monitor):
    """Read the updates of the workers that train a generator."""

    def __init__(self, plan: Plan, updates: Queue, run: Run) -> None:
        super().__init__(updates, run, "training the generator", plan.config.generate.training.steps)
        self._folder = plan.generator.folder

    def record(self, update: Update, seen: int) -> None:
        """Record also the loss by time, and previews."""
        super().record(update, seen)
        for row in update.history:
            by_time = {f"loss_by_time/{n}": loss for n, loss in enumerate(row["loss_by_time"]) if loss is not None}
            if row["step"] > seen and by_time:
                self.run.metrics(by_time, row["step"])
        for name in update.pictures:
            self.run.artifact(self._folder.local(name), "previews")

    def describe(self, row: dict[str, Any]) -> str:
        """Return the loss and the bias of the flux."""
        return (
            f"generate: step {row['step']}: loss {row['loss']:.4f} on validation pictures; "
            f"mean flux of samples against galaxies: {100 * row['bias_flux']:+.1f} %"
        )


# Show and measure what a generator has learned so far.
#
# A preview samples pictures with the conditions of real validation galaxies, from equal noise at every
# step. It compares them with those galaxies, and measures the loss on them.

MAX_VALIDATION = 512  # pictures on which the loss is measured
ROWS = ("galaxies", "sampled", "sampled without averaging")


class Previews:
    """Samples for the same validation galaxies after any step."""

    def __init__(self, task: GenerateTask) -> None:
        self.task, self.folder = task, Folder(task.folder)
        validation, size = task.validation, task.validation.image_size
        chosen = validation.choose(MAX_VALIDATION, task.seed, "preview")  # class by class
        count = len(chosen.images_NHWC)
        self.validation = chosen.rows(torch.randperm(count, generator=seeded(task.seed, "preview order")))
        self.shown = min(task.generate.preview_images, count)
        self.noise = torch.randn((self.shown, 3, size, size), generator=seeded(task.seed, "preview noise"))

    def make(self, state: TrainingState[Generator]) -> tuple[dict[str, Any], str]:
        """Return the row of `validation.parquet` for a state, and the name of the picture.

        While the averaged parameters have the larger loss, the picture shows samples of the
        parameters themselves too.
        """
        averaged, raw = state.averaged(), state.model
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
