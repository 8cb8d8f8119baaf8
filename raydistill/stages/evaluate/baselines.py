"""The baselines: sets of the distilled set's size, without trajectory matching."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import ray
import torch
from torch import Tensor

from raydistill.artifacts.manifest import identity_of
from raydistill.artifacts.tensors import pack_tensors, unpack_tensors
from raydistill.config import Baseline, Config, plain, sources
from raydistill.distillation import coreset
from raydistill.distillation.characteristic import characteristic_matching
from raydistill.distillation.coreset import Coreset
from raydistill.distillation.distribution import distribution_matching
from raydistill.distillation.options.characteristic import CharacteristicMatching
from raydistill.distillation.options.distribution import DistributionMatching
from raydistill.learning.networks import build_network
from raydistill.log import progress
from raydistill.runtime.cluster import PROGRESS_INTERVAL
from raydistill.runtime.failures import translate_errors
from raydistill.runtime.resources import device_of, ensure_schedulable
from raydistill.seeding import fold_in, generator
from raydistill.stages.evaluate.fits import Split
from raydistill.storage import Folder, checked
from raydistill.table import revision


@dataclass(frozen=True)
class Baselines:
    """Make the images of each baseline.

    Parameters
    ----------
    config
        The config of the run, with the options of `dm` and `ncfm`, and the network.
    train
        The training split to choose from.
    num_classes
        Number of classes.
    ipc
        Images per class, as many as the distilled set stores.
    root
        Seed of the evaluation.
    cache
        Folder of cached images of `dm` and `ncfm`.
    evaluated_on
        As in `Evaluator`; part of the name under which images are cached.
    """

    config: Config
    train: Split
    num_classes: int
    ipc: int
    root: int
    cache: Folder
    evaluated_on: str

    def images(self, name: Baseline, draw: int) -> Coreset:
        """Return classes * ipc images, sorted by class.

        The draw seeds `random_real` and `class_mean`.
        """
        arguments = (*self.train, self.num_classes, self.ipc)
        match name:
            case "random_real":
                return coreset.random_real(*arguments, generator(self.root, name, draw))
            case "class_mean":
                return coreset.class_mean(*arguments, generator(self.root, name, draw))
            case "k_center":
                return coreset.k_center(*arguments)
            case "herding":
                return coreset.herding(*arguments)
            case "dm" | "ncfm":
                return coreset.with_class_origins(self._matched(name), self.train[1], self.num_classes)

    def _matched(self, name: Literal["dm", "ncfm"]) -> Tensor:
        """Return the images of a feature-matching method, cached or from a Ray task."""
        config, options = self.config, _options(self.config, name)
        seed = fold_in(self.root, name, options.seed)
        inputs = {
            "revision": revision("evaluation"),
            name: plain(options),
            "network": plain(config.network),
            "sources": sources(config.network),
            "ipc": self.ipc,
        }
        if name == "ncfm":
            inputs["augmentation"] = plain(config.evaluate.dm.augmentation)
        file = f"{name}-{identity_of(name, inputs, {'curated': self.evaluated_on}, seed)}.safetensors"
        if (cached := checked.read(self.cache, file)) is not None:
            return unpack_tensors(cached)[0]["images"]
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
            progress(options.iterations, f"matching distributions ({name})", "iterations") as shown,
            translate_errors("evaluate"),
        ):
            for reference in task.remote(config, name, ray.put(self.train), self.num_classes, self.ipc, seed):
                iteration, loss, images = ray.get(reference)
                shown.update(iteration, loss=loss)
        assert images is not None
        checked.write(self.cache, file, pack_tensors({"images": images}))
        return images


def _options(config: Config, name: Literal["dm", "ncfm"]) -> DistributionMatching | CharacteristicMatching:
    return config.evaluate.dm if name == "dm" else config.evaluate.ncfm


def _match(
    config: Config, name: Literal["dm", "ncfm"], train: Split, num_classes: int, ipc: int, seed: int
) -> Iterator[tuple[int, float, Tensor | None]]:
    """Yield (iteration, loss, None) once per `PROGRESS_INTERVAL`; the last has images.

    This function runs in a Ray task.
    """
    resources = config.resources
    torch.set_num_threads(resources.worker_threads)
    images, labels = (tensor.to(device_of(resources.gpus)) for tensor in train)
    network = build_network(config.network, num_classes, images.shape[-1])
    options, reported, arguments = (
        _options(config, name),
        time.monotonic(),
        (network, images, labels, num_classes, ipc, seed),
    )
    if isinstance(options, DistributionMatching):
        run = distribution_matching(options, *arguments)
    else:
        run = characteristic_matching(options, config.evaluate.dm.augmentation, *arguments)
    for iteration, loss, matched in run:
        last = iteration == options.iterations
        if last or time.monotonic() - reported > PROGRESS_INTERVAL:
            reported = time.monotonic()
            yield iteration, loss, matched.cpu() if last else None
