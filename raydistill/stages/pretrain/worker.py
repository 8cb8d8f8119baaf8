"""The workers that train one encoder together (`curate.feeding.worker`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from raydistill.artifacts.tables import write_rows
from raydistill.artifacts.tensors import write_tensors
from raydistill.diffusion.training import TrainingImages
from raydistill.learning.contrast import (
    ContrastiveModel,
    init_training,
    shard_gradient,
)
from raydistill.learning.encoders import features_of
from raydistill.learning.normalise import Normalisation
from raydistill.seeding import fold_in
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.feeding.feed import Pictures
from raydistill.stages.curate.feeding.worker import FedTask, FedWorker, Records, run_worker
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
from raydistill.stages.pretrain.probe import choose_probed, probe


@dataclass(frozen=True)
class PretrainTask(FedTask):
    """The arguments of a worker."""

    train: Pictures  # of the main set, whose labels the measurement uses
    pretrain: Pretrain


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
        splits = {"train": task.train, "validation": task.validation} if self.rank == 0 else {}
        self.probed = {name: choose_probed(pictures, task.seed, name) for name, pictures in splits.items()}

    def gradient(self, images: TrainingImages, shard: int) -> tuple[Tensor, Tensor]:
        return shard_gradient(self.state, images.images_NHWC, self.task.pretrain.training, self.task.seed, shard)

    def add_losses(self, losses: list[Tensor]) -> None:
        self.records.loss += float(torch.stack(losses).double().mean())
        self.records.count += 1

    def take_losses(self) -> dict[str, Any]:
        loss = self.records.loss / self.records.count
        self.records.loss, self.records.count = 0.0, 0
        return {"loss": loss}

    def measure(self) -> tuple[dict[str, Any], list[str]]:
        model = self.state.averaged()
        features = {name: self._features(model, images) for name, (images, _) in self.probed.items()}
        labels = {name: labels_N for name, (_, labels_N) in self.probed.items()}
        classes = self.curated.num_classes if self.curated.has_classes else 0
        return {"step": self.state.step, **probe(features, labels, classes)}, []

    @torch.no_grad()
    def _features(self, model: ContrastiveModel, images_NHWC: Tensor) -> Tensor:
        pixels = images_NHWC.to(model.mean.device)
        return features_of(lambda images: model.features(images.permute(0, 3, 1, 2).float() / 255), pixels).cpu()

    def write(self) -> None:
        model, summary, training = self.state.averaged(), self.curated.summary, self.task.pretrain.training
        tensors = {name: parameter.detach().cpu() for name, parameter in model.backbone.named_parameters()}
        write_tensors(self.folder, MODEL, tensors, {"kind": KIND})
        size = summary.image_size
        described = EncoderSummary(
            **summary.origin,
            mean_C=self.normalisation.mean_C,
            std_C=self.normalisation.std_C,
            num_features=model.features(torch.zeros(1, 3, size, size, device=model.mean.device)).shape[1],
            num_images=len(self.task.pictures),
            num_parameters=sum(parameter.numel() for parameter in model.backbone.parameters()),
            steps=training.steps,
            batch_size=training.batch_size,
        )
        self.folder.write(SUMMARY, described.to_json())
        write_rows(self.folder, HISTORY, self.records.history, HISTORY_SCHEMA)
        write_rows(self.folder, VALIDATION, self.records.validation, VALIDATION_SCHEMA)


def channel_normalisation(curated: CuratedSet) -> Normalisation:
    """Return mean and deviation of each channel, also of a whitened set."""
    normalisation = curated.normalisation
    if isinstance(normalisation, Normalisation):
        return normalisation
    return Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
