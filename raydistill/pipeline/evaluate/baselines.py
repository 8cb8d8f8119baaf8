"""The small training sets without any matching of trajectories that a distilled set has to beat."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import torch
from torch import Tensor

from raydistill.artifacts.manifest import REVISIONS, identity_of
from raydistill.config import Baseline, Config, plain, sources
from raydistill.core import coreset
from raydistill.core.coreset import Coreset
from raydistill.core.distribution import distribution_matching
from raydistill.core.networks import build
from raydistill.log import progress
from raydistill.pipeline.evaluate.evaluator import Split
from raydistill.pipeline.runtime.cluster import PROGRESS_INTERVAL
from raydistill.pipeline.runtime.failures import translate_errors
from raydistill.pipeline.runtime.resources import device_of, ensure_schedulable
from raydistill.seeding import fold_in, generator
from raydistill.storage import Folder


@dataclass(frozen=True)
class Baselines:
    """kept: where images that took long to make are remembered. judged_on: as of `Judge`."""

    config: Config
    taught: Split
    num_classes: int
    ipc: int
    root: int
    kept: Folder
    judged_on: str

    def images(self, name: Baseline, draw: int) -> Coreset:
        """classes * ipc images, sorted by class. Only `random_real` differs from draw to draw."""
        given = (*self.taught, self.num_classes, self.ipc)
        match name:
            case "random_real":
                return coreset.random_real(*given, generator(self.root, name, draw))
            case "class_mean":
                return coreset.class_mean(*given, generator(self.root, name, draw))
            case "k_center":
                return coreset.k_center(*given)
            case "herding":
                return coreset.herding(*given)
            case "dm":
                return coreset.of_whole_classes(self._distribution_matching(), self.taught[1], self.num_classes)

    def _distribution_matching(self) -> Tensor:
        config, seed = self.config, fold_in(self.root, "dm", self.config.evaluate.dm.seed)
        how = {
            "revision": REVISIONS["evaluation"],
            "dm": plain(config.evaluate.dm),
            "network": plain(config.network),
            "sources": sources(config.network),
            "ipc": self.ipc,
        }
        name = f"dm-{identity_of('dm', how, {'curated': self.judged_on}, seed)}.npy"
        if self.kept.exists(name):
            with suppress(ValueError, EOFError):  # damaged, and so made anew
                return torch.from_numpy(np.load(io.BytesIO(self.kept.read(name)), allow_pickle=False))
        resources = config.resources
        ensure_schedulable(resources, resources.cpus, resources.gpus, "")
        task: Any = ray.remote(
            num_cpus=resources.cpus,
            num_gpus=resources.gpus,
            max_retries=resources.max_restarts,
            num_returns="streaming",
        )(_match)
        images = None
        with (
            progress(config.evaluate.dm.iterations, "matching distributions", "iterations") as shown,
            translate_errors("evaluate"),
        ):
            for reference in task.remote(config, ray.put(self.taught), self.num_classes, self.ipc, seed):
                iteration, loss, images = ray.get(reference)
                shown.update(iteration, loss=loss)
        assert images is not None
        with self.kept.writing(name) as path, open(path, "wb") as stream:
            np.save(stream, images.numpy(), allow_pickle=False)
        return images


def _match(
    config: Config, taught: Split, num_classes: int, ipc: int, seed: int
) -> Iterator[tuple[int, float, Tensor | None]]:
    """In the worker: (iteration, loss, None) every so often, and the images with the last."""
    resources = config.resources
    torch.set_num_threads(resources.worker_threads)
    images, labels = (tensor.to(device_of(resources.gpus)) for tensor in taught)
    network = build(config.network, num_classes, images.shape[-1])
    dm, told = config.evaluate.dm, time.monotonic()
    for iteration, loss, matched in distribution_matching(dm, network, images, labels, num_classes, ipc, seed):
        last = iteration == dm.iterations
        if last or time.monotonic() - told > PROGRESS_INTERVAL:
            told = time.monotonic()
            yield iteration, loss, matched.cpu() if last else None
