"""Measure the morphology of galaxies and prototypes in Ray Data tasks, by block.

{block, folder, file, index, label, size, rows, pixels} -> a file

A block depends on its own pictures alone, so any number of workers gives the same bits. A killed
analysis resumes with the blocks that are missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raydistill.artifacts.manifest import PARTIAL
from raydistill.artifacts.tables import decode_images, pack_table, unpack_table
from raydistill.morphology.measures import measure
from raydistill.runtime.ray_data import finish_blocks
from raydistill.seeding import fold_in
from raydistill.stages.analyse.inputs import AnalysisInputs
from raydistill.stages.curate.artifact import BLOCK_FIELDS, CuratedSet, RowGroup, row_groups
from raydistill.storage import Folder, checked

PICTURES_PER_BLOCK = 16  # some five seconds; fixed, because blocks are files of the unfinished work
# `pixels` holds prototypes, float32 [n, H, W, 3]; it is null for `rows` of a row group of the curated set.
BLOCK = pa.schema(BLOCK_FIELDS)


@dataclass(frozen=True)
class PictureMeasurer:
    """Measure the pictures of a block. A worker receives it by pickle.

    Attributes
    ----------
    folder
        URI of the folder for the files of finished blocks.
    image_size
        Side of the pictures in pixels.
    """

    folder: str
    image_size: int

    def __call__(self, block: pa.Table) -> int:
        """Measure one block, write its file, and return how many pictures it has."""
        (row,) = block.to_pylist()
        if row["pixels"] is not None:
            shape = (-1, self.image_size, self.image_size, 3)
            pictures: npt.NDArray[np.floating] = np.frombuffer(row["pixels"], np.float32).reshape(shape)
            ids = [f"prototype-{number:05d}" for number in row["rows"]]
        else:
            group = RowGroup(**{field.name: row[field.name] for field in fields(RowGroup)})
            galaxies = group.read(["object_id", "image"]).take(row["rows"])
            pictures = np.asarray(decode_images(galaxies["image"], self.image_size), np.float32) / 255
            ids = galaxies["object_id"].to_pylist()
        measured = measure(pictures)
        labels = pa.array([row["label"]] * len(ids), pa.int64())
        table = measured.add_column(0, "label", labels).add_column(0, "object_id", pa.array(ids, pa.string()))
        checked.write(Folder(self.folder), row["block"], pack_table(table))
        return len(ids)


def measured_pictures(inputs: AnalysisInputs) -> tuple[pa.Table, pa.Table]:
    """Return the morphology of the prototypes and of each class's training galaxies.

    At most `analyse.max_galaxies` galaxies of each class are measured.

    Returns
    -------
    prototypes, galaxies : pyarrow.Table
        `object_id`, `label` and the columns of `morphology.measures.SCHEMA`. Prototypes are in
        their order; galaxies are sorted by class.
    """
    size, folder = inputs.curated.summary.image_size, inputs.spec.folder / PARTIAL
    pixels = inputs.distilled.selected.pixels().numpy()
    prototypes = list(_prototype_blocks(pixels, inputs.distilled.labels.numpy()))
    galaxies = list(_galaxy_blocks(inputs.curated, inputs.plan.config.analyse.max_galaxies, inputs.spec.seed))
    blocks = ((_name(block), len(block["rows"][0]), block) for block in (*prototypes, *galaxies))
    resources = replace(inputs.plan.config.resources, gpus=0)  # statmorph runs on CPUs
    measurer = PictureMeasurer(folder.uri, size)
    finish_blocks(folder, blocks, measurer, resources, stage="analyse", doing="measuring morphology")
    first, second = (
        pa.concat_tables([unpack_table(checked.require(folder, _name(block))) for block in part])
        for part in (prototypes, galaxies)
    )
    return first, second


def sample_rows(labels_N: npt.NDArray[np.int64], limit: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the rows of at most `limit` random galaxies of each class, sorted."""
    chosen = []
    for label in np.unique(labels_N):
        rows = np.flatnonzero(labels_N == label)
        rng = np.random.default_rng(fold_in(seed, "morphology", int(label)))
        chosen.append(rng.permutation(rows)[:limit])
    return np.sort(np.concatenate(chosen))


def _galaxy_blocks(curated: CuratedSet, limit: int, seed: int) -> Iterator[pa.Table]:
    groups = row_groups(curated, "train")
    sizes = np.array([group.size for group in groups], np.int64)
    chosen = sample_rows(np.repeat([group.label for group in groups], sizes), limit, seed)
    for number, (group, first) in enumerate(zip(groups, np.cumsum(sizes) - sizes, strict=True)):
        inside = chosen[(chosen >= first) & (chosen < first + group.size)] - first
        for part, rows in enumerate(_parts(inside)):
            yield _block({"block": f"galaxies-{number:05d}-{part:05d}", "rows": rows, **asdict(group)})


def _prototype_blocks(pixels: npt.NDArray[np.float32], labels_S: npt.NDArray[np.int64]) -> Iterator[pa.Table]:
    for label in np.unique(labels_S).tolist():
        for part, rows in enumerate(_parts(np.flatnonzero(labels_S == label))):
            name = f"prototypes-{label:05d}-{part:05d}"
            yield _block({"block": name, "rows": rows, "label": label, "pixels": pixels[rows].tobytes()})


def _parts(rows: npt.NDArray[np.int64]) -> list[list[int]]:
    starts = range(0, len(rows), PICTURES_PER_BLOCK)
    return [rows[start : start + PICTURES_PER_BLOCK].tolist() for start in starts]


def _block(row: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist([{**row, "block": f"morphology/{row['block']}.parquet"}], BLOCK)


def _name(block: pa.Table) -> str:
    return str(block["block"][0].as_py())
