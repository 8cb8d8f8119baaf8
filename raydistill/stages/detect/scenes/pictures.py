"""Read the pictures of a detection: synthetic galaxies by split, and real frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import pyarrow as pa

from raydistill.artifacts.tables import decode_images
from raydistill.errors import ArtifactIncompatible
from raydistill.galaxies.selection import Split
from raydistill.seeding import fold_in
from raydistill.stages.curate.artifact import CuratedSet, row_groups
from raydistill.stages.detect.config import Detect, FieldModel
from raydistill.stages.detect.scenes.fields import Stamp, cut_stamp
from raydistill.stages.sample.artifact import NO_CLASS, SyntheticSet

FieldSplit = Literal["train", "validation", "test"]
FIELD_SPLITS: tuple[FieldSplit, ...] = ("train", "validation", "test")
NO_CLASSES = ("galaxy",)  # the category of all pictures of a set without classes


def class_names(synthetic: SyntheticSet) -> tuple[str, ...]:
    """Return the categories of the galaxies of a set."""
    labelled = any(entry.kept for entry in synthetic.summary.classes)
    return tuple(synthetic.class_names) if labelled else NO_CLASSES


def split_of(name: str) -> FieldSplit:
    """Return the split of a picture, which depends on its id alone.

    A fifth of the pictures is for the test, and a fifth for validation.
    """
    return ("test", "validation", "train", "train", "train")[fold_in(0, "detect", name) % 5]


def choose_pictures(synthetic: SyntheticSet, detect: Detect) -> pa.Table:
    """Return the pictures to place, sorted by id.

    The columns are `object_id`, `label`, `origin` and `split`.

    Raises
    ------
    ArtifactIncompatible
        No picture is left for a split, or `detect.min_recognised` needs what was not recorded.
    """
    rows = synthetic.table(["object_id", "recognised", "origin"])
    if class_names(synthetic) != NO_CLASSES:
        rows = rows.filter(pa.array(rows["label"].to_numpy() != NO_CLASS))
    if detect.min_recognised is not None:
        if rows["recognised"].null_count:
            what = "its galaxies have no probability of their class, which detect.min_recognised needs"
            raise ArtifactIncompatible(what, synthetic.folder.uri, "sample it with --filter, or set it to null")
        rows = rows.filter(pa.array(rows["recognised"].to_numpy() >= detect.min_recognised))
    rows = rows.sort_by("object_id").drop_columns(["recognised"])
    splits = [split_of(name) for name in rows["object_id"].to_pylist()]
    for split in FIELD_SPLITS:
        if split not in splits:
            what = f"none of the {len(rows)} pictures to place is of the {split} split"
            raise ArtifactIncompatible(
                what, synthetic.folder.uri, "sample more galaxies, or lower detect.min_recognised"
            )
    return rows.append_column("split", pa.array(splits))


def check_galaxies(synthetic: SyntheticSet, frames: CuratedSet) -> None:
    """Raise ArtifactIncompatible if synthetic galaxies use the frames' test galaxies."""
    used = synthetic.real_galaxies() & set(frames.table("test", ["object_id"])["object_id"].to_pylist())
    if used:
        what = f"{len(used)} galaxies of its pictures are in the test split of the frames, such as {min(used)}"
        raise ArtifactIncompatible(
            what, synthetic.folder.uri, "give frames with the same split, or sample other galaxies"
        )


def read_frames(frames: CuratedSet, split: Split, limit: int, seed: int) -> pa.Table:
    """Return `object_id`, `image` and `label` of at most `limit` random frames."""
    groups = row_groups(frames, split)
    chosen = np.random.default_rng(fold_in(seed, "frames", split)).permutation(sum(g.size for g in groups))[:limit]
    tables, start = [], 0
    for group in groups:
        rows_in_group = np.sort(chosen[(chosen >= start) & (chosen < start + group.size)]) - start
        start += group.size
        if len(rows_in_group):
            rows = group.read(["object_id", "image"]).take(pa.array(rows_in_group))
            tables.append(rows.append_column("label", pa.array([group.label] * len(rows), pa.int64())))
    return pa.concat_tables(tables).combine_chunks()


@dataclass(frozen=True)
class Stamps(Sequence[Stamp | None]):
    """The stamps of a split, which are cut out when they are needed.

    Parameters
    ----------
    folder
        URI of the synthetic set.
    names
        Ids of the pictures of the split.
    model
        Contrast and thresholds.
    width
        Width of a stamp at scale 1 [px of a field].
    has_classes
        Whether the set has classes; else all labels are 0.
    """

    folder: str
    names: tuple[str, ...]
    model: FieldModel
    width: float
    has_classes: bool

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Stamp | None:  # type: ignore[override]  # no slices
        return _stamp(self, self.names[index])


@lru_cache(maxsize=4096)
def _stamp(stamps: Stamps, name: str) -> Stamp | None:
    rows, size = _pictures(stamps.folder)
    image, label = rows[name]
    picture = decode_images(pa.chunked_array([[image]]), size)[0].numpy()
    light = cut_stamp(picture, stamps.model)
    return None if light is None else Stamp(light, stamps.width, label if stamps.has_classes else 0, name)


@lru_cache(maxsize=1)
def _pictures(folder: str) -> tuple[dict[str, tuple[bytes, int]], int]:
    """Return each picture's PNG file and label by id, and the side of the pictures."""
    synthetic = SyntheticSet.open(folder, verify=False)  # the driver has verified it
    rows = synthetic.table(["object_id", "image"])
    values = zip(rows["image"].to_pylist(), rows["label"].to_pylist(), strict=True)
    return dict(zip(rows["object_id"].to_pylist(), values, strict=True)), synthetic.summary.image_size
