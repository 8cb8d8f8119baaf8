"""The workers of the pretrain stage, which train one encoder together.

Every worker holds the model and reads the pictures of its shards. In a step each computes the
gradients of its shards, and gathers those of the others. `TrainingState.apply` adds them in the
order of the shards, so all workers keep equal parameters. Worker 0 also measures, saves checkpoints,
and sends updates to the driver.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import ray.train
import torch
from torch import Tensor

from raydistill.artifacts.manifest import PARTIAL
from raydistill.artifacts.tables import write_rows
from raydistill.artifacts.tensors import pack_tensors, unpack_tensors, write_tensors
from raydistill.errors import DivergenceError, RaydistillError
from raydistill.learning.contrast import (
    ContrastiveModel,
    effective_rank,
    init_training,
    shard_gradient,
)
from raydistill.learning.encoders import BATCH
from raydistill.learning.heads import balanced_weights, ridge_head
from raydistill.learning.metrics import balanced_accuracy, confusion
from raydistill.learning.normalise import Normalisation
from raydistill.runtime.cluster import PROGRESS_INTERVAL
from raydistill.runtime.group_training import Update
from raydistill.runtime.ray_train import gather, process_group
from raydistill.runtime.resources import Processor
from raydistill.seeding import fold_in
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.feeding.feed import Feed, Pictures
from raydistill.stages.pretrain.artifact import (
    HISTORY,
    HISTORY_SCHEMA,
    KIND,
    MODEL,
    SUMMARY,
    VALIDATION,
    VALIDATION_SCHEMA,
    EncoderSummary,
)
from raydistill.stages.pretrain.config import Pretrain
from raydistill.storage import Folder, checked

STATE = f"{PARTIAL}/state.safetensors"
MAX_PROBED = 2000  # galaxies of each split that a measurement sees
REGULARISATION = 1.0  # of the head that is scored


@dataclass(frozen=True)
class PretrainTask:
    """The arguments of a worker; they are pickled."""

    folder: str
    curated: str
    pictures: Pictures
    train: Pictures  # of the main set, whose labels the measurement uses
    validation: Pictures
    pretrain: Pretrain
    seed: int
    processor: Processor
    checkpoint_seconds: float


@dataclass
class Records:
    """Records of a training.

    Parameters
    ----------
    history, validation
        Rows of the tables of the same names.
    loss, count
        Sum and number of the losses since the last row of the history.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    validation: list[dict[str, Any]] = field(default_factory=list)
    loss: float = 0.0
    count: int = 0


