"""Train and test the fits of a comparison as Ray tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ray

from raydistill.artifacts.manifest import PARTIAL
from raydistill.learning import metrics
from raydistill.learning.options.weighted_training import WeightedTraining
from raydistill.log import progress
from raydistill.runtime import fits
from raydistill.runtime.failures import translate_errors
from raydistill.runtime.tasks import run_tasks, worker_task
from raydistill.stages.augment.config import Augment
from raydistill.stages.augment.fits import Fit
from raydistill.stages.augment.mixtures import Pool
from raydistill.stages.augment.worker import Common, TrainedFit, test_fits, train_fit
from raydistill.text import shown_name

FITS = f"{PARTIAL}/fits"
FITS_PER_TEST_TASK = 8


@dataclass(kw_only=True)
class FitRunner(fits.FitRunner[Fit, TrainedFit]):
    """Train and test classifiers.

    Parameters
    ----------
    options, training
        The part of the config, and its training without "auto".
    common
        Inputs that all fits share.
    real, votes, validation
        Pools of real galaxies, in Ray's object store: the training split with its labels and with
        its votes, and the validation split.
    sources
        Pools of each source, in Ray's object store.
    filter_lrs
        Learning rate of `oversampling` by shots; its fits must be trained before those with a
        filter.
    """

    stage, task, result, unit = "augment", train_fit, TrainedFit, "classifiers"
    options: Augment
    training: WeightedTraining
    common: Common
    real: Any
    votes: Any
    validation: Any
    sources: Mapping[str, Sequence[Any]]
    filter_lrs: dict[int | None, float] = field(default_factory=dict)

    def missing(self, fits: Sequence[Fit]) -> list[Fit]:
        """Return the fits without a result; those of one compiled code are neighbours."""
        return sorted(super().missing(fits), key=lambda fit: repr(self._training(fit).augmentation) + fit.method)

    def arguments(self, fit: Fit) -> tuple[Any, ...]:
        classifier = fit.filter_classifier(self.filter_lrs)
        theta_P = None if classifier is None else self._theta(classifier)[-1]
        real = self.votes if fit.method == "generator_labels" else self.real
        added = self.sources[fit.source][fit.replicate] if fit.source else None
        return real, added, self.validation, fit, self._training(fit), theta_P, self.common

    def unpack(self, data: bytes) -> TrainedFit:
        """Return a result without its parameters."""
        return super().unpack(data)._replace(theta_RP=np.empty(0))

    def shown(self, fit: Fit, result: TrainedFit) -> dict[str, Any]:
        accuracy = metrics.balanced_accuracy(result.confusion_RKK[-1])
        return {"training_set": shown_name(fit.method), "validation": accuracy}

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

    def _training(self, fit: Fit) -> WeightedTraining:
        return fit.training(self.options, self.training)

    def _theta(self, fit: Fit) -> np.ndarray:
        return super().unpack(self.stored(fit)).theta_RP
