"""A fit: one network trained on one set, identified by the digest of its inputs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from raydistill.config import plain, sources
from raydistill.learning.architectures import Architecture
from raydistill.learning.options.training import Training
from raydistill.table import revision
from raydistill.text import shown_name

FIT_CACHE = "fit_cache"  # folder of a run: results of fits, and images of slow baselines; it may be removed

Split = tuple[Tensor, Tensor]  # normalised images [N, C, H, W], labels [N]
LearningRate = float | None  # None: the training set's own learning rates


@dataclass(frozen=True)
class TrainingSet:
    """Images and targets to train on, and the learning rates of the set, if any."""

    name: str
    draw: int
    images_NCHW: Tensor
    targets_NK: Tensor
    student_lrs: Tensor | None = None

    @cached_property
    def digest(self) -> str:
        """Return the sha256 of the tensors; the name does not count."""
        sha256 = hashlib.sha256()
        for tensor in (self.images_NCHW, self.targets_NK, self.student_lrs):
            if tensor is not None:
                sha256.update(tensor.cpu().contiguous().numpy().data)
        return sha256.hexdigest()


@dataclass(frozen=True)
class Fit:
    """One network to train. lr replaces the learning rate in `training`."""

    data: TrainingSet
    protocol: str
    training: Training
    lr: LearningRate
    architecture: Architecture
    seed: int

    def digest(self, evaluated_on: str) -> str:
        """Return the key of this fit's cached result. evaluated_on: as in `Evaluator`."""
        inputs = [
            plain(self.training),
            self.lr,
            plain(self.architecture),
            sources(self.architecture),
            self.seed,
        ]
        text = json.dumps([revision("evaluation"), self.data.digest, inputs, evaluated_on])
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def title(self) -> str:
        """The training set and its protocol, for the log; `full_data` has no protocol."""
        name = shown_name(self.data.name)
        return f"{name} under {self.protocol}" if self.protocol else name

    def labels(self) -> dict[str, Any]:
        """Return the columns of `runs.parquet` that name the fit, which are not cached."""
        names = {"subject": self.data.name, "protocol": self.protocol, "network": self.architecture.name}
        return {**names, "draw": self.data.draw, "seed": self.seed % 2**31, "lr": self.lr}
