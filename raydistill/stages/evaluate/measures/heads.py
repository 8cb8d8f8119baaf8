"""Evaluate linear heads on frozen features, for a set that was distilled for them.

Every small training set gets the same head (`learning.heads`), seen in the same symmetric versions,
and its regularisation is chosen on validation galaxies. Two further training sets show the limits:

- `nearest_feature`: of each class the training galaxies nearest to its mean feature;
- `full_data_head`: the head of all training galaxies, with classes of equal weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import ray
import torch
from torch import Tensor

from raydistill.artifacts import kinds
from raydistill.config import Resources
from raydistill.errors import ArtifactIncompatible
from raydistill.learning.architectures import Architecture
from raydistill.learning.augment import Augmentation, Symmetries
from raydistill.learning.augmenting import labelled_orbit
from raydistill.learning.encoders import Encoder, features_of, frozen_encoders
from raydistill.learning.heads import balanced_weights, ridge_head
from raydistill.learning.networks import Network
from raydistill.learning.normalise import AnyNormalisation
from raydistill.learning.training import Evaluation, evaluation_of
from raydistill.log import progress
from raydistill.pipeline.plan import Plan
from raydistill.runtime.failures import translate_errors
from raydistill.runtime.resources import Processor, ensure_schedulable
from raydistill.runtime.tasks import worker_task
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.stages.evaluate.artifact import HEAD, UNSEEN
from raydistill.stages.evaluate.baselines import Teachers
from raydistill.stages.evaluate.fits import Split, TrainingSet
from raydistill.stages.evaluate.worker import row_of
from raydistill.stages.experts.artifact import TrajectoryStore
from raydistill.stages.pretrain.artifact import EncoderArtifact

REGULARISATIONS = (0.01, 0.1, 1.0, 10.0, 100.0)


class Splits(NamedTuple):
    """Normalised images and labels of the three splits."""

    train: Split
    validation: Split
    test: Split


@dataclass(frozen=True)
class HeadTask:
    """What a Ray task needs to make the encoders of a distilled set.

    Parameters
    ----------
    experts
        URI of the experts, and their network; None with encoders. All of them have heads, also those
        that `distill.experts` leaves out.
    encoders
        URIs of encoders in place of experts.
    unseen
        URIs of encoders with which the set was not made.
    named_networks
        Networks whose code the user names.
    normalisation
        Of all images.
    augmentation
        Its symmetries are those in which images are seen.
    counts
        Number of images of each class.
    processor
        Of the worker.
    """

    experts: tuple[str, Network] | None
    encoders: tuple[str, ...]
    unseen: tuple[str, ...]
    named_networks: tuple[Architecture, ...]
    normalisation: AnyNormalisation
    augmentation: Augmentation
    counts: tuple[int, ...]
    processor: Processor

    @classmethod
    def of(cls, distilled: DistilledSet, teachers: Teachers | None, plan: Plan) -> HeadTask | None:
        """Return the task of a set made for heads; None without what gives features."""
        config, parents = distilled.manifest.config.get("distill", {}), distilled.manifest.parents
        if config.get("objective", {}).get("kind") != "ridge":
            return None
        named = [parent for role, parent in parents.items() if role.startswith(f"{kinds.ENCODER}_")]
        opened = [EncoderArtifact.open(parent.uri) for parent in named]
        for artifact, parent in zip(opened, named, strict=True):
            if artifact.manifest.identity != parent.identity:
                what = "this is not the encoder that the distilled set was made with"
                raise ArtifactIncompatible(what, artifact.folder.uri, "restore it, or distil the set again")
        if not opened and teachers is None:
            return None
        unseen, identities = [EncoderArtifact.open(spec.folder) for spec in plan.unseen_encoders], set[str]()
        made_with = {parent.identity for parent in named}
        for artifact in unseen:
            if artifact.manifest.identity in made_with | identities:
                what = "this encoder is named twice, or the distilled set was made with it"
                raise ArtifactIncompatible(what, artifact.folder.uri, "leave it out of evaluate.encoders")
            artifact.require_gradient()  # now, and not after all networks are trained
            identities.add(artifact.manifest.identity)
        experts = None if opened or teachers is None else (teachers.store.folder.uri, teachers.network)
        return cls(
            experts, tuple(artifact.folder.uri for artifact in opened),
            tuple(artifact.folder.uri for artifact in unseen),
            plan.config.pretrain.networks,
            distilled.selected.normalisation,
            Augmentation(tuple(config["augmentation"]["operations"])), distilled.counts,
            Processor.of(plan.config.resources),
        )  # fmt: skip

    def make(self, images_NCHW: Tensor) -> Iterator[tuple[str, int, Encoder]]:
        """Yield the encoders, standardised on real images.

        Each has a name for its group, `HEAD` or `UNSEEN`, and a number in it.
        """
        for name, uris in ((HEAD, self.encoders), (UNSEEN, self.unseen)):
            for number, uri in enumerate(uris):
                artifact = EncoderArtifact.open(uri, verify=False)
                yield name, number, artifact.encoder(images_NCHW, self.normalisation, self.named_networks)
        if self.experts is not None:
            store, network = self.experts
            for number, end_P in enumerate(TrajectoryStore.open(store, verify=False).ends()):
                (encoder,) = frozen_encoders(network, [end_P], images_NCHW)
                yield HEAD, number, encoder


def head_rows(
    resources: Resources, head_task: HeadTask, splits: Splits, sets: list[list[TrainingSet]]
) -> list[dict[str, Any]]:
    """Return the rows of `runs.parquet`: a head on each encoder for each training set.

    Parameters
    ----------
    resources
        Of the run.
    head_task
        The encoders.
    splits
        All galaxies.
    sets
        Training sets, each with an entry per draw.
    """
    ensure_schedulable(resources)
    task = worker_task(evaluate_heads, resources, num_returns="streaming")
    rows: list[dict[str, Any]] = []
    with progress(None, "evaluating heads", "encoders") as shown, translate_errors("evaluate"):
        for reference in task.remote(head_task, ray.put(splits), sets):
            of_encoder = ray.get(reference)
            rows += of_encoder
            shown.advance(1, accuracy=of_encoder[0]["balanced_accuracy"])
    return rows


def evaluate_heads(task: HeadTask, splits: Splits, sets: list[list[TrainingSet]]) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each encoder, one per training set; runs in a Ray task."""
    device = task.processor.enter()
    moved = Splits(*((images.to(device), labels.to(device)) for images, labels in splits))
    for name, number, encoder in task.make(moved.train[0]):
        bench = _Bench(encoder, moved, task.augmentation.symmetries, len(task.counts))
        rows = [bench.row(draws[number % len(draws)]) for draws in sets]
        yield [
            row | {"seed": number, "network": name} for row in [*rows, bench.nearest(task.counts), bench.full_data()]
        ]


