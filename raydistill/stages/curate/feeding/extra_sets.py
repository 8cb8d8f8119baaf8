"""Train on further curated sets, without galaxies that the main one holds out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from raydistill.artifacts.tables import decode_images
from raydistill.errors import ArtifactIncompatible
from raydistill.galaxies.pictures.perceptual_hash import BYTES, MAX_CANDIDATES, find_nearest, perceptual_hashes
from raydistill.galaxies.selection import Split
from raydistill.log import get_logger
from raydistill.stages.curate.artifact import CuratedSet, row_groups
from raydistill.stages.curate.feeding.feed import UsedGroup, used_groups
from raydistill.storage import Folder

log = get_logger(__name__)


class ExtraSet(NamedTuple):
    """A further curated set, and the ids of its training galaxies that are not used."""

    uri: str
    left_out: frozenset[str]


def open_extra_sets(
    folders: Sequence[Folder], main: CuratedSet, key: str, *, same_view: bool = True
) -> list[CuratedSet]:
    """Open and verify further curated sets.

    Parameters
    ----------
    folders
        Where they are.
    main
        The set whose validation and test galaxies are held out.
    key
        The key of the config that names them.
    same_view
        Their pictures need the crop and the alignment of `main`, and votes its questions. An encoder
        learns from any view.

    Raises
    ------
    ArtifactIncompatible
        A set has another image size than `main`, another view, or no training galaxy.
    ArtifactMissing, ArtifactCorrupt
        A set cannot be used.
    """
    opened = [CuratedSet.open(folder) for folder in folders]
    for extra in opened:
        extra.require_splits("train")
        _check_alike(extra, main, key, same_view)
    return opened


def _check_alike(extra: CuratedSet, main: CuratedSet, key: str, same_view: bool) -> None:
    """Raise ArtifactIncompatible if two sets' pictures or votes do not fit together."""
    theirs, wanted = extra.summary, main.summary
    compared: list[tuple[str, float, float]] = [("image_size", theirs.image_size, wanted.image_size)]
    if same_view:
        compared.append(("crop_fraction", theirs.crop_fraction, wanted.crop_fraction))
        compared.append(("align", theirs.aligned, wanted.aligned))
    for name, value, expected in compared:
        if value != expected:
            fix = f"curate it again with curate.{name}={expected}".replace("True", "true").replace("False", "false")
            what = f"this extra set has the {name} {value}, and the survey's own set {expected}"
            raise ArtifactIncompatible(what, extra.folder.uri, fix)
    if not same_view:
        return
    votes = extra.table("train", ["votes"])["votes"]
    if theirs.tree != wanted.tree and votes.null_count < len(votes):
        what = f"its votes answer the questions of {theirs.tree or 'gz2'}, those of the own set {wanted.tree or 'gz2'}"
        raise ArtifactIncompatible(what, extra.folder.uri, f"leave the set out of {key}, or curate it again")


def without_held_out(extras: Sequence[CuratedSet], main: CuratedSet, stage: str) -> tuple[ExtraSet, ...]:
    """Return which training galaxies of the extra sets are not used.

    These are the galaxies that the validation or the test split of `main` holds too: with the same
    object id, the same file (sha256), or a picture that looks alike (`perceptual_hashes`).
    """
    if not extras:
        return ()
    held_out, extra_sets = _Galaxies.read(main, ["validation", "test"]), []
    known_ids, known_files = set(held_out.ids), set(held_out.files) - {None}
    for extra in extras:
        galaxies = _Galaxies.read(extra, ["train"])
        rows, *_, used_pairs = find_nearest(galaxies.hashes, held_out.hashes)
        if used_pairs > MAX_CANDIDATES:
            log.warning("%s: too many pictures of %s look alike to search them all", stage, extra.summary.survey)
        alike = set(galaxies.places[rows].tolist())
        left_out = frozenset(
            name
            for n, (name, file) in enumerate(zip(galaxies.ids, galaxies.files, strict=True))
            if name in known_ids or file in known_files or n in alike
        )
        used = len(galaxies.ids) - len(left_out)
        what = "%s: %d pictures of %s, without %d that the validation or test split of %s holds too"
        log.info(what, stage, used, extra.summary.survey, len(left_out), main.summary.survey)
        extra_sets.append(ExtraSet(extra.folder.uri, left_out))
    return tuple(extra_sets)


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


class _Galaxies(NamedTuple):
    """Ids, files and hashes of the N galaxies of some splits.

    Parameters
    ----------
    ids
        Object ids.
    files
        The sha256 of the original files; None where unknown.
    places, hashes
        Places among the N of the H pictures that can be compared, and their hashes uint8 [H, BYTES].
    """

    ids: list[str]
    files: list[str | None]
    places: np.ndarray
    hashes: np.ndarray

    @classmethod
    def read(cls, curated: CuratedSet, splits: Sequence[Split]) -> _Galaxies:
        """Read the galaxies of some splits.

        The pictures of one row group are in memory at a time.
        """
        ids, files, hashes = [], [], []
        for group in (group for split in splits for group in row_groups(curated, split)):
            rows = group.read(["object_id", "source", "image"])
            ids += rows["object_id"].to_pylist()
            files += [None if source is None else source["sha256"] for source in rows["source"].to_pylist()]
            hashes += perceptual_hashes(np.asarray(decode_images(rows["image"], curated.summary.image_size)))
        places = [n for n, picture_hash in enumerate(hashes) if picture_hash is not None]
        usable = b"".join(picture_hash for picture_hash in hashes if picture_hash is not None)
        return cls(ids, files, np.array(places, np.int64), np.frombuffer(usable, np.uint8).reshape(-1, BYTES))
