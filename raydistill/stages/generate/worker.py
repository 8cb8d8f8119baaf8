"""The workers that train one generator together (`curate.feeding.worker`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from raydistill.diffusion.losses import LossByTime
from raydistill.diffusion.model import Generator, build_generator
from raydistill.diffusion.training import TrainingImages, init_training, shard_gradient
from raydistill.seeding import fold_in
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.feeding.worker import FedWorker, Records, run_worker
from raydistill.stages.generate.artifact import (
    HISTORY,
    HISTORY_SCHEMA,
    SUMMARY,
    VALIDATION,
    VALIDATION_SCHEMA,
    GeneratorSummary,
    write_model,
)
from raydistill.stages.generate.monitor import GenerateTask, Previews

MAX_STATISTICS = 10_000  # pictures whose pixels a space measures


def train_generator(loop: dict[str, Any]) -> None:
    """Run one worker of Ray Train. It reports once, at its end."""
    run_worker(loop, _Worker)


@dataclass
class GeneratorRecords(Records):
    """Records of a training.

    Parameters
    ----------
    losses
        Sums of losses and numbers of pictures by time since the last row of the history.
    """

    losses: tuple[list[float], list[float]] | None = None


class _Worker(FedWorker[Generator]):
    """Train a generator, and draw previews of it."""

    stage = "generate"

    def __init__(self, task: GenerateTask, updates: Any, device: str) -> None:
        self.task, generate = task, task.generate
        curated = CuratedSet.open(task.curated, verify=False)  # the driver has verified it
        generator = make_generator(task).to(device)
        state = init_training(generator, generate.training)
        super().__init__(
            task, updates, generate.training, state, GeneratorRecords, generate.preview_every, generate.record_every
        )
        self.losses = LossByTime.zero(generator.device)
        if self.records.losses:
            self.losses += LossByTime(*torch.tensor(self.records.losses, dtype=torch.float64).to(generator.device))
        self.summary = summarise(task, curated, generator)
        self.previews = Previews(task) if self.rank == 0 else None

    def gradient(self, images: TrainingImages, shard: int) -> tuple[Tensor, Tensor]:
        model, training = self.state.model, self.task.generate.training
        result = shard_gradient(model, images.to(model.device), training, self.task.seed, self.state.step, shard)
        return result.gradient_P, torch.stack([result.loss.sums_T, result.loss.counts_T])

    def add_losses(self, losses: list[Tensor]) -> None:
        loss = LossByTime(*losses[0])
        for shard in losses[1:]:
            loss += LossByTime(*shard)
        self.losses += loss

    def take_losses(self) -> dict[str, Any]:
        losses, self.losses = self.losses, LossByTime.zero(self.state.model.device)
        by_time = [value if math.isfinite(value) else None for value in losses.means.tolist()]
        return {"loss": losses.mean, "loss_by_time": by_time}

    def measure(self) -> tuple[dict[str, Any], list[str]]:
        assert self.previews is not None
        row, name = self.previews.make(self.state)
        return row, [name]

    def before_save(self) -> None:
        self.records.losses = (self.losses.sums_T.tolist(), self.losses.counts_T.tolist())

    def write(self) -> None:
        write_model(self.folder, self.state.averaged())
        if self.task.pictures.embedder is not None:
            self.task.pictures.embedder.write(self.folder)
        self.folder.write(SUMMARY, self.summary.to_json())
        self._write_rows(HISTORY, self.records.history, HISTORY_SCHEMA)
        self._write_rows(VALIDATION, self.records.validation, VALIDATION_SCHEMA)

    def _write_rows(self, name: str, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
        with self.folder.writing(name) as path:
            pq.write_table(pa.Table.from_pylist(rows, schema), path)


def make_generator(task: GenerateTask) -> Generator:
    """Return the generator before the first step.

    Its space takes the statistics of some training pictures.
    """
    pictures, seed = task.pictures, fold_in(task.seed, "initial")
    model, layout, size = task.generate.model, pictures.encoding.layout, pictures.image_size
    needed = model.space.kind != "latents"
    images_NHWC = pictures.choose_images(MAX_STATISTICS, task.seed, "statistics") if needed else None
    return build_generator(model, layout, size, seed, images_NHWC)


def summarise(task: GenerateTask, curated: CuratedSet, generator: Generator) -> GeneratorSummary:
    """Return the contents of `generator.json`."""
    summary, training = curated.summary, task.generate.training
    return GeneratorSummary(
        **summary.origin,
        class_names=tuple(curated.class_names) if curated.has_classes else (),
        tree=summary.tree,
        encoding=task.pictures.encoding,
        model=task.generate.model,
        sampling=task.generate.sampling,
        num_images=len(task.pictures),
        num_parameters=sum(parameter.numel() for _, parameter in generator.trained()),
        steps=training.steps,
        batch_size=training.batch_size,
    )
