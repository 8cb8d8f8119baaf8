"""Open the sets of an audit, and the pictures to compare."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raydistill.artifacts.manifest import Manifest, open_manifest
from raydistill.artifacts.tables import decode_images
from raydistill.errors import ArtifactError, ArtifactIncompatible
from raydistill.galaxies.selection import SPLITS, Split
from raydistill.log import get_logger
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.seeding import fold_in
from raydistill.stages.curate import artifact as curated_sets
from raydistill.stages.curate.artifact import CuratedSet, RowGroup, row_groups
from raydistill.stages.distill import artifact as distilled
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.stages.generate import artifact as generator
from raydistill.stages.sample import artifact as synthetic
from raydistill.stages.sample.artifact import NO_CLASS, SyntheticSet
from raydistill.storage import Folder

# Number the galaxies of curated sets by row group, and read their pictures.

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class AuditedGroup(RowGroup):
    """A row group in an audit.

    Attributes
    ----------
    set_number
        Number of its set in the audit; 0 is the config's own.
    split
        Its part of the set.
    """

    set_number: int
    split: Split

    @property
    def name(self) -> str:
        """Return a name that is unique in the audit."""
        return f"set-{self.set_number}-{self.split}-{self.label:03d}-{self.index:05d}"

    def images(self, size: int) -> Pixels:
        """Return the pictures, uint8 [self.size, size, size, 3]."""
        return np.asarray(decode_images(self.read(["image"])["image"], size))


class Galaxies:
    """All galaxies of some splits, numbered in the order of their row groups.

    Parameters
    ----------
    sets
        Curated sets of one image size.
    splits
        Their parts.
    """

    def __init__(self, sets: Sequence[CuratedSet], splits: Iterable[Split]) -> None:
        self.size, splits = sets[0].summary.image_size, tuple(splits)
        self.groups = [
            AuditedGroup(**asdict(group), set_number=number, split=split)
            for number, selected in enumerate(sets)
            for split in splits
            for group in row_groups(selected, split)
        ]
        counts = np.array([group.size for group in self.groups], np.int64)
        self.firsts = np.concatenate([[0], np.cumsum(counts)])
        self.labels_N = np.repeat(np.array([group.label for group in self.groups], np.int64), counts)

    def __len__(self) -> int:
        return len(self.labels_N)

    def rows_in(self, number: int, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return which sorted rows lie in a row group, counted from its first row."""
        inside = rows[(rows >= self.firsts[number]) & (rows < self.firsts[number + 1])]
        return inside - self.firsts[number]

    def images(self, rows: npt.NDArray[np.int64]) -> Pixels:
        """Return the pictures of these rows, uint8 [n, H, W, 3].

        One row group is in memory at a time.
        """
        images = np.empty((len(rows), self.size, self.size, 3), np.uint8)
        for number in np.unique(np.searchsorted(self.firsts, rows, side="right") - 1):
            in_set = (rows >= self.firsts[number]) & (rows < self.firsts[number + 1])
            images[in_set] = self.groups[number].images(self.size)[rows[in_set] - self.firsts[number]]
        return images

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a column of all rows."""
        return pa.chunked_array([chunk for group in self.groups for chunk in group.read([name])[name].chunks])


# Open the set to audit: a synthetic, distilled or other curated set.
#
# The set is opened with its pictures and their classes.

log = get_logger(__name__)

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class AuditedSet:
    """The pictures to audit.

    Attributes
    ----------
    kind
        "synthetic", "distilled" or "curated".
    content
        Content digest of the artifact.
    pictures
        uint8 [N, H, W, 3], or galaxies whose pictures are read when needed.
    object_ids
        N ids.
    galaxies
        N ids of the galaxies that the pictures show, see `SyntheticSet.galaxies`.
    labels_N
        int64 [N], classes of the curated set; None if some picture has none.
    held_out
        The splits of the curated set that did not influence the pictures.
    votes
        The vote fractions that were asked for, in the form of `curated.SCHEMA`; None: unknown.
    extra_sets
        Further curated sets on whose training pictures the generator was trained.
    survey
        Name of the survey of another curated set, else "".
    """

    kind: str
    content: str
    pictures: Pixels | Galaxies
    object_ids: list[str]
    galaxies: list[str]
    labels_N: Ints | None
    held_out: tuple[Split, ...]
    votes: pa.ChunkedArray | None = None
    extra_sets: tuple[CuratedSet, ...] = ()
    survey: str = ""

    def __len__(self) -> int:
        return len(self.object_ids)

    def images(self, rows: Ints) -> Pixels:
        """Return the pictures of these sorted rows, uint8 [n, H, W, 3]."""
        return self.pictures.images(rows) if isinstance(self.pictures, Galaxies) else self.pictures[rows]


def open_audited(spec: ArtifactSpec, curated: CuratedSet) -> AuditedSet:
    """Return the pictures of another curated set, or of a set made from this one.

    Raises
    ------
    ArtifactMissing
        The set does not exist yet.
    ArtifactIncompatible
        It was made from another curated set, so that its training pictures are unknown. A curated
        set has another image size.
    """
    if spec.kind == curated_sets.KIND:
        return other_survey(CuratedSet.open(spec.folder), curated)
    if spec.kind == distilled.KIND:
        prototypes = DistilledSet.open(spec.folder)
        _check_curated(prototypes.manifest, curated, prototypes.folder.uri)
        pixels = prototypes.selected.levels()
        ids = [f"{distilled.KIND}-{spec.identity[:8]}-{row:05d}" for row in range(len(pixels))]
        labels = prototypes.labels.numpy()
        return AuditedSet(spec.kind, prototypes.manifest.content, pixels, ids, ids, labels, ("test",))
    samples = SyntheticSet.open(spec.folder)
    _check_curated(samples.manifest, curated, samples.folder.uri)
    loaded = samples.load()
    labels_N = loaded.labels_N.numpy()
    return AuditedSet(
        kind=synthetic.KIND,
        content=samples.manifest.content,
        pictures=loaded.images_NHWC.numpy(),
        object_ids=loaded.object_ids,
        galaxies=samples.galaxies(),
        labels_N=None if (labels_N == NO_CLASS).any() or not curated.has_classes else labels_N,
        held_out=("validation", "test"),
        votes=samples.table(["votes"])["votes"],
        extra_sets=_extra_sets(samples.manifest, samples.folder.uri),
    )


def other_survey(other: CuratedSet, curated: CuratedSet) -> AuditedSet:
    """Return all galaxies of another curated set, with classes if both have the same."""
    size, wanted = other.summary.image_size, curated.summary.image_size
    if size != wanted:
        what = f"its pictures have {size} px, and those that they are compared with {wanted}"
        raise ArtifactIncompatible(what, other.folder.uri, f"curate it again with curate.image_size={wanted}")
    galaxies = Galaxies([other], SPLITS)
    ids = galaxies.column("object_id").to_pylist()
    alike = other.has_classes and curated.has_classes and other.class_names == curated.class_names
    same_votes = other.summary.tree == curated.summary.tree
    return AuditedSet(
        kind=curated_sets.KIND,
        content=other.manifest.content,
        pictures=galaxies,
        object_ids=ids,
        galaxies=ids,
        labels_N=galaxies.labels_N if alike else None,
        held_out=("validation", "test"),
        votes=galaxies.column("votes") if same_votes else None,
        survey=other.summary.survey,
    )


def open_second(folder: Folder, curated: CuratedSet, audited: AuditedSet) -> tuple[Pixels, CuratedSet]:
    """Return the pictures of `audit.second`, and the curated set of its generator.

    Raises
    ------
    ArtifactIncompatible
        The generators share training galaxies, or the sets do not fit together.
    """
    samples = SyntheticSet.open(folder)
    other = CuratedSet.open(samples.manifest.parents[curated_sets.KIND].uri)
    ids, others = (set(part.table("train", ["object_id"])["object_id"].to_pylist()) for part in (curated, other))
    what = ""
    if audited.kind != synthetic.KIND:
        what = f"the first set is {audited.kind}, and two synthetic sets are compared"
    elif (other.class_names, other.summary.image_size) != (curated.class_names, curated.summary.image_size):
        what = "its classes or its image size are not those of the first set"
    elif audited.extra_sets or _extra_sets(samples.manifest, folder.uri):
        what = "a generator was trained on the galaxies of generate.extra_sets, too"
    elif ids & others:
        what = f"{len(ids & others)} of its generator's {len(others)} training galaxies are also those of the first set"
    if what:
        fix = "train one generator with curate.part={index: 0, parts: 2} and one with {index: 1, parts: 2}"
        raise ArtifactIncompatible(what, folder.uri, fix)
    return samples.load().images_NHWC.numpy(), other


def _extra_sets(manifest: Manifest, where: str) -> tuple[CuratedSet, ...]:
    """Return the further curated sets of the generator; warn if the generator is gone."""
    parent = manifest.parents.get(generator.KIND)
    if parent is None:
        return ()
    try:
        trained = open_manifest(Folder(parent.uri), generator.KIND, verify=False)
    except ArtifactError as error:
        log.warning(
            "audit: %s: only training pictures of the config's survey are searched for copies (%s)", where, error
        )
        return ()
    roles = sorted(role for role in trained.parents if role.startswith(f"{curated_sets.KIND}_"))
    return tuple(CuratedSet.open(trained.parents[role].uri) for role in roles)


def _check_curated(manifest: Manifest, curated: CuratedSet, where: str) -> None:
    """Raise ArtifactIncompatible unless the pictures come from this curated set.

    Only then are their training pictures known.
    """
    parent = manifest.parents.get("curated")
    if parent is None or parent.content != curated.manifest.content:
        what = f"its pictures were made from another curated set than {curated.folder.uri}"
        raise ArtifactIncompatible(what, where, "give the config with which they were made")


# Draw the three samples of an audit: synthetic, held-out and training pictures.


@dataclass(frozen=True)
class Samples:
    """Rows of the three samples, n of each, sorted.

    Attributes
    ----------
    synthetic, held_out, training
        int64 [n], rows of the sets from which they are drawn.
    """

    synthetic: Ints
    held_out: Ints
    training: Ints

    def __len__(self) -> int:
        return len(self.synthetic)


def draw_samples(
    synthetic: int | Ints, held_out_labels: Ints, training_labels: Ints, largest: int, seed: int
) -> Samples:
    """Return samples of one size, as large as the sets allow.

    Parameters
    ----------
    synthetic
        Number of synthetic pictures; or their labels int64 [N], and all samples get the same class
        proportions.
    held_out_labels, training_labels
        int64, labels of the real galaxies.
    largest
        Limit of the size.
    seed
        Decides the rows.

    Notes
    -----
    Of each class, all samples have as many pictures as the smallest set, or in proportion if that
    exceeds the limit. A class without synthetic pictures keeps its share of the held-out ones, so
    that it is missed.
    """
    if isinstance(synthetic, int):
        counts = (synthetic, len(held_out_labels), len(training_labels))
        size = min(largest, *counts)
        return Samples(*(_rows(np.zeros(count, np.int64), np.array([size]), seed, n) for n, count in enumerate(counts)))
    labels = (synthetic, held_out_labels, training_labels)
    num_classes = max(labels_N.max(initial=0) for labels_N in labels) + 1
    available = np.stack([np.bincount(labels_N, minlength=num_classes) for labels_N in labels])
    common_K, absent_K = available.min(0), available[0] == 0
    share_K = np.where(absent_K, available[1:].min(0) / max(available[1].sum(), 1), 0.0)
    size = min(largest, int(common_K.sum()))
    present_K = common_K / max(common_K.sum(), 1)
    real_K = _divide(size, share_K + present_K * (1 - share_K.sum()))
    counts_K = (_divide(size, present_K), real_K, real_K)
    return Samples(
        *(_rows(labels_N, count, seed, n) for n, (labels_N, count) in enumerate(zip(labels, counts_K, strict=True)))
    )


def with_others(rows: Ints, total: int, largest: int, seed: int) -> Ints:
    """Return these rows of `total` and others at random, up to `largest`, sorted."""
    order = np.random.default_rng(fold_in(seed, "others")).permutation(np.setdiff1d(np.arange(total), rows))
    return np.sort(np.concatenate([rows, order[: max(0, largest - len(rows))]]))


def _divide(size: int, shares_K: npt.NDArray[np.float64]) -> Ints:
    """Divide a size by shares that sum to 1, by largest remainders."""
    exact_K = shares_K * size
    counts_K = np.floor(exact_K + 1e-9).astype(np.int64)
    largest_first = np.argsort(-(exact_K - counts_K), kind="stable")
    counts_K[largest_first[: size - counts_K.sum()]] += 1
    return counts_K


def _rows(labels_N: Ints, counts_K: Ints, seed: int, sample: int) -> Ints:
    """Return so many random rows of each label, sorted."""
    rng = np.random.default_rng(fold_in(seed, "sample", sample))
    order = rng.permutation(len(labels_N))
    drawn = [order[labels_N[order] == label][:count] for label, count in enumerate(counts_K)]
    return np.sort(np.concatenate(drawn))
