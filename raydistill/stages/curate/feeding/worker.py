"""Train a model on the pictures of curated sets, as one worker of a group.

Every worker holds the model and reads the pictures of its shards (`feed`). In a step each computes
the gradients of its shards, and gathers those of the others. `TrainingState.apply` adds them in the
order of the shards, so all workers keep equal parameters, and the result has the same bits on any
number of workers. Worker 0 also measures, saves checkpoints, and sends updates to the driver.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Generic

import ray.train
from torch import Tensor

from raydistill.artifacts.manifest import PARTIAL
from raydistill.artifacts.tensors import pack_tensors, unpack_tensors
from raydistill.diffusion.training import TrainingImages
from raydistill.errors import DivergenceError, RaydistillError
from raydistill.learning.options import ShardedTraining
from raydistill.learning.sharded import Model, TrainingState
from raydistill.runtime.cluster import PROGRESS_INTERVAL
from raydistill.runtime.group_training import Update
from raydistill.runtime.ray_train import gather, process_group
from raydistill.runtime.resources import Processor
from raydistill.stages.curate.feeding.feed import Feed, Pictures
from raydistill.storage import Folder, checked

STATE = f"{PARTIAL}/state.safetensors"  # the checkpoint: one file, which appears whole or not at all


@dataclass(frozen=True)
class FedTask:
    """The arguments of a worker, which a stage extends by its own; they are pickled.

    Parameters
    ----------
    folder, curated
        The URIs of the artifact and of the curated set.
    pictures, validation
        The training pictures, and those of the validation split.
    seed
        The root of all draws.
    processor
        Threads and GPUs of a worker.
    checkpoint_seconds
        Time between two checkpoints.
    """

    folder: str
    curated: str
    pictures: Pictures
    validation: Pictures
    seed: int
    processor: Processor
    checkpoint_seconds: float


@dataclass
class Records:
    """Records of a training, which a stage extends by its losses since the last one.

    Parameters
    ----------
    history, validation
        Rows of the tables of the same names.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    validation: list[dict[str, Any]] = field(default_factory=list)


def run_worker(loop: dict[str, Any], make: Callable[[Any, Any, str], FedWorker[Any]]) -> None:
    """Run a worker of Ray Train, made of task, updates and device; report at its end."""
    task, updates = loop["task"], loop["updates"]
    device = task.processor.enter()
    context = ray.train.get_context()
    try:
        with process_group(task.processor.gpus):
            make(task, updates, device).run()
    except RaydistillError as error:
        updates.put(Update(0, error=error))
        raise  # Ray Train then ends the other workers, which may wait for this one
    ray.train.report({"rank": context.get_world_rank()})


class FedWorker(ABC, Generic[Model]):
    """Hold the state of the training, on the device of this worker.

    Parameters
    ----------
    task
        What to train on.
    updates
        The queue to the driver.
    training
        Hyper-parameters.
    state
        The state before the first step; a checkpoint is loaded into it.
    records
        Class of the records.
    measure_every, record_every
        Steps between two measurements, and between two records of the loss.
    """

    stage: ClassVar[str]  # for messages, which name its keys
    records: Any

    def __init__(
        self,
        task: FedTask,
        updates: Any,
        training: ShardedTraining,
        state: TrainingState[Model],
        records: type[Records],
        measure_every: int,
        record_every: int,
    ) -> None:
        self._updates, self.folder, self.training, self.state = updates, Folder(task.folder), training, state
        self._checkpoint_seconds, self._measure_every, self._record_every = (
            task.checkpoint_seconds, measure_every, record_every,
        )  # fmt: skip
        context = ray.train.get_context()
        self.rank, self._world_size = context.get_world_rank(), context.get_world_size()
        self._feed = Feed(task.pictures, training, task.seed, self.rank, self._world_size)
        self.records = self._load(records)

    @abstractmethod
    def gradient(self, images: TrainingImages, shard: int) -> tuple[Tensor, Tensor]:
        """Return the gradient [P] of a shard, and its losses as a tensor."""

    @abstractmethod
    def add_losses(self, losses: list[Tensor]) -> None:
        """Add the losses of all shards of a step to those since the last record."""

    @abstractmethod
    def take_losses(self) -> dict[str, Any]:
        """Return `loss` and further columns of a record, and begin anew."""

    @abstractmethod
    def measure(self) -> tuple[dict[str, Any], list[str]]:
        """Return a row of the validation, and new pictures; only in worker 0."""

    @abstractmethod
    def write(self) -> None:
        """Write the files of the artifact; only in worker 0."""

    def before_save(self) -> None:
        """Bring the records up to date, before they are saved."""

    def run(self) -> None:
        """Train to the end; worker 0 then writes the files of the artifact."""
        self._send(Update(self.state.step, self.records.history, self.records.validation, saved=True))
        saved = shown = time.monotonic()
        for shards in self._feed.batches(self.state.step):
            lr = self.training.lr_at(self.state.step)
            self._step(shards, lr)
            step = self.state.step
            measuring = step % self._measure_every == 0 or step == self.training.steps
            if step % self._record_every == 0 or measuring:
                self._record(lr)
            if measuring:
                self._measure()
            if measuring or time.monotonic() - saved > self._checkpoint_seconds:
                self._save()
                saved = time.monotonic()
            if time.monotonic() - shown > PROGRESS_INTERVAL:
                self._send(Update(step))
                shown = time.monotonic()
        if self.rank == 0:
            self.write()

    def _step(self, shards: list[TrainingImages], lr: float) -> None:
        """Take one step with the pictures of this worker's shards."""
        results = [self.gradient(images, self.rank + n * self._world_size) for n, images in enumerate(shards)]
        gradients = gather([gradient_P for gradient_P, _ in results])
        losses = gather([loss for _, loss in results])
        self.state.apply(gradients, lr, self.training.max_norm)
        self.add_losses(losses)

    def _record(self, lr: float) -> None:
        """Record the mean losses since the last record.

        Raises DivergenceError if they are not finite.
        """
        step, losses = self.state.step, self.take_losses()
        if not math.isfinite(losses["loss"]):
            what, key = f"the loss is not finite at step {step}", f"{self.stage}.training"
            fix = f"lower {key}.lr (now {self.training.lr:g}), or raise {key}.warmup"
            raise DivergenceError(what, self.stage, fix)
        row = {"step": step, "images": step * self.training.batch_size, "lr": lr, **losses}
        self.records.history.append(row)
        self._send(Update(step, history=[row]))

    def _measure(self) -> None:
        if self.rank == 0:
            row, pictures = self.measure()
            self.records.validation.append(row)
            self._send(Update(self.state.step, validation=[row], pictures=pictures))

    def _save(self) -> None:
        """Save state and records; only in worker 0."""
        if self.rank == 0:
            self.before_save()
            checked.write(self.folder, STATE, pack_tensors(self.state.to_tensors(), asdict(self.records)))
            self._send(Update(self.state.step, saved=True))

    def _load(self, records: type[Records]) -> Records:
        """Load the last checkpoint into the state, and return its records.

        Without a checkpoint both are new. A damaged one counts as none, with a warning.
        """
        data = checked.read(self.folder, STATE)
        if data is None:
            return records()
        tensors, info = unpack_tensors(data)
        self.state.load_tensors(tensors)
        return records(**info)

    def _send(self, update: Update) -> None:
        if self.rank == 0:
            self._updates.put(update)
