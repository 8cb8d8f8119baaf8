"""The workers that train one encoder together (`curate.feeding.worker`)."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from raydistill.artifacts.tables import write_rows
from raydistill.artifacts.tensors import write_tensors
from raydistill.diffusion.training import TrainingImages
from raydistill.learning.contrast import (
    ContrastiveModel,
    effective_rank,
    init_training,
    shard_gradient,
)
from raydistill.learning.encoders import SMALLEST_DEVIATION, features_of
from raydistill.learning.heads import balanced_weights, ridge_head
from raydistill.learning.metrics import balanced_accuracy, confusion
from raydistill.learning.normalise import Normalisation
from raydistill.runtime.resources import Processor
from raydistill.seeding import fold_in
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.feeding.feed import Pictures
from raydistill.stages.curate.feeding.worker import FedWorker, Records, run_worker
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
class EncoderRecords(Records):
    """Records of a training.

    Parameters
    ----------
    loss, count
        Sum and number of the losses since the last row of the history.
    """

    loss: float = 0.0
    count: int = 0


def train_encoder(loop: dict[str, Any]) -> None:
    """Run one worker of Ray Train. It reports once, at its end."""
    run_worker(loop, _Worker)


class _Worker(FedWorker[ContrastiveModel]):
    """Train an encoder, and score a head on it."""

    stage = "pretrain"

    def __init__(self, task: PretrainTask, updates: Any, device: str) -> None:
        self.task, pretrain = task, task.pretrain
        self.curated = CuratedSet.open(task.curated, verify=False)  # the driver has verified it
        self.normalisation = channel_normalisation(self.curated)
        size, training, seed = task.pictures.image_size, pretrain.training, fold_in(task.seed, "initial")
        model = ContrastiveModel(pretrain.network, size, training.projection, self.normalisation, seed).to(device)
        state = init_training(model, training)
        super().__init__(
            task, updates, training, state, EncoderRecords, pretrain.probe_every, pretrain.record_every
        )  # fmt: skip
        self.probe = Probe(task, self.curated, device) if self.rank == 0 else None

    def gradient(self, images: TrainingImages, shard: int) -> tuple[Tensor, Tensor]:
        training, state = self.task.pretrain.training, self.state
        return shard_gradient(state.model, images.images_NHWC, training, self.task.seed, state.step, shard)

    def add_losses(self, losses: list[Tensor]) -> None:
        self.records.loss += float(torch.stack(losses).double().mean())
        self.records.count += 1

    def take_losses(self) -> dict[str, Any]:
        loss = self.records.loss / self.records.count
        self.records.loss, self.records.count = 0.0, 0
        return {"loss": loss}

    def measure(self) -> tuple[dict[str, Any], list[str]]:
        assert self.probe is not None
        return {"step": self.state.step, **self.probe.measure(self.state.averaged())}, []

    def write(self) -> None:
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
            mean_F, deviation_F = train_NF.mean(dim=0), train_NF.std(dim=0).clamp_min(SMALLEST_DEVIATION)
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
        return features_of(lambda images: model.features(images.permute(0, 3, 1, 2).float() / 255), images_NHWC)
