"""Open the set to audit: a synthetic, distilled or other curated set.

The set is opened with its pictures and their classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raydistill.artifacts.manifest import Manifest, open_manifest
from raydistill.errors import ArtifactError, ArtifactIncompatible
from raydistill.galaxies.selection import SPLITS, Split
from raydistill.log import get_logger
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.stages.audit.row_groups import Galaxies
from raydistill.stages.curate import artifact as curated_sets
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill import artifact as distilled
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.stages.generate import artifact as generator
from raydistill.stages.sample import artifact as synthetic
from raydistill.stages.sample.artifact import NO_CLASS, SyntheticSet
from raydistill.storage import Folder

log = get_logger(__name__)

Pixels = npt.NDArray[np.uint8]
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
        pixels = np.rint(prototypes.selected.display().numpy() * 255).astype(np.uint8)
        ids = [f"{distilled.KIND}-{spec.identity[:8]}-{row:05d}" for row in range(len(pixels))]
        labels = prototypes.labels.numpy()
        return AuditedSet(spec.kind, prototypes.manifest.content, pixels, ids, labels, ("test",))
    samples = SyntheticSet.open(spec.folder)
    _check_curated(samples.manifest, curated, samples.folder.uri)
    loaded = samples.load()
    labels_N = loaded.labels_N.numpy()
    return AuditedSet(
        kind=synthetic.KIND,
        content=samples.manifest.content,
        pictures=loaded.images_NHWC.numpy(),
        object_ids=loaded.object_ids,
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
    alike = other.has_classes and curated.has_classes and other.class_names == curated.class_names
    same_votes = other.summary.tree == curated.summary.tree
    return AuditedSet(
        kind=curated_sets.KIND,
        content=other.manifest.content,
        pictures=galaxies,
        object_ids=galaxies.column("object_id").to_pylist(),
        labels_N=galaxies.labels_N if alike else None,
        held_out=("validation", "test"),
        votes=galaxies.column("votes") if same_votes else None,
        survey=other.summary.survey,
    )


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
