"""Run fits as Ray tasks, one per worker at a time; keep each result in a file."""

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
from raydistill.learning import metrics
from raydistill.learning.options.weighted_training import WeightedTraining
from raydistill.log import progress
from raydistill.runtime.failures import translate_errors
from raydistill.runtime.tasks import run_tasks, worker_task
from raydistill.stages.augment.config import Augment
from raydistill.stages.augment.fits import Fit
from raydistill.stages.augment.mixtures import Pool
from raydistill.stages.augment.worker import Common, TrainedFit, test_fits, train_fit
from raydistill.storage import Folder, checked, disk_errors
from raydistill.text import shown_name

FITS, TESTS = f"{PARTIAL}/fits", f"{PARTIAL}/tests"
FITS_PER_TEST_TASK = 8


@dataclass
class FitRunner:
    """Train and test classifiers; a fit whose file exists is not trained again.

    Parameters
    ----------
    folder
        Folder of the report.
    resources
        CPUs, GPUs and number of workers.
    options, training
        The part of the config, and its training without "auto".
    common
        Inputs that all fits share.
    real, votes, validation
        Pools of real galaxies, in Ray's object store: the training split with its labels and with
        its votes, and the validation split.
    sources
        Pools of each source, in Ray's object store.
    """

    folder: Folder
    resources: Resources
    options: Augment
    training: WeightedTraining
    common: Common
    real: Any
    votes: Any
    validation: Any
    sources: Mapping[str, Sequence[Any]]
    _known: dict[Fit, TrainedFit] = field(default_factory=dict)

    def train(self, fits: Sequence[Fit], description: str, filter_lrs: dict[int | None, float]) -> list[TrainedFit]:
        """Return the result of each fit.

        Parameters
        ----------
        fits
            The fits, with any repetitions.
        description
            The work, for the progress bar.
        filter_lrs
            Learning rate of `oversampling` by shots; its fits must be trained before those with a
            filter.
        """
        wanted = list(dict.fromkeys(fits))
        for fit in wanted:
            if fit not in self._known and (found := self._load(fit)) is not None:
                self._known[fit] = found
        missing = [fit for fit in wanted if fit not in self._known]
        # Fits with the same compiled code follow one another.
        missing.sort(key=lambda fit: repr(fit.training(self.options, self.training).augmentation) + fit.method)
        if missing:
            with (
                disk_errors(self.folder.uri),
                progress(len(wanted), description, "classifiers", start=len(wanted) - len(missing)) as shown,
                translate_errors("augment"),
            ):
                task = worker_task(train_fit, self.resources)
                for fit, result in run_tasks(missing, lambda fit: self._start(task, fit, filter_lrs), self.resources):
                    self._store(fit, result)
                    self._known[fit] = result._replace(theta_RP=np.empty(0))
                    shown.advance(
                        training_set=shown_name(fit.method),
                        validation=metrics.balanced_accuracy(result.confusion_RKK[-1]),
                    )
        return [self._known[fit] for fit in fits]

    def test(self, fits: Sequence[Fit], test: Pool) -> dict[Fit, np.ndarray]:
        """Return the counts [R, K, K] of each fit on the test split."""
        wanted = list(dict.fromkeys(fits))
        groups = [tuple(wanted[n : n + FITS_PER_TEST_TASK]) for n in range(0, len(wanted), FITS_PER_TEST_TASK)]
        stored, task = ray.put(test), worker_task(test_fits, self.resources)
        found: dict[Fit, np.ndarray] = {}
        with progress(len(wanted), "testing", "classifiers") as shown, translate_errors("augment"):
            for group, counts in run_tasks(
                groups,
                lambda group: task.remote([self._theta(fit) for fit in group], stored, self.common),
                self.resources,
            ):
                found |= dict(zip(group, counts, strict=True))
                shown.advance(len(group))
        return found

    def _start(self, task: Any, fit: Fit, filter_lrs: dict[int | None, float]) -> Any:
        classifier = fit.filter_classifier(filter_lrs)
        theta_P = None if classifier is None else self._theta(classifier)[-1]
        real = self.votes if fit.method == "generator_labels" else self.real
        added = self.sources[fit.source][fit.replicate] if fit.source else None
        training = fit.training(self.options, self.training)
        return task.remote(real, added, self.validation, fit, training, theta_P, self.common)

    def _store(self, fit: Fit, result: TrainedFit) -> None:
        tensors = {
            "theta": torch.tensor(result.theta_RP),
            "confusion": torch.tensor(result.confusion_RKK),
            "loss": torch.tensor(result.loss_R),
        }
        info = {"images": result.images, "diverged": result.diverged}
        checked.write(self.folder / FITS, f"{fit.key}.safetensors", pack_tensors(tensors, info))

    def _load(self, fit: Fit) -> TrainedFit | None:
        """Return a finished fit without its parameters; a damaged file counts as absent."""
        data = checked.read(self.folder / FITS, f"{fit.key}.safetensors")
        if data is None:
            return None
        tensors, info = unpack_tensors(data)
        return TrainedFit(np.empty(0), tensors["confusion"].numpy(), tensors["loss"].numpy(), **info)

    def _theta(self, fit: Fit) -> np.ndarray:
        data = checked.require(self.folder / FITS, f"{fit.key}.safetensors")
        theta_RP: np.ndarray = unpack_tensors(data)[0]["theta"].numpy()
        return theta_RP
