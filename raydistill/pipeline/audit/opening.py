"""Open the set to audit: the pictures of a synthetic or of a distilled set, with their classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raydistill.artifacts import curated as curated_sets
from raydistill.artifacts import distilled, generator, synthetic
from raydistill.artifacts.curated import CuratedSet
from raydistill.artifacts.distilled import DistilledSet
from raydistill.artifacts.manifest import Manifest, open_manifest
from raydistill.artifacts.synthetic import NO_CLASS, SyntheticSet
from raydistill.errors import ArtifactError, ArtifactIncompatible
from raydistill.galaxies.selection import Split
from raydistill.log import get_logger
from raydistill.pipeline.plan import ArtifactSpec
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
        "synthetic" or "distilled".
    content
        Content digest of the artifact.
    images_NHWC
        uint8 [N, H, W, 3].
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
    """

    kind: str
    content: str
    images_NHWC: Pixels
    object_ids: list[str]
    labels_N: Ints | None
    held_out: tuple[Split, ...]
    votes: pa.ChunkedArray | None = None
    extra_sets: tuple[CuratedSet, ...] = ()

    def __len__(self) -> int:
        return len(self.object_ids)


def open_audited(spec: ArtifactSpec, curated: CuratedSet) -> AuditedSet:
    """Return the pictures of a set that was made from this curated set.

    Raises
    ------
    ArtifactMissing
        The set does not exist yet.
    ArtifactIncompatible
        It was made from another curated set, so that its training pictures are unknown.
    """
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
        images_NHWC=loaded.images_NHWC.numpy(),
        object_ids=loaded.object_ids,
        labels_N=None if (labels_N == NO_CLASS).any() or not curated.has_classes else labels_N,
        held_out=("validation", "test"),
        votes=samples.table(["votes"])["votes"],
        extra_sets=_extra_sets(samples.manifest, samples.folder.uri),
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
    """Raise unless the pictures were made from this curated set: only then are its training pictures known."""
    parent = manifest.parents.get("curated")
    if parent is None or parent.content != curated.manifest.content:
        what = f"its pictures were made from another curated set than {curated.folder.uri}"
        raise ArtifactIncompatible(what, where, "give the config with which they were made")
