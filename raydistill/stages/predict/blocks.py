"""Write and read the blocks of predictions.

A block is a Parquet file, and a record of its digest and counts. A stage that was killed skips the blocks with a record when it runs again.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raydistill.artifacts.manifest import PARTIAL
from raydistill.artifacts.tables import read_table
from raydistill.learning.calibration import Calibration
from raydistill.storage import Folder, checked

DATA = "data"

# One row per object. Lists have no fixed size because pyarrow 25 cannot read nulls in a fixed-size
# list: lists of classes have K values or are null, `features` has F values or is null.
SCHEMA = pa.schema(
    [
        ("object_id", pa.string()),
        ("predicted_class", pa.string()),  # the class of the highest probability, or null
        ("probability", pa.list_(pa.float32())),  # calibrated, by label
        ("logits", pa.list_(pa.float32())),  # natural logarithm of the experts' mean probability, not calibrated
        ("spread", pa.list_(pa.float32())),  # standard deviation over the experts, not calibrated
        ("features", pa.list_(pa.float16())),  # of what `features` of the config names
        ("reason", pa.string()),  # why the picture could not be used, or null
        ("detail", pa.string()),
    ]
)


@dataclass(frozen=True)
class BlockRecord:
    """The record of a finished block.

    Attributes
    ----------
    num_rows
        Number of objects.
    predicted
        Number of pictures by predicted class.
    rejected
        Number of pictures that could not be used, by reason.
    first_rejected
        Object id and detail of the first one, or None.
    num_features
        Length of the features.
    levels
        Counts of dark, flat and saturated pictures, for a warning at the end.
    """

    num_rows: int
    predicted: dict[str, int]
    rejected: dict[str, int]
    first_rejected: tuple[str, str] | None
    num_features: int
    levels: dict[str, float] = field(default_factory=dict)


def block_name(index: int) -> str:
    """Return the file name of a block."""
    return f"{DATA}/block-{index:06d}.parquet"


def write_block(folder: Folder, index: int, rows: pa.Table, levels: dict[str, float] | None = None) -> BlockRecord:
    """Write a block's rows of schema `SCHEMA`, then its record with these `levels`."""
    with folder.writing(block_name(index)) as path:
        pq.write_table(rows.combine_chunks(), path, compression="zstd", row_group_size=max(1, len(rows)))
    rejected = rows.filter(pc.is_valid(rows["reason"])).select(["object_id", "detail"]).slice(0, 1).to_pylist()
    lengths = pc.list_value_length(rows["features"])
    record = BlockRecord(
        len(rows), _counts(rows["predicted_class"]), _counts(rows["reason"]),
        (rejected[0]["object_id"], rejected[0]["detail"] or "") if rejected else None,
        pc.max(lengths).as_py() or 0, levels or {},
    )  # fmt: skip
    checked.record(folder, _record_name(index), {block_name(index): folder.sha256(block_name(index))}, asdict(record))
    return record


def recalibrate(
    folder: Folder, index: int, record: BlockRecord, calibration: Calibration, names: list[str]
) -> BlockRecord:
    """Write a block again with another calibration of its logits."""
    rows = read_table(folder, block_name(index))
    columns = calibrated_columns(rows["logits"].combine_chunks(), calibration, names)
    for name, values in columns.items():
        rows = rows.set_column(rows.schema.get_field_index(name), SCHEMA.field(name), values)
    return write_block(folder, index, rows, record.levels)


def calibrated_columns(logits: pa.ListArray, calibration: Calibration, names: list[str]) -> dict[str, pa.Array]:
    """Return `predicted_class` and `probability` of logits; null where they are."""
    known = logits.is_valid().to_numpy(zero_copy_only=False)
    if not known.any():
        return {name: pa.nulls(len(logits), SCHEMA.field(name).type) for name in ("predicted_class", "probability")}
    logits_NK = logits.flatten().to_numpy(zero_copy_only=False).reshape(-1, len(names))
    probability_NK = calibration.apply(logits_NK).astype(np.float32)
    rows = pa.array(np.where(known, np.cumsum(known) - 1, 0), mask=~known)
    predicted = pa.array(names, pa.string()).take(pa.array(probability_NK.argmax(axis=1)))
    return {"predicted_class": predicted.take(rows), "probability": to_lists(probability_NK).take(rows)}


def to_lists(values_NF: np.ndarray) -> pa.ListArray:
    """Return the rows of an array as a list column."""
    offsets = pa.array(np.arange(len(values_NF) + 1, dtype=np.int32) * values_NF.shape[1], pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(values_NF.ravel()))


def read_record(folder: Folder, index: int, num_rows: int) -> BlockRecord | None:
    """Return the record of a finished, intact block of `num_rows` rows, else None."""
    values = checked.recorded(folder, _record_name(index))
    if values is None or values["num_rows"] != num_rows:
        return None
    first = values["first_rejected"]
    return BlockRecord(**values | {"first_rejected": tuple(first) if first else None})


def _record_name(index: int) -> str:
    return f"{PARTIAL}/block-{index:06d}.json"


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(column.drop_null()).to_pylist()}
