"""Write a synthetic set whose pictures are galaxies of the simulator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.artifacts.manifest import commit
from raydistill.galaxies.selection import Split
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.sample import artifact as synthetic
from raydistill.stages.sample.artifact import SCHEMA, SyntheticClass, SyntheticSet, SyntheticSummary, partition
from raydistill.storage import Folder


def write_synthetic(
    folder: Folder, curated: CuratedSet, split: Split = "train", recognised: float | None = None
) -> SyntheticSet:
    """Write the pictures of a split of a curated set as a synthetic set.

    The set names these pictures as its origins.
    """
    rows, counts = curated.table(split, ["object_id", "class_name", "confidence", "image"]).to_pylist(), []
    for label, name in enumerate(curated.class_names):
        of_class = [(index, row) for index, row in enumerate(rows) if row["label"] == label]
        table = [
            row | {"object_id": f"synthetic-01234567-{index:07d}", "origin": row["object_id"], "synthetic": True,
                   "index": index, "seed": 0, "condition": [], "made_by": "simulator",
                   "recognised": recognised}
            for index, row in of_class
        ]  # fmt: skip
        counts.append(SyntheticClass(name, len(of_class), len(of_class)))
        if of_class:
            with folder.writing(partition(label)) as path:
                pq.write_table(pa.Table.from_pylist(table, SCHEMA), path)
    info = curated.summary
    summary = SyntheticSummary(
        survey=info.survey, simulated=info.simulated, image_size=info.image_size, crop_fraction=info.crop_fraction,
        aligned=info.aligned, mean=info.mean, std=info.std, tree=info.tree, classes=tuple(counts),
        unlabelled=SyntheticClass("", 0, 0), generator=None, condition=(), guidance=None, steps=None, seed=0,
        min_probability=None, source={"kind": "simulator"},
    )  # fmt: skip
    folder.write("summary.json", summary.to_json())
    commit(folder, kind=synthetic.KIND, identity=f"s-{split}", config={}, parents={}, seed=0, uris={})
    return SyntheticSet.open(folder)


def decode_mask(encoding: dict[str, Any]) -> np.ndarray:
    """Return the mask `[H, W]` of a run-length encoding."""
    values = np.repeat(np.arange(len(encoding["counts"])) % 2 == 1, encoding["counts"])
    return values.reshape(encoding["size"], order="F")