class _Bench:
    """Heads on one encoder."""

    def __init__(self, encoder: Encoder, splits: Splits, symmetries: Symmetries, num_classes: int) -> None:
        self._encoder, self._splits, self._symmetries, self._num_classes = encoder, splits, symmetries, num_classes
        self._features = Splits(*((features_of(encoder, images), labels) for images, labels in splits))

    def row(self, data: TrainingSet) -> dict[str, Any]:
        """Return the row of a training set."""
        like = self._splits.test[0]
        seen, targets = labelled_orbit(data.images_NCHW.to(like), data.targets_NK.to(like), self._symmetries)
        return self._best(data.name, data.draw, features_of(self._encoder, seen), targets, None)

    def nearest(self, counts: Sequence[int]) -> dict[str, Any]:
        """Return the row of the galaxies nearest to the mean feature of their class."""
        features_NF, labels_N = self._features.train
        chosen = []
        for label, count in enumerate(counts):
            rows = (labels_N == label).nonzero()[:, 0]
            distances = (features_NF[rows] - features_NF[rows].mean(dim=0)).square().sum(dim=1)
            order = distances.argsort()[torch.arange(count) % len(rows)]
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
        row = {"subject": name, "protocol": HEAD, "draw": draw, "lr": None, "validation": validations[best]}
        return row | row_of(self._score(self._features.test, heads[best]))

    def _score(self, split: Split, head_FK: Tensor) -> Evaluation:
        features_NF, labels_N = split
        return evaluation_of(features_NF @ head_FK, labels_N, self._num_classes)
