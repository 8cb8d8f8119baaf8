"""Train the fits of an adaptation, and predict with them, as Ray tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray

from raydistill.artifacts.manifest import PARTIAL
from raydistill.log import progress
from raydistill.runtime import fits
from raydistill.runtime.failures import translate_errors
from raydistill.runtime.tasks import run_tasks, worker_task
from raydistill.stages.adapt.fits import Fit
from raydistill.stages.adapt.opening import Pictures
from raydistill.stages.adapt.worker import Common, TrainedFit, predict, train_fit

FITS = f"{PARTIAL}/fits"


@dataclass(kw_only=True)
class FitRunner(fits.FitRunner[Fit, TrainedFit]):
    """Train networks on the source, and align them with the target.

    Parameters
    ----------
    common
        What all fits share.
    training_sets
        Training sets by name, in Ray's object store; "" is that of the ceiling.
    unlabelled
        Images of the target, in Ray's object store.
    validation
        Validation galaxies of the source, and of the target for the ceiling, in Ray's object store.
    """

    stage, task, result = "adapt", train_fit, TrainedFit
    common: Common
    training_sets: Mapping[str, Any]
    unlabelled: Any
    validation: Mapping[str, Any]

    def arguments(self, fit: Fit) -> tuple[Any, ...]:
        unlabelled = self.unlabelled if fit.method == "adapted" else None
        survey = "target" if fit.method == "ceiling" else "source"
        return self.training_sets[fit.training_set], unlabelled, self.validation[survey], fit, self.common

    def shown(self, fit: Fit, result: TrainedFit) -> dict[str, Any]:
        return {"training_set": fit.title, "validation": result.validation}

    def predict(self, fits: Sequence[Fit], pictures: Mapping[str, Pictures]) -> dict[tuple[Fit, str], np.ndarray]:
        """Return class probabilities [N, K] of each fit for each of some sets of pictures."""
        thetas, task = [result.theta_P for result in self.results(fits)], worker_task(predict, self.resources)
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
