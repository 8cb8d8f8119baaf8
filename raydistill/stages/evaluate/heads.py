"""Evaluate linear heads on the experts' frozen features, for a set that was distilled for them.

Every training set gets the same head (`learning.heads`), seen in the same symmetric versions, and its
regularisation is chosen on validation galaxies. Two further training sets show the limits:

- `nearest_feature`: of each class the training galaxies nearest to its mean feature;
- `full_data_head`: the head of all training galaxies, with classes of equal weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import ray
import torch
from torch import Tensor

from raydistill.config import Resources
from raydistill.learning.augment import Augmentation, Symmetries
from raydistill.learning.augmenting import orbit
from raydistill.learning.encoders import Encoder, features_of, frozen_encoders
from raydistill.learning.heads import balanced_weights, ridge_head
from raydistill.learning.networks import Network
from raydistill.learning.training import Evaluation, evaluation_of
from raydistill.log import progress
from raydistill.runtime.failures import translate_errors
from raydistill.runtime.resources import Processor, ensure_schedulable
from raydistill.runtime.tasks import worker_task
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.stages.evaluate.artifact import HEAD
from raydistill.stages.evaluate.fits import Split, TrainingSet
from raydistill.stages.evaluate.training_sets import Teachers
from raydistill.stages.experts.artifact import TrajectoryStore

REGULARISATIONS = (0.01, 0.1, 1.0, 10.0, 100.0)


class Splits(NamedTuple):
    """Normalised images and labels of the three splits."""

    train: Split
    validation: Split
    test: Split


def made_for_heads(distilled: DistilledSet) -> bool:
    """Return whether a distilled set was made for heads on features."""
    kind = distilled.manifest.config.get("distill", {}).get("objective", {}).get("kind")
    return bool(kind == "ridge")


def augmentation_of(distilled: DistilledSet) -> Augmentation:
    """Return the operations of the augmentation with which a set was made."""
    return Augmentation(tuple(distilled.manifest.config["distill"]["augmentation"]["operations"]))


def head_rows(
    resources: Resources,
    distilled: DistilledSet,
    teachers: Teachers,
    splits: Splits,
    sets: list[list[TrainingSet]],
) -> list[dict[str, Any]]:
    """Return the rows of `runs.parquet`: a head on each expert for each training set.

    Parameters
    ----------
    resources
        Of the run.
    distilled
        The set, whose augmentation gives the symmetries.
    teachers
        Its experts.
    splits
        All galaxies.
    sets
        Training sets, each with an entry per draw.
    """
    ensure_schedulable(resources)
    task = worker_task(evaluate_heads, resources, num_returns="streaming")
    rows: list[dict[str, Any]] = []
    with progress(teachers.store.num_experts, "evaluating heads", "experts") as shown, translate_errors("evaluate"):
        for reference in task.remote(
            teachers.store.folder.uri, teachers.network, ray.put(splits), sets, augmentation_of(distilled),
            len(distilled.class_names), Processor.of(resources),
        ):  # fmt: skip
            of_expert = ray.get(reference)
            rows += of_expert
            shown.advance(1, accuracy=of_expert[0]["balanced_accuracy"])
    return rows


def evaluate_heads(
    store: str,
    network: Network,
    splits: Splits,
    sets: list[list[TrainingSet]],
    augmentation: Augmentation,
    num_classes: int,
    processor: Processor,
) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each expert: one per training set. This function runs in a Ray task.

    Parameters
    ----------
    store
        URI of the experts.
    network
        Their network.
    splits
        All galaxies.
    sets
        Training sets, each with an entry per draw.
    augmentation
        Its symmetries are those in which images are seen.
    num_classes
        K.
    processor
        Of the worker.
    """
    device = processor.enter()
    moved = Splits(*((images.to(device), labels.to(device)) for images, labels in splits))
    for expert, end_P in enumerate(TrajectoryStore.open(store, verify=False).ends()):
        (encoder,) = frozen_encoders(network, [end_P], moved.train[0])
        bench = _Bench(encoder, moved, augmentation.symmetries, num_classes)
        rows = [bench.row(draws[expert % len(draws)]) for draws in sets]
        ipc = len(sets[0][0].images_NCHW) // num_classes
        yield [row | {"seed": expert} for row in [*rows, bench.nearest(ipc), bench.full_data()]]


class _Bench:
    """Heads on one encoder."""

    def __init__(self, encoder: Encoder, splits: Splits, symmetries: Symmetries, num_classes: int) -> None:
        self._encoder, self._splits, self._symmetries, self._num_classes = encoder, splits, symmetries, num_classes
        self._features = Splits(*((features_of(encoder, images), labels) for images, labels in splits))

    def row(self, data: TrainingSet) -> dict[str, Any]:
        """Return the row of a training set."""
        seen = orbit(data.images_NCHW.to(self._splits.test[0]), self._symmetries)
        targets = data.targets_NK.to(seen).repeat_interleave(len(seen) // len(data.images_NCHW), dim=0)
        return self._best(data.name, data.draw, features_of(self._encoder, seen), targets, None)

    def nearest(self, ipc: int) -> dict[str, Any]:
        """Return the row of the training galaxies nearest to the mean feature of their class."""
        features_NF, labels_N = self._features.train
        chosen = []
        for label in range(self._num_classes):
            rows = (labels_N == label).nonzero()[:, 0]
            distances = (features_NF[rows] - features_NF[rows].mean(dim=0)).square().sum(dim=1)
            order = distances.argsort()[torch.arange(ipc) % len(rows)]
            chosen.append(rows[order])
        index = torch.cat(chosen)
        targets = torch.nn.functional.one_hot(labels_N[index], self._num_classes).to(features_NF)
        return self.row(TrainingSet("nearest_feature", 0, self._splits.train[0][index], targets))

    def full_data(self) -> dict[str, Any]:
        """Return the row of all training galaxies."""
        features_NF, labels_N = self._features.train
        targets = torch.nn.functional.one_hot(labels_N, self._num_classes).to(features_NF)
        return self._best("full_data_head", 0, features_NF, targets, balanced_weights(labels_N, self._num_classes))

    def _best(self, name: str, draw: int, features: Tensor, targets: Tensor, weights: Tensor | None) -> dict[str, Any]:
        centred = targets - 1 / self._num_classes
        heads = [ridge_head(features, centred, strength, weights) for strength in REGULARISATIONS]
        validations = [self._score(self._features.validation, head).balanced_accuracy for head in heads]
        best = max(range(len(heads)), key=validations.__getitem__)
        result = self._score(self._features.test, heads[best])
        return {
            "subject": name,
            "protocol": HEAD,
            "network": HEAD,
            "draw": draw,
            "lr": None,
            "validation": validations[best],
            "accuracy": result.accuracy,
            "balanced_accuracy": result.balanced_accuracy,
            "calibration_error": result.calibration_error,
            "confusion": result.confusion_KK.reshape(-1).tolist(),
            "predicted": result.predicted_N.tolist(),
        }

    def _score(self, split: Split, head_FK: Tensor) -> Evaluation:
        features_NF, labels_N = split
        return evaluation_of(features_NF @ head_FK, labels_N, self._num_classes)
