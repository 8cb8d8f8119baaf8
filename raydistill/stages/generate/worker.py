"""The workers of the generate stage, which train one generator together.

Every worker holds the generator, and reads the pictures of its shards (`feed`). In a step each
computes the gradients of its shards, and gathers those of the others. `TrainingState.apply` adds
them in the order of the shards, so all workers keep equal parameters, and the result has the same
bits on any number of workers. Worker 0 also validates, saves checkpoints, and sends updates to the
driver.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray.train
import torch

from raydistill.artifacts.manifest import PARTIAL
from raydistill.artifacts.tensors import pack_tensors, unpack_tensors
from raydistill.diffusion.losses import LossByTime
from raydistill.diffusion.model import Generator, build_generator
from raydistill.diffusion.training import TrainingImages, init_training, shard_gradient
from raydistill.errors import DivergenceError, RaydistillError
from raydistill.learning.sharded import TrainingState
from raydistill.log import get_logger
from raydistill.runtime.cluster import PROGRESS_INTERVAL
from raydistill.runtime.group_training import Update
from raydistill.runtime.ray_train import gather, process_group
from raydistill.seeding import fold_in
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.feeding.feed import Feed
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
from raydistill.storage import Folder, checked

log = get_logger(__name__)

MAX_STATISTICS = 10_000  # pictures whose pixels a space measures


def train_generator(loop: dict[str, Any]) -> None:
    """Run one worker of Ray Train. It reports once, at its end."""
    task, updates = loop["task"], loop["updates"]
    device = task.processor.enter()
    context = ray.train.get_context()
    try:
        with process_group(task.processor.gpus):
            _Worker(task, updates, device).run()
    except RaydistillError as error:
        updates.put(Update(0, error=error))
        raise  # Ray Train then ends the other workers, which may wait for this one
    ray.train.report({"rank": context.get_world_rank()})


class _Worker:
    """Hold the state of the training, on the device of this worker."""

    def __init__(self, task: GenerateTask, updates: Any, device: str) -> None:
        self.task, self.updates, self.folder = task, updates, Folder(task.folder)
        context = ray.train.get_context()
        self.rank, self.world_size = context.get_world_rank(), context.get_world_size()
        curated = CuratedSet.open(task.curated, verify=False)  # the driver has verified it
        generator = make_generator(task).to(device)
        self.state = init_training(generator, task.generate.training)
        self.records = load(self.folder, self.state)
        self.losses = LossByTime.zero(generator.device)
        if self.records.losses:
            self.losses += LossByTime(*torch.tensor(self.records.losses, dtype=torch.float64).to(generator.device))
        self.feed = Feed(task.pictures, task.generate.training, task.seed, self.rank, self.world_size)
        self.summary = summarise(task, curated, generator)
        self.previews = Previews(task, generator.device) if self.rank == 0 else None

    def run(self) -> None:
        """Train to the end; worker 0 then writes the files of the artifact."""
        training, generate = self.task.generate.training, self.task.generate
        self._send(Update(self.state.step, self.records.history, self.records.validation, saved=True))
        saved = shown = time.monotonic()
        for shards in self.feed.batches(self.state.step):
            lr = training.lr_at(self.state.step)
            self._step(shards, lr)
            step, last = self.state.step, self.state.step == training.steps
            preview = step % generate.preview_every == 0 or last
            if step % generate.record_every == 0 or preview:
                self._record(lr)
            if preview:
                self._preview()
            if preview or time.monotonic() - saved > self.task.checkpoint_seconds:
                self._save()
                saved = time.monotonic()
            if time.monotonic() - shown > PROGRESS_INTERVAL:
                self._send(Update(step))
                shown = time.monotonic()
        if self.rank == 0:
            self._write()

    def _step(self, shards: list[TrainingImages], lr: float) -> None:
        """Take one step with the pictures of this worker's shards."""
        state, training = self.state, self.task.generate.training
        own_shards = [
            shard_gradient(
                state.model, images.to(state.model.device), training, self.task.seed, state.step,
                self.rank + n * self.world_size,
            )
            for n, images in enumerate(shards)
        ]  # fmt: skip
        gradients = gather([shard.gradient_P for shard in own_shards])
        sums = gather([torch.stack([shard.loss.sums_T, shard.loss.counts_T]) for shard in own_shards])
        state.apply(gradients, lr, training.max_norm)
        loss = LossByTime(*sums[0])
        for shard in sums[1:]:
            loss += LossByTime(*shard)
        self.losses += loss

    def _record(self, lr: float) -> None:
        """Record the mean losses since the last record.

        Raises DivergenceError if they are not finite.
        """
        step, training, losses = self.state.step, self.task.generate.training, self.losses
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
        self.losses = LossByTime.zero(self.state.model.device)
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
            self.records.losses = (self.losses.sums_T.tolist(), self.losses.counts_T.tolist())
            save(self.folder, self.state, self.records)
            self._send(Update(self.state.step, saved=True))

    def _send(self, update: Update) -> None:
        if self.rank == 0:
            self.updates.put(update)

    def _write(self) -> None:
        """Write the files of the artifact."""
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
        survey=summary.survey,
        simulated=summary.simulated,
        image_size=summary.image_size,
        crop_fraction=summary.crop_fraction,
        aligned=summary.aligned,
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


# Save and load the training of a generator: its state and its records.

STATE = f"{PARTIAL}/state.safetensors"


@dataclass
class Records:
    """Records of a training.

    Parameters
    ----------
    history, validation
        Rows of `history.parquet` and of `validation.parquet`.
    losses
        Sums of losses and numbers of pictures by time since the last row of the history.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    validation: list[dict[str, Any]] = field(default_factory=list)
    losses: tuple[list[float], list[float]] | None = None


def save(folder: Folder, state: TrainingState[Generator], records: Records) -> None:
    """Write the state and the records in one file, which appears whole or not at all."""
    checked.write(folder, STATE, pack_tensors(state.to_tensors(), asdict(records)))


def load(folder: Folder, state: TrainingState[Generator]) -> Records:
    """Load the last checkpoint into `state`, and return its records.

    Without a checkpoint both are new. A damaged checkpoint counts as none, with a warning.
    """
    data = checked.read(folder, STATE)
    if data is None:
        return Records()
    tensors, info = unpack_tensors(data)
    state.load_tensors(tensors)
    return Records(**info)
