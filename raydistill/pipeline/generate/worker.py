"""The workers of the generate stage, which train one generator together.

Every worker holds the generator and the training pictures. In a step each computes the gradients of
its shards, and gathers those of the others. `TrainingState.apply` adds them in the order of the
shards, so all workers keep equal parameters, and the result has the same bits on any number of
workers. Worker 0 also validates, saves checkpoints, and sends updates to the driver.
"""

from __future__ import annotations

import math
import time
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray.train
import torch
import torch.distributed as dist
from torch import Tensor

from raydistill.artifacts.curated import CuratedSet
from raydistill.artifacts.generator import (
    HISTORY,
    HISTORY_SCHEMA,
    SUMMARY,
    VALIDATION,
    VALIDATION_SCHEMA,
    GeneratorSummary,
    write_model,
)
from raydistill.diffusion.losses import LossByTime
from raydistill.diffusion.model import Generator, build_generator
from raydistill.diffusion.training import TrainingImages, init_training, shard_gradient
from raydistill.errors import DivergenceError, RaydistillError
from raydistill.log import get_logger
from raydistill.pipeline.generate import checkpoint
from raydistill.pipeline.generate.previews import Previews
from raydistill.pipeline.generate.task import GenerateTask, Update, load_training_images
from raydistill.pipeline.runtime.resources import device_of
from raydistill.seeding import fold_in
from raydistill.storage import Folder

log = get_logger(__name__)


def train_generator(loop: dict[str, Any]) -> None:
    """Run one worker of Ray Train. It reports once, at its end."""
    task, updates = loop["task"], loop["updates"]
    torch.set_num_threads(task.threads)
    rank = ray.train.get_context().get_world_rank()
    try:
        _Worker(task, updates).run()
    except RaydistillError as error:  # raised, it would make Ray Train restart all workers, which would fail again
        if rank == 0 or not isinstance(error, DivergenceError):
            updates.put(Update(0, error=error))
    ray.train.report({"rank": rank})


class _Worker:
    """Hold the state of the training, on the device of this worker."""

    def __init__(self, task: GenerateTask, updates: Any) -> None:
        self.task, self.updates, self.folder = task, updates, Folder(task.folder)
        context = ray.train.get_context()
        self.rank, self.world_size = context.get_world_rank(), context.get_world_size()
        device = device_of(task.gpus)
        curated = CuratedSet.open(task.curated, verify=False)  # the driver has verified it
        images = load_training_images(curated, task)
        generator = make_generator(task, curated, images).to(device)
        self.images = images.to(device)
        self.state = init_training(generator, task.generate.training)
        self.records = checkpoint.load(self.folder, self.state)
        self.summary = summarise(task, curated, generator, len(images.images_NHWC))
        self.previews = Previews(task, curated, device) if self.rank == 0 else None

    def run(self) -> None:
        """Train to the end; worker 0 then writes the files of the artifact."""
        training, generate = self.task.generate.training, self.task.generate
        self._send(Update(self.state.step, self.records.history, self.records.validation))
        losses, saved = LossByTime.zero(self.state.generator.device), time.monotonic()
        while self.state.step < training.steps:
            lr = training.lr_at(self.state.step)
            losses += self._step(lr)
            step, last = self.state.step, self.state.step == training.steps
            preview = step % generate.preview_every == 0 or last
            if step % generate.record_every == 0 or preview:
                self._record(losses, lr)
                losses = LossByTime.zero(self.state.generator.device)
                if preview:
                    self._preview()
                if preview or time.monotonic() - saved > self.task.checkpoint_seconds:
                    self._save()  # with the record, and the preview if there is one, of this step
                    saved = time.monotonic()
        if self.rank == 0:
            self._write()

    def _step(self, lr: float) -> LossByTime:
        """Take one step, and return the losses of its pictures, the same in all workers."""
        training = self.task.generate.training
        own = [
            shard_gradient(self.state.generator, self.images, training, self.task.seed, self.state.step, shard)
            for shard in range(self.rank, training.shards, self.world_size)
        ]
        gradients = self._gather([shard.gradient_P for shard in own])
        sums = self._gather([torch.stack([shard.loss.sums_T, shard.loss.counts_T]) for shard in own])
        self.state.apply(gradients, lr, training.max_norm)
        loss = LossByTime(*sums[0])
        for shard in sums[1:]:
            loss += LossByTime(*shard)
        return loss

    def _gather(self, own: list[Tensor]) -> list[Tensor]:
        """Return the tensors of all shards, in the order of the shards; worker r has r, r + W, r + 2 W, …"""
        if self.world_size == 1:
            return own
        gathered = []
        for tensor in own:
            parts = [torch.empty_like(tensor) for _ in range(self.world_size)]
            dist.all_gather(parts, tensor)
            gathered += parts
        return gathered

    def _record(self, losses: LossByTime, lr: float) -> None:
        """Record the mean losses since the last record. DivergenceError if they are not finite."""
        step, training = self.state.step, self.task.generate.training
        if not math.isfinite(losses.mean):
            what = f"the loss is not finite at step {step}"
            fix = f"lower generate.training.lr (now {training.lr:g}), or raise generate.training.warmup"
            raise DivergenceError(what, "generate", fix)
        by_time = [value if math.isfinite(value) else None for value in losses.means.tolist()]
        row = {
            "step": step,
            "images": step * training.batch_size,
            "lr": lr,
            "loss": losses.mean,
            "loss_by_time": by_time,
        }
        self.records.history.append(row)
        self._send(Update(step, history=[row]))

    def _preview(self) -> None:
        """Draw samples and measure them; only in worker 0."""
        if self.previews is None:
            return
        row, name = self.previews.make(self.state)
        self.records.validation.append(row)
        self._send(Update(self.state.step, validation=[row], pictures=[name]))

    def _save(self) -> None:
        """Save a checkpoint; only in worker 0."""
        if self.rank == 0:
            checkpoint.save(self.folder, self.state, self.records)

    def _send(self, update: Update) -> None:
        if self.rank == 0:
            self.updates.put(update)

    def _write(self) -> None:
        """Write the files of the artifact."""
        write_model(self.folder, self.state.averaged())
        self.folder.write(SUMMARY, self.summary.to_json())
        self._write_rows(HISTORY, self.records.history, HISTORY_SCHEMA)
        self._write_rows(VALIDATION, self.records.validation, VALIDATION_SCHEMA)

    def _write_rows(self, name: str, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
        with self.folder.writing(name) as path:
            pq.write_table(pa.Table.from_pylist(rows, schema), path)


def make_generator(task: GenerateTask, curated: CuratedSet, images: TrainingImages) -> Generator:
    """Return the generator before the first step, which depends on the seed alone."""
    size, seed = curated.summary.image_size, fold_in(task.seed, "initial")
    return build_generator(task.generate.model, task.encoding.layout, size, seed, images.images_NHWC)


def summarise(task: GenerateTask, curated: CuratedSet, generator: Generator, num_images: int) -> GeneratorSummary:
    """Return the contents of `generator.json`."""
    summary, training = curated.summary, task.generate.training
    return GeneratorSummary(
        survey=summary.survey,
        simulated=summary.simulated,
        image_size=summary.image_size,
        crop_fraction=summary.crop_fraction,
        aligned=summary.aligned,
        class_names=tuple(curated.class_names) if curated.has_classes else (),
        tree=summary.tree,
        encoding=task.encoding,
        model=task.generate.model,
        sampling=task.generate.sampling,
        num_images=num_images,
        num_parameters=sum(parameter.numel() for parameter in generator.parameters()),
        steps=training.steps,
        batch_size=training.batch_size,
    )