def train_encoder(loop: dict[str, Any]) -> None:
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

    def __init__(self, task: PretrainTask, updates: Any, device: str) -> None:
        self.task, self.updates, self.folder = task, updates, Folder(task.folder)
        context = ray.train.get_context()
        self.rank, self.world_size = context.get_world_rank(), context.get_world_size()
        self.curated = CuratedSet.open(task.curated, verify=False)  # the driver has verified it
        size, training = task.pictures.image_size, task.pretrain.training
        self.normalisation = channel_normalisation(self.curated)
        seed = fold_in(task.seed, "initial")
        model = ContrastiveModel(task.pretrain.network, size, training.projection, self.normalisation, seed).to(device)
        self.state = init_training(model, training)
        self.records = self._load()
        self.feed = Feed(task.pictures, training, task.seed, self.rank, self.world_size)
        self.probe = Probe(task, self.curated, device) if self.rank == 0 else None

    def run(self) -> None:
        """Train to the end; worker 0 then writes the files of the artifact."""
        pretrain, training = self.task.pretrain, self.task.pretrain.training
        self._send(Update(self.state.step, self.records.history, self.records.validation, saved=True))
        saved = shown = time.monotonic()
        for shards in self.feed.batches(self.state.step):
            lr = training.lr_at(self.state.step)
            self._step([shard.images_NHWC for shard in shards], lr)
            step, last = self.state.step, self.state.step == training.steps
            probing = step % pretrain.probe_every == 0 or last
            if step % pretrain.record_every == 0 or probing:
                self._record(lr)
            if probing and self.probe is not None:
                row = {"step": step, **self.probe.measure(self.state.averaged())}
                self.records.validation.append(row)
                self._send(Update(step, validation=[row]))
            if probing or time.monotonic() - saved > self.task.checkpoint_seconds:
                self._save()
                saved = time.monotonic()
            if time.monotonic() - shown > PROGRESS_INTERVAL:
                self._send(Update(step))
                shown = time.monotonic()
        if self.rank == 0:
            self._write()

    def _step(self, shards: list[Tensor], lr: float) -> None:
        """Take one step with the pictures of this worker's shards."""
        state, training = self.state, self.task.pretrain.training
        results = [
            shard_gradient(
                state.model, images, training, self.task.seed, state.step, self.rank + n * self.world_size
            )
            for n, images in enumerate(shards)
        ]  # fmt: skip
        gradients = gather([gradient_P for gradient_P, _ in results])
        losses = gather([loss for _, loss in results])
        state.apply(gradients, lr, training.max_norm)
        self.records.loss += float(torch.stack(losses).double().mean())
        self.records.count += 1

    def _record(self, lr: float) -> None:
        """Record the mean loss since the last record.

        Raises DivergenceError if it is not finite.
        """
        step, training, records = self.state.step, self.task.pretrain.training, self.records
        loss = records.loss / records.count if records.count else math.nan
        if not math.isfinite(loss):
            what = f"the loss is not finite at step {step}"
            fix = f"lower pretrain.training.lr (now {training.lr:g}), or raise pretrain.training.warmup"
            raise DivergenceError(what, "pretrain", fix)
        row = {"step": step, "images": step * training.batch_size, "lr": lr, "loss": loss}
        records.loss, records.count = 0.0, 0
        records.history.append(row)
        self._send(Update(step, history=[row]))

    def _load(self) -> Records:
        """Load the last checkpoint into the state, and return its records.

        Without a checkpoint both are new. A damaged one counts as none, with a warning.
        """
        data = checked.read(self.folder, STATE)
        if data is None:
            return Records()
        tensors, info = unpack_tensors(data)
        self.state.load_tensors(tensors)
        return Records(**info)

    def _save(self) -> None:
        """Save a checkpoint; only in worker 0."""
        if self.rank == 0:
            checked.write(self.folder, STATE, pack_tensors(self.state.to_tensors(), asdict(self.records)))
            self._send(Update(self.state.step, saved=True))

    def _send(self, update: Update) -> None:
        if self.rank == 0:
            self.updates.put(update)

    def _write(self) -> None:
        """Write the files of the artifact."""
        model, summary, training = self.state.averaged(), self.curated.summary, self.task.pretrain.training
        tensors = {name: parameter.detach().cpu() for name, parameter in model.backbone.named_parameters()}
        write_tensors(self.folder, MODEL, tensors, {"kind": KIND})
        size = summary.image_size
        described = EncoderSummary(
            survey=summary.survey,
            simulated=summary.simulated,
            image_size=size,
            crop_fraction=summary.crop_fraction,
            aligned=summary.aligned,
            mean_C=self.normalisation.mean_C,
            std_C=self.normalisation.std_C,
            num_features=model.features(torch.zeros(1, 3, size, size, device=model.mean.device)).shape[1],
            num_images=len(self.task.pictures),
            num_parameters=sum(parameter.numel() for parameter in model.backbone.parameters()),
            steps=training.steps,
            batch_size=training.batch_size,
        )
        self.folder.write(SUMMARY, json.dumps(asdict(described), indent=1).encode())
        write_rows(self.folder, HISTORY, self.records.history, HISTORY_SCHEMA)
        write_rows(self.folder, VALIDATION, self.records.validation, VALIDATION_SCHEMA)


def channel_normalisation(curated: CuratedSet) -> Normalisation:
    """Return mean and deviation of each channel, also of a whitened set."""
    normalisation = curated.normalisation
    if isinstance(normalisation, Normalisation):
        return normalisation
    return Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class Probe:
    """Measure an encoder: the rank of its features, and the accuracy of a head."""

    def __init__(self, task: PretrainTask, curated: CuratedSet, device: str) -> None:
        self._num_classes = curated.num_classes if curated.has_classes else 0
        chosen = [
            pictures.choose_labelled(MAX_PROBED, task.seed, name)
            for name, pictures in (("probe train", task.train), ("probe validation", task.validation))
        ]
        (self._train, self._train_labels), (self._validation, self._labels) = (
            (images.to(device), labels.to(device)) for images, labels in chosen
        )

    @torch.no_grad()
    def measure(self, model: ContrastiveModel) -> dict[str, float]:
        """Return the columns of a row of `validation.parquet`."""
        validation_NF = self._features(model, self._validation)
        row = {"effective_rank": effective_rank(validation_NF.cpu()), "balanced_accuracy": math.nan}
        if self._num_classes > 1:
            train_NF = self._features(model, self._train)
            mean_F, deviation_F = train_NF.mean(dim=0), train_NF.std(dim=0).clamp_min(1e-6)
            targets = torch.nn.functional.one_hot(self._train_labels, self._num_classes).to(train_NF)
            head = ridge_head(
                (train_NF - mean_F) / deviation_F, targets - 1 / self._num_classes, REGULARISATION,
                balanced_weights(self._train_labels, self._num_classes),
            )  # fmt: skip
            predicted = ((validation_NF - mean_F) / deviation_F @ head).argmax(dim=1)
            row["balanced_accuracy"] = balanced_accuracy(confusion(predicted, self._labels, self._num_classes))
        return row

    @staticmethod
    def _features(model: ContrastiveModel, images_NHWC: Tensor) -> Tensor:
        parts = [images.permute(0, 3, 1, 2).float() / 255 for images in images_NHWC.split(BATCH)]
        return torch.cat([model.features(part) for part in parts])
