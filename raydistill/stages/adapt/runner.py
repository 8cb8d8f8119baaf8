"""Run fits as Ray tasks, one per worker at a time, and keep each result in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ray
import torch

from raydistill.artifacts.manifest import PARTIAL
from raydistill.artifacts.tensors import pack_tensors, unpack_tensors
from raydistill.config import Resources
from raydistill.log import progress
from raydistill.runtime.failures import translate_errors
from raydistill.runtime.tasks import run_tasks, worker_task
from raydistill.stages.adapt.fits import Fit
from raydistill.stages.adapt.opening import Pictures
from raydistill.stages.adapt.worker import Common, TrainedFit, predict, train_fit
from raydistill.storage import Folder, checked, disk_errors

FITS = f"{PARTIAL}/fits"


@dataclass
class FitRunner:
    """Train networks; a fit whose file exists is not trained again.

    Parameters
    ----------
    folder
        Folder of the report.
    resources
        CPUs, GPUs and number of workers.
    common
        What all fits share.
    training_sets
        Training sets by name, in Ray's object store; "" is that of the ceiling.
    unlabelled
        Images of the target, in Ray's object store.
    validation
        Validation galaxies of the source, and of the target for the ceiling, in Ray's object store.
    """

    folder: Folder
    resources: Resources
    common: Common
    training_sets: Mapping[str, Any]
    unlabelled: Any
    validation: Mapping[str, Any]
    _known: dict[Fit, TrainedFit] = field(default_factory=dict)

    def train(self, fits: Sequence[Fit], description: str) -> list[TrainedFit]:
        """Return the result of each fit."""
        wanted = list(dict.fromkeys(fits))
        for fit in wanted:
            if fit not in self._known and (found := self._load(fit)) is not None:
                self._known[fit] = found
        missing = [fit for fit in wanted if fit not in self._known]
        if missing:
            with (
                disk_errors(self.folder.uri),
                progress(len(wanted), description, "networks", start=len(wanted) - len(missing)) as shown,
                translate_errors("adapt"),
            ):
                task = worker_task(train_fit, self.resources)
                for fit, result in run_tasks(missing, lambda fit: self._start(task, fit), self.resources):
                    self._store(fit, result)
                    self._known[fit] = result
                    shown.advance(training_set=fit.title, validation=result.validation)
        return [self._known[fit] for fit in fits]

    def predict(self, fits: Sequence[Fit], pictures: Mapping[str, Pictures]) -> dict[tuple[Fit, str], np.ndarray]:
        """Return class probabilities [N, K] of each fit for each of some sets of pictures."""
        thetas, task = [self._known[fit].theta_P for fit in fits], worker_task(predict, self.resources)
        stored = {name: ray.put(one.images) for name, one in pictures.items()}
        items = [(number, name) for number in range(len(fits)) for name in pictures]
        found = {}
        with progress(len(items), "testing", "predictions") as shown, translate_errors("adapt"):
            for (number, name), rows in run_tasks(
                items, lambda item: task.remote([thetas[item[0]]], stored[item[1]], self.common), self.resources
            ):
                found[fits[number], name] = rows[0]
                shown.advance()
        return found

    def _start(self, task: Any, fit: Fit) -> Any:
        unlabelled = self.unlabelled if fit.method == "adapted" else None
        survey = "target" if fit.method == "ceiling" else "source"
        return task.remote(self.training_sets[fit.training_set], unlabelled, self.validation[survey], fit, self.common)

    def _store(self, fit: Fit, result: TrainedFit) -> None:
        info = {"validation": result.validation, "diverged": result.diverged}
        packed = pack_tensors({"theta": torch.tensor(result.theta_P)}, info)
        checked.write(self.folder / FITS, f"{fit.key}.safetensors", packed)

    def _load(self, fit: Fit) -> TrainedFit | None:
        """Return a finished fit; a damaged file counts as absent."""
        data = checked.read(self.folder / FITS, f"{fit.key}.safetensors")
        if data is None:
            return None
        tensors, info = unpack_tensors(data)
        return TrainedFit(tensors["theta"].numpy(), info["validation"], info["diverged"])
