"""Open the images of a comparison: three splits of real galaxies, and all sources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from raydistill.artifacts.manifest import Manifest, kind_of, open_manifest
from raydistill.errors import ArtifactIncompatible, ArtifactMissing
from raydistill.galaxies.selection import Split
from raydistill.learning.encoders import mean_and_deviation
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.runtime.stages import require_classes
from raydistill.seeding import generator
from raydistill.stages.augment.artifact import labelled_spec, sources_of
from raydistill.stages.augment.config import FEATURE_HEAD
from raydistill.stages.curate import artifact as curated_sets
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill import artifact as distilled
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.stages.pretrain.describers import Describer, describe_pictures, open_describer
from raydistill.stages.sample.artifact import NO_CLASS, SyntheticSet
from raydistill.storage import Folder

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
    describer
        Gives the features for the method `head`; None without it.
    """

    curated: CuratedSet
    training: Pool
    real: Pool
    validation: Pool
    sources: dict[str, list[Pool]]
    describer: Describer | None

    def described(self, plan: Plan) -> Callable[[Pool], Pool]:
        """Return the map from a pool to its features, standardised on the training split."""
        describer = self.describer
        assert describer is not None

        def features(pool: Pool) -> Tensor:
            return describe_pictures(describer, pool.images, plan.config.resources, "augment", "describing galaxies")

        training_NF = features(self.training)
        mean_F, deviation_F = mean_and_deviation(training_NF)

        def described(pool: Pool) -> Pool:
            features_NF = training_NF if pool is self.training else features(pool)
            return Pool((features_NF - mean_F) / deviation_F, pool.labels_N)

        return described

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
    describer = open_describer(plan, curated) if FEATURE_HEAD in plan.config.augment.methods else None
    return Images(curated, training, real, load_split(curated, "validation"), sources, describer)


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


# Check that a set was made without galaxies that another curated set holds out.

FIX = "make it from this curated set, or from one with the same curate.split"


def check_independent(manifest: Manifest, where: str, curated: CuratedSet) -> None:
    """Raise ArtifactIncompatible if a set used galaxies that a curated set holds out.

    Galaxies are compared by object id and by the sha256 of the original file.

    Parameters
    ----------
    manifest, where
        Manifest and folder of the set. The curated sets among its ancestors name its galaxies; all
        of their training galaxies count.
    curated
        The curated set. A set made from this curated set itself passes.
    """
    parent = manifest.parents.get(curated_sets.KIND)
    if parent is not None and parent.content == curated.manifest.content:
        return
    ancestors = _curated_ancestors(manifest, where)
    if not ancestors:
        raise ArtifactIncompatible("it does not name the curated set that it was made from", where, FIX)
    for ancestor in ancestors.values():
        check_disjoint(ancestor, where, curated)


def check_disjoint(
    other: CuratedSet, where: str, curated: CuratedSet, splits: tuple[Split, ...] = ("validation", "test")
) -> None:
    """Raise ArtifactIncompatible if a curated set holds out galaxies of another set.

    Only the other set's training galaxies count. `where` is the set that was made from them, and
    `splits` must be unseen.
    """
    held_out = pa.concat_tables([_galaxies(curated, split) for split in splits])
    used = _galaxies(other, "train")
    shared = pc.or_(
        pc.is_in(held_out["object_id"], used["object_id"].combine_chunks()),
        pc.and_(
            pc.is_in(held_out["sha256"], pc.drop_null(used["sha256"]).combine_chunks()),
            pc.is_valid(held_out["sha256"]),
        ),
    )
    if count := int(pc.sum(shared).as_py() or 0):
        first = min(held_out.filter(shared)["object_id"].to_pylist())
        what = f"{count} galaxies of the {' or '.join(splits)} split were used to make it (first: {first})"
        raise ArtifactIncompatible(what, where, FIX)


def check_unseen(used: set[str], where: str, curated: CuratedSet) -> None:
    """Raise ArtifactIncompatible if a set used validation or test galaxies.

    Pictures and conditions count as use.

    Parameters
    ----------
    used
        Object ids of the real galaxies that the set names.
    where
        Folder of the set.
    curated
        The curated set that holds out galaxies.
    """
    splits: tuple[Split, ...] = ("validation", "test")
    held_out = {name for split in splits for name in curated.table(split, ["object_id"])["object_id"].to_pylist()}
    if shared := used & held_out:
        what = f"it took pictures or conditions of {len(shared)} validation or test galaxies (first: {min(shared)})"
        raise ArtifactIncompatible(what, where, "sample with training galaxies alone")


def _galaxies(curated: CuratedSet, split: Split) -> pa.Table:
    """Return `object_id` and `sha256` of a split."""
    table = curated.table(split, ["object_id", "source"])
    digests = pc.struct_field(table["source"], "sha256")
    return pa.table({"object_id": table["object_id"], "sha256": digests})


def _curated_ancestors(manifest: Manifest, where: str) -> dict[str, CuratedSet]:
    """Return the curated sets among the ancestors of an artifact, by their content."""
    ancestors: dict[str, CuratedSet] = {}
    for parent in manifest.parents.values():
        folder = Folder(parent.uri)
        try:
            kind = kind_of(folder)
        except ArtifactMissing as error:
            what = f"the galaxies that it was made from cannot be compared, because {parent.uri} is gone"
            raise ArtifactIncompatible(what, where, FIX) from error
        if kind == curated_sets.KIND:
            ancestors[parent.content] = CuratedSet.open(folder, verify=False)
        else:
            ancestors |= _curated_ancestors(open_manifest(folder, kind, verify=False), where)
    return ancestors


# Compose a fit's training set: real and added images, and drawing probabilities.
#
# Real images are labelled galaxies; added images are those of a source.


class Pool(NamedTuple):
    """Images of one origin.

    Parameters
    ----------
    images
        uint8 [N, H, W, 3], or normalised float32 [N, 3, H, W].
    labels_N
        int64 [N].
    targets_NK
        Target probabilities; None: those of the labels.
    """

    images: Tensor
    labels_N: Tensor
    targets_NK: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels_N)


def draw_shots(labels_N: Tensor, shots: int | None, seed: int) -> Tensor:
    """Return the labelled galaxies' rows: up to `shots` random per class, or all.

    The rows of a smaller number are among those of a larger one.

    Returns
    -------
    torch.Tensor
        int64, in increasing order.
    """
    if shots is None:
        return torch.arange(len(labels_N))
    order_N = torch.randperm(len(labels_N), generator=generator(seed, "shots"))
    kept = [order_N[labels_N[order_N] == label][:shots] for label in labels_N.unique()]
    return torch.cat(kept).sort().values


def mixed_probabilities(real_N: Tensor, added_M: Tensor, ratio: float) -> Tensor:
    """Return each image's drawing probability; all classes are drawn equally often.

    Parameters
    ----------
    real_N, added_M
        Classes of the real and of the added images.
    ratio
        Added images drawn for each real one, in a class that has both.

    Returns
    -------
    torch.Tensor
        float64 [N + M], with the sum 1.
    """
    classes = int(torch.cat([real_N, added_M]).max()) + 1
    counts_2K = torch.stack([part.bincount(minlength=classes).double() for part in (real_N, added_M)])
    shares_2K = torch.tensor([[1.0], [ratio]], dtype=torch.float64) * (counts_2K > 0)
    shares_2K = shares_2K / shares_2K.sum(dim=0)  # NaN for an empty class, which no image indexes
    each_2K = shares_2K / counts_2K
    probabilities = torch.cat([each_2K[0][real_N], each_2K[1][added_M]])
    return probabilities / probabilities.sum()
