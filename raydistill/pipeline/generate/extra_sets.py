"""Train a generator on further curated sets too, without the galaxies that the main set holds out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from raydistill.artifacts.curated import CuratedSet
from raydistill.artifacts.tables import decode_images
from raydistill.errors import ArtifactIncompatible
from raydistill.galaxies.pictures.hash_search import find_nearest
from raydistill.galaxies.pictures.perceptual_hash import BYTES, perceptual_hashes
from raydistill.log import get_logger
from raydistill.pipeline.generate.feed import UsedGroup, used_groups
from raydistill.storage import Folder

log = get_logger(__name__)

FIX = "leave the set out of generate.extra_sets, or curate it again"


class ExtraSet(NamedTuple):
    """A further curated set, and the ids of its training galaxies that are not used."""

    uri: str
    left_out: frozenset[str]


def open_extra_sets(folders: Sequence[Folder], main: CuratedSet) -> list[CuratedSet]:
    """Open and verify further curated sets.

    Parameters
    ----------
    folders
        Where they are.
    main
        The set whose validation and test galaxies are held out.

    Raises
    ------
    ArtifactIncompatible
        A set has another image size, crop or alignment than `main`, votes of another survey's
        questions, or no training galaxy.
    ArtifactMissing, ArtifactCorrupt
        A set cannot be used.
    """
    opened = [CuratedSet.open(folder) for folder in folders]
    for extra in opened:
        extra.require_splits("train")
        _check_alike(extra, main)
    return opened


def _check_alike(extra: CuratedSet, main: CuratedSet) -> None:
    """Raise ArtifactIncompatible if the pictures or the votes of two sets cannot be used together."""
    own, wanted = extra.summary, main.summary
    for key, value, expected in (
        ("image_size", own.image_size, wanted.image_size),
        ("crop_fraction", own.crop_fraction, wanted.crop_fraction),
        ("align", own.aligned, wanted.aligned),
    ):
        if value != expected:
            fix = f"curate it again with curate.{key}={expected}".replace("True", "true").replace("False", "false")
            what = f"this extra set has the {key} {value}, and the survey's own set {expected}"
            raise ArtifactIncompatible(what, extra.folder.uri, fix)
    votes = extra.table("train", ["votes"])["votes"]
    if own.tree != wanted.tree and votes.null_count < len(votes):
        what = f"its votes answer the questions of {own.tree or 'gz2'}, those of the own set {wanted.tree or 'gz2'}"
        raise ArtifactIncompatible(what, extra.folder.uri, FIX)


def without_held_out(extras: Sequence[CuratedSet], main: CuratedSet) -> tuple[ExtraSet, ...]:
    """Return which training galaxies of the extra sets are not used.

    These are the galaxies that the validation or the test split of `main` holds too: with the same
    object id, the same file (sha256), or a picture that looks alike (`perceptual_hashes`).
    """
    if not extras:
        return ()
    held_out = [main.table(split, ["object_id", "source", "image"]) for split in ("validation", "test")]
    ids, files = _ids_and_files(pa.concat_tables(held_out))
    hashes = np.concatenate([_hashes(rows, main.summary.image_size)[1] for rows in held_out])
    found = []
    for extra in extras:
        rows = extra.table("train", ["object_id", "source", "image"])
        own_ids, own_files = _ids_and_files(rows)
        places, own_hashes = _hashes(rows, extra.summary.image_size)
        alike = set(places[find_nearest(own_hashes, hashes)[0]].tolist())
        known_ids, known_files = set(ids), set(files) - {None}
        left_out = frozenset(
            name
            for n, (name, file) in enumerate(zip(own_ids, own_files, strict=True))
            if name in known_ids or file in known_files or n in alike
        )
        used = len(rows) - len(left_out)
        what = "generate: %d pictures of %s, without %d that the validation or test split of %s holds too"
        log.info(what, used, extra.summary.survey, len(left_out), main.summary.survey)
        found.append(ExtraSet(extra.folder.uri, left_out))
    return tuple(found)


def extra_row_groups(extra: ExtraSet, main: CuratedSet) -> tuple[UsedGroup, ...]:
    """Return the row groups of an extra set, without the galaxies that are left out.

    A class counts as known if `main` has one of the same name.
    """
    opened = CuratedSet.open(extra.uri, verify=False)
    label_of = {name: label for label, name in enumerate(main.class_names)} if main.has_classes else {}
    groups = []
    for group in used_groups(opened, "train"):
        ids = group.read(["object_id"])["object_id"].to_pylist() if extra.left_out else []
        used = tuple(n for n, name in enumerate(ids) if name not in extra.left_out) if extra.left_out else None
        groups.append(replace(group, label=label_of.get(opened.class_names[group.label], -1), used=used))
    return tuple(groups)


def _ids_and_files(rows: pa.Table) -> tuple[list[str], list[str | None]]:
    """Return the object ids, and the sha256 of the original files."""
    sources = rows["source"].to_pylist()
    return rows["object_id"].to_pylist(), [None if source is None else source["sha256"] for source in sources]


def _hashes(rows: pa.Table, image_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of pictures that can be compared, and their hashes uint8 [N, BYTES]."""
    hashes = perceptual_hashes(np.asarray(decode_images(rows["image"], image_size)))
    places = [n for n, one in enumerate(hashes) if one is not None]
    usable = b"".join(one for one in hashes if one is not None)
    return np.array(places, np.int64), np.frombuffer(usable, np.uint8).reshape(-1, BYTES)
