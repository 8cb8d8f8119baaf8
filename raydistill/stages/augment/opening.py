"""Open the images of a comparison: three splits of real galaxies, and all sources."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from raydistill.errors import ArtifactIncompatible
from raydistill.galaxies.selection import Split
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.runtime.stages import require_classes
from raydistill.stages.augment.independence import check_disjoint, check_independent, check_unseen
from raydistill.stages.augment.mixtures import Pool
from raydistill.stages.augment.specs import labelled_spec, sources_of
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill import artifact as distilled
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.stages.sample.artifact import NO_CLASS, SyntheticSet

log = get_logger(__name__)


@dataclass(frozen=True)
class Images:
    """All images of a comparison except those of the test split.

    Attributes
    ----------
    curated
        The real galaxies.
    training
        Its training split.
    real
        The labelled galaxies: the same, or the training split of a smaller curated set.
    validation
        Its validation split.
    sources
        Pools of each source, one per replicate.
    """

    curated: CuratedSet
    training: Pool
    real: Pool
    validation: Pool
    sources: dict[str, list[Pool]]

    def votes(self, plan: Plan) -> Pool:
        """Return all training galaxies with the volunteers' class probabilities.

        A survey without votes gives hard labels.
        """
        if not self.curated.has_votes:
            log.warning("augment: the survey has no votes, so generator_labels are hard labels")
            return self.training
        targets_NK = self.curated.probabilities("train", plan.class_tree)
        return Pool(self.training.images, self.training.labels_N, targets_NK)


def open_images(plan: Plan) -> Images:
    """Open and check the sets of a comparison.

    Raises
    ------
    ArtifactMissing
        A set does not exist yet.
    ArtifactIncompatible
        A set has other classes, another size or alignment, a sample without a class, or was made
        from galaxies of the validation or the test split.
    """
    curated = CuratedSet.open(plan.curated.folder)
    require_classes(curated)
    curated.require_splits("train", "validation", "test")
    sources = {
        name: [
            _distilled(DistilledSet.open(spec.folder), curated)
            if spec.kind == distilled.KIND
            else _synthetic(SyntheticSet.open(spec.folder), curated)
            for spec in specs
        ]
        for name, specs in sources_of(plan).items()
    }
    training = load_split(curated, "train")
    labelled = CuratedSet.open(labelled_spec(plan).folder)
    real = training if labelled.folder.uri == curated.folder.uri else _labelled(labelled, curated)
    return Images(curated, training, real, load_split(curated, "validation"), sources)


def load_split(curated: CuratedSet, split: Split) -> Pool:
    """Return the galaxies of a split."""
    loaded = curated.load(split)
    return Pool(loaded.images_NHWC, loaded.labels_N)


def _labelled(other: CuratedSet, curated: CuratedSet) -> Pool:
    """Return the training galaxies of a smaller curated set."""
    summary, where = other.summary, other.folder.uri
    other.require_splits("train")
    _check_alike(other.class_names, summary.image_size, summary.aligned, curated, where)
    _check_crop(summary.crop_fraction, curated, where)
    check_disjoint(other, where, curated)
    return load_split(other, "train")


def _synthetic(samples: SyntheticSet, curated: CuratedSet) -> Pool:
    summary, where = samples.summary, samples.folder.uri
    _check_alike(samples.class_names, summary.image_size, summary.aligned, curated, where)
    _check_crop(summary.crop_fraction, curated, where)
    check_independent(samples.manifest, where, curated)
    check_unseen(samples.real_galaxies(), where, curated)
    loaded = samples.load()
    if unknown := int((loaded.labels_N == NO_CLASS).sum()):
        what = f"{unknown} of its {len(loaded.labels_N)} images have no class"
        raise ArtifactIncompatible(what, where, "sample galaxies of given classes, or of a table with whole paths")
    if not len(loaded.labels_N):
        raise ArtifactIncompatible("it holds no image", where, "sample more, or lower sample.filter.min_probability")
    _warn_of_empty(loaded.labels_N, curated, where)
    return Pool(loaded.images_NHWC, loaded.labels_N)


def _distilled(prototypes: DistilledSet, curated: CuratedSet) -> Pool:
    """Return the prototypes, in the normalisation of the curated set."""
    selected, where = prototypes.selected, prototypes.folder.uri
    size = selected.images_SCHW.shape[-1]
    _check_alike(prototypes.class_names, size, prototypes.aligned, curated, where)
    check_independent(prototypes.manifest, where, curated)
    if selected.normalisation.digest != curated.normalisation.digest:
        what = "its images are normalised in another way than the survey's"
        raise ArtifactIncompatible(what, where, "distil a set of this curated set")
    return Pool(selected.images_SCHW, prototypes.labels, selected.targets_SK)


def _check_alike(class_names: list[str], size: int, aligned: bool, curated: CuratedSet, where: str) -> None:
    """Raise unless classes, image size and alignment are those of the curated set."""
    if class_names != curated.class_names:
        what = f"its classes are {', '.join(class_names)}, the survey's are {', '.join(curated.class_names)}"
        raise ArtifactIncompatible(what, where, "give a set of the same classes")
    if size != curated.summary.image_size:
        what = f"its images have {size} px, the survey's have {curated.summary.image_size}"
        raise ArtifactIncompatible(what, where, f"set curate.image_size={size}")
    if aligned != curated.summary.aligned:
        which = ("aligned", "not aligned") if aligned else ("not aligned", "aligned")
        what = f"its galaxies are {which[0]} to their major axis, the survey's are {which[1]}"
        raise ArtifactIncompatible(what, where, f"set curate.align={str(aligned).lower()}")


def _check_crop(crop_fraction: float, curated: CuratedSet, where: str) -> None:
    """Raise unless the pictures were cropped like those of the curated set."""
    wanted = curated.summary.crop_fraction
    if crop_fraction != wanted:
        what = f"its crop_fraction is {crop_fraction:g}, that of the survey {wanted:g}"
        raise ArtifactIncompatible(what, where, "make it from this curated set")


def _warn_of_empty(labels_N: Tensor, curated: CuratedSet, where: str) -> None:
    counts_K = torch.bincount(labels_N, minlength=curated.num_classes)
    if empty := [name for name, count in zip(curated.class_names, counts_K.tolist(), strict=True) if not count]:
        log.warning("augment: %s has no image of %s", where, ", ".join(empty))
