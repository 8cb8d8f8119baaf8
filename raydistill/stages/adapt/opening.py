"""Open the sets of an adaptation, and match the classes of the two surveys."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from raydistill.artifacts.manifest import Manifest
from raydistill.artifacts.tables import LabelledImages
from raydistill.errors import ArtifactIncompatible, ConfigError, join_hint, nearest
from raydistill.galaxies.labels import spell
from raydistill.galaxies.selection import Split
from raydistill.learning.encoders import mean_and_deviation
from raydistill.learning.normalise import one_hot
from raydistill.learning.weighted_training import TrainingSet, drawing_probabilities
from raydistill.pipeline.plan import Plan
from raydistill.runtime.stages import require_classes
from raydistill.stages.adapt.artifact import require_target, target_spec, training_specs
from raydistill.stages.adapt.config import Matching
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill import artifact as distilled
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.stages.pretrain.describers import describe_pictures, open_describer
from raydistill.stages.sample import artifact as synthetic
from raydistill.stages.sample.artifact import NO_CLASS, SyntheticSet
from raydistill.statistics.quantiles import QuantileMap

SOURCE = "source"  # the training set of the source's galaxies
UNSEEN = -1  # label of a target's galaxy whose class the source lacks
MIN_SHARED = 2  # classes


class Pictures(NamedTuple):
    """Inputs of networks [N, C, H, W], and source labels [N], -1 for an unseen class.

    The inputs are normalised images, or features in the form of `as_images`.
    """

    images: Tensor
    labels: Tensor

    def known(self) -> Pictures:
        """Return the pictures of classes that the source has."""
        rows = self.labels != UNSEEN
        return Pictures(self.images[rows], self.labels[rows])


@dataclass(frozen=True)
class Surveys:
    """The source and the target.

    Attributes
    ----------
    source, target
        The curated sets.
    label_of_target
        Label in the source of each class of the target, -1 for a class that it lacks.
    features
        Gives the features float32 [N, F] of uint8 pictures. None: networks take pictures.
    """

    source: CuratedSet
    target: CuratedSet
    label_of_target: tuple[int, ...]
    features: Callable[[Tensor], Tensor] | None = None

    def source_pictures(self, split: Split) -> Pictures:
        """Return a split of the source."""
        loaded = self._source_training if split == "train" else self.source.load(split)
        return Pictures(self.inputs(loaded.images_NHWC, self.source), loaded.labels_N)

    def target_pictures(self, split: Split, matching: Matching) -> Pictures:
        """Return a split of the target, with pictures matched to those of the source."""
        loaded = self._target_training if split == "train" else self.target.load(split)
        by = self.target if matching == "channels" else self.source
        images = self._quantiles.apply(loaded.images_NHWC) if matching == "quantiles" else loaded.images_NHWC
        labels = torch.tensor(self.label_of_target)[loaded.labels_N]
        return Pictures(self.inputs(images, by), labels)

    def inputs(self, images_NHWC: Tensor, by: CuratedSet) -> Tensor:
        """Return the inputs of networks, on the scale of a survey's training galaxies."""
        if self.features is None:
            return by.normalisation.apply(images_NHWC)
        mean_F, deviation_F = self._scales[by is self.source]
        return as_images((self.features(images_NHWC) - mean_F) / deviation_F)

    @cached_property
    def _scales(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Return what standardises features: of the target, then of the source."""
        assert self.features is not None
        target, source = (loaded.images_NHWC for loaded in (self._target_training, self._source_training))
        return mean_and_deviation(self.features(target)), mean_and_deviation(self.features(source))

    def shared_labels(self, split: Split) -> set[int]:
        """Return the source labels of a target split's galaxies, without unseen classes."""
        labels = self.target.table(split, ["object_id"])["label"].to_pylist()
        return {self.label_of_target[label] for label in labels} - {UNSEEN}

    @cached_property
    def _quantiles(self) -> QuantileMap:
        """Return the map from target pixels to source pixels, over all training galaxies."""
        return QuantileMap.between(self._target_training.images_NHWC, self._source_training.images_NHWC)

    @cached_property
    def _source_training(self) -> LabelledImages:
        """Return the decoded training galaxies of the source."""
        return self.source.load("train")

    @cached_property
    def _target_training(self) -> LabelledImages:
        """Return the decoded training galaxies of the target."""
        return self.target.load("train")

    @property
    def unseen(self) -> list[str]:
        """Return the names of the target's classes that the source lacks."""
        return [
            name for name, label in zip(self.target.class_names, self.label_of_target, strict=True) if label == UNSEEN
        ]


def open_surveys(plan: Plan) -> Surveys:
    """Open and check both surveys.

    Raises
    ------
    ArtifactMissing
        A curated set does not exist yet.
    ArtifactIncompatible
        A set has no classes or lacks a split, or the sets differ in image size or alignment.
    ConfigError
        `adapt.classes` names an unknown class, or a class of the target has no class of the source.
    """
    require_target(plan)
    source, other = CuratedSet.open(plan.curated.folder), CuratedSet.open(target_spec(plan).folder)
    for survey in (source, other):
        require_classes(survey)
        survey.require_splits("train", "validation", "test")
    ours, theirs = source.summary, other.summary
    if theirs.image_size != ours.image_size:
        what = f"its images have {theirs.image_size} px, those of the source {ours.image_size}"
        raise ArtifactIncompatible(what, other.folder.uri, "give both surveys the same curate.image_size")
    if theirs.aligned != ours.aligned:
        which = ("aligned", "not aligned") if theirs.aligned else ("not aligned", "aligned")
        what = f"its galaxies are {which[0]} to their major axis, those of the source are {which[1]}"
        raise ArtifactIncompatible(what, other.folder.uri, "give both surveys the same curate.align")
    labels = match_classes(source.class_names, other.class_names, plan.config.adapt.classes)
    surveys = Surveys(source, other, labels, _features(plan, source))
    check_shared(len(surveys.shared_labels("train") & surveys.shared_labels("test")), other.folder.uri)
    return surveys


def _features(plan: Plan, source: CuratedSet) -> Callable[[Tensor], Tensor] | None:
    if not plan.config.adapt.features:
        return None
    describer, resources = open_describer(plan, source), plan.config.resources
    return lambda images_NHWC: describe_pictures(describer, images_NHWC, resources, "adapt", "describing")


def as_images(features_NF: Tensor) -> Tensor:
    """Return features as images [N, 3, S, S], filled up with zeros, for an mlp."""
    side = math.ceil(math.sqrt(features_NF.shape[1] / 3))
    return F.pad(features_NF, (0, 3 * side**2 - features_NF.shape[1])).view(-1, 3, side, side)


def check_shared(num_shared: int, where: str) -> None:
    """Raise ArtifactIncompatible if a target shares too few classes with the source.

    Networks cannot be compared then.
    """
    if num_shared < MIN_SHARED:
        shared = "1 class" if num_shared == 1 else f"{num_shared} classes"
        what = f"its train and test galaxies share {shared} with the source"
        raise ArtifactIncompatible(what, where, f"correct adapt.classes; at least {MIN_SHARED} are needed")


def match_classes(source: list[str], target: list[str], renamed: dict[str, str | None]) -> tuple[int, ...]:
    """Return the source label of each target class, -1 for one that the source lacks.

    Parameters
    ----------
    source, target
        Class names.
    renamed
        `adapt.classes`.
    """
    source, target = [spell(name) for name in source], [spell(name) for name in target]
    renamed = {spell(theirs): ours if ours is None else spell(ours) for theirs, ours in renamed.items()}
    for theirs, ours in renamed.items():
        if theirs not in target:
            what = f"the target has no class '{theirs}'"
            raise ConfigError(what, "adapt.classes", nearest(theirs, tuple(target)))
        if ours is not None and ours not in source:
            what = f"the source has no class '{ours}'"
            raise ConfigError(what, f"adapt.classes.{theirs}", nearest(ours, tuple(source)))
    labels = []
    for name in target:
        ours = renamed.get(name, name)
        if ours is not None and ours not in source:
            hint = join_hint(nearest(name, tuple(source)), f"Name its class of the source, or set {name}: null")
            raise ConfigError(f"the source has no class '{name}' of the target", "adapt.classes", hint)
        labels.append(UNSEEN if ours is None else source.index(ours))
    return tuple(labels)


def open_training_sets(plan: Plan, surveys: Surveys) -> dict[str, TrainingSet]:
    """Return the training sets by name; the source's galaxies are the first.

    Raises
    ------
    ArtifactIncompatible
        A set was made from another curated set, or has an image without a class or none at all.
    """
    source, options = surveys.source, plan.config.adapt
    real = surveys.source_pictures("train")
    uniform = drawing_probabilities(real.labels)
    sets = {SOURCE: TrainingSet(real.images, one_hot(real.labels, source.num_classes), uniform)}
    specs = training_specs(plan)
    if synthetic.KIND in specs:
        added = [_synthetic(SyntheticSet.open(spec.folder), surveys) for spec in specs[synthetic.KIND]]
        images, labels = (torch.cat(parts) for parts in zip(*added, strict=True))
        share = options.synthetic_share
        sets["source_synthetic"] = TrainingSet(
            torch.cat([real.images, images]),
            one_hot(torch.cat([real.labels, labels]), source.num_classes),
            torch.cat([(1 - share) * uniform, share * drawing_probabilities(labels)]),
        )
    if distilled.KIND in specs:
        sets["distilled"] = _distilled(DistilledSet.open(specs[distilled.KIND][0].folder), surveys)
    return sets


def _synthetic(samples: SyntheticSet, surveys: Surveys) -> Pictures:
    where = samples.folder.uri
    _check_origin(samples.manifest, surveys.source, where)
    loaded = samples.load()
    if not len(loaded.labels_N):
        raise ArtifactIncompatible("it holds no image", where, "sample more, or lower sample.filter.min_probability")
    if unknown := int((loaded.labels_N == NO_CLASS).sum()):
        what = f"{unknown} of its {len(loaded.labels_N)} images {'has' if unknown == 1 else 'have'} no class"
        raise ArtifactIncompatible(what, where, "sample galaxies of given classes, or of a table with whole paths")
    return Pictures(surveys.inputs(loaded.images_NHWC, surveys.source), loaded.labels_N)


def _distilled(prototypes: DistilledSet, surveys: Surveys) -> TrainingSet:
    _check_origin(prototypes.manifest, surveys.source, prototypes.folder.uri)
    selected = prototypes.selected
    images = selected.images_SCHW
    if surveys.features is not None:
        images = surveys.inputs(torch.from_numpy(selected.levels()), surveys.source)
    return TrainingSet(images, selected.targets_SK, torch.ones(len(images)))


def _check_origin(manifest: Manifest, source: CuratedSet, where: str) -> None:
    """Raise unless a set was made from the source.

    Test galaxies of the source are then in no training set.
    """
    parent = manifest.parents.get("curated")
    if parent is None or parent.content != source.manifest.content:
        what = f"its images were made from another curated set than {source.folder.uri}"
        raise ArtifactIncompatible(what, where, "give a set that was made from the source")
