"""Check that a set was made without galaxies that another curated set holds out."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from raydistill.artifacts.manifest import Manifest, kind_of, open_manifest
from raydistill.errors import ArtifactIncompatible, ArtifactMissing
from raydistill.galaxies.selection import Split
from raydistill.stages.curate import artifact as curated_sets
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.storage import Folder

FIX = "make it from this curated set, or from one with the same curate.split"


def check_independent(
    manifest: Manifest, where: str, curated: CuratedSet, splits: tuple[Split, ...] = ("validation", "test")
) -> None:
    """Raise ArtifactIncompatible if a set used galaxies that a curated set holds out.

    Galaxies are compared by object id and by the sha256 of the original file.

    Parameters
    ----------
    manifest, where
        Manifest and folder of the set. The curated sets among its ancestors name its galaxies; all
        of their training galaxies count.
    curated
        The curated set.
    splits
        Its splits that must be unseen. A set made from this curated set itself passes.
    """
    parent = manifest.parents.get(curated_sets.KIND)
    if parent is not None and parent.content == curated.manifest.content:
        return
    ancestors = _curated_ancestors(manifest, where)
    if not ancestors:
        raise ArtifactIncompatible("it does not name the curated set that it was made from", where, FIX)
    for ancestor in ancestors.values():
        check_disjoint(ancestor, where, curated, splits)


def check_disjoint(
    other: CuratedSet, where: str, curated: CuratedSet, splits: tuple[Split, ...] = ("validation", "test")
) -> None:
    """Raise ArtifactIncompatible if a curated set holds out galaxies of another set.

    Only the other set's training galaxies count. `where` is the set that was made from them;
    the other parameters are those of `check_independent`.
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
    found: dict[str, CuratedSet] = {}
    for parent in manifest.parents.values():
        folder = Folder(parent.uri)
        try:
            kind = kind_of(folder)
        except ArtifactMissing as error:
            what = f"the galaxies that it was made from cannot be compared, because {parent.uri} is gone"
            raise ArtifactIncompatible(what, where, FIX) from error
        if kind == curated_sets.KIND:
            found[parent.content] = CuratedSet.open(folder, verify=False)
        else:
            found |= _curated_ancestors(open_manifest(folder, kind, verify=False), where)
    return found
