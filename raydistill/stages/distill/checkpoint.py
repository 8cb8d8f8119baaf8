"""The checkpoint from which distillation resumes: one file, written atomically.

It holds images, labels, learning rates, momenta, schedule, history and the best images so far. On
one machine a resumed run has the same bits as an undisturbed one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import torch
from torch import Tensor

from raydistill.artifacts.manifest import PARTIAL
from raydistill.artifacts.tensors import pack_tensors, unpack_tensors
from raydistill.distillation.distiller import Distiller, Record
from raydistill.learning.normalise import AnyNormalisation
from raydistill.stages.distill.artifact import SyntheticImages
from raydistill.stages.distill.validation import Validation
from raydistill.storage import Folder, checked

STATE = f"{PARTIAL}/state.safetensors"
FORMAT = 1  # of that file; increase it whenever `save_checkpoint` or the distiller's state changes


class Checkpoint(NamedTuple):
    """The content of a checkpoint."""

    tensors: dict[str, Tensor]  # of the distiller, with `images` and `labels`
    distiller: Any  # its state that is not tensors
    best: SyntheticImages
    records: list[Record]
    validations: list[Validation]


def save_checkpoint(
    folder: Folder,
    distiller: Distiller,
    best: SyntheticImages,
    records: Sequence[Record],
    validations: Sequence[Validation],
) -> None:
    """Write the checkpoint in place of the previous one."""
    tensors, state = distiller.state_dict()
    best_tensors = {
        "best/images": best.images_SCHW,
        "best/targets": best.targets_SK,
        "best/student_lrs": best.student_lrs,
    }
    metadata = {
        "format": FORMAT,
        "distiller": state,
        "best_iteration": best.iteration,
        "validations": [list(validation) for validation in validations],
    }
    history = {"records": torch.frombuffer(bytearray(_serialise(records)), dtype=torch.uint8)}
    checked.write(folder, STATE, pack_tensors(tensors | best_tensors | history, metadata))


def load_checkpoint(folder: Folder, normalisation: AnyNormalisation) -> Checkpoint | str | None:
    """Return the checkpoint; None if there is none; the reason, if it cannot be used."""
    if not folder.exists(STATE):
        return None
    data = checked.read(folder, STATE)
    if data is None:
        return f"'{STATE}' is damaged"
    tensors, metadata = unpack_tensors(data)
    if metadata.get("format") != FORMAT:
        return f"'{STATE}' was written by another version of raydistill"
    images, targets, student_lrs = (tensors.pop(f"best/{name}") for name in ("images", "targets", "student_lrs"))
    best = SyntheticImages(images, targets, student_lrs, normalisation, metadata["best_iteration"])
    records = pa.ipc.open_stream(tensors.pop("records").numpy().tobytes()).read_all().to_pylist()
    validations = [Validation(*row) for row in metadata["validations"]]
    return Checkpoint(tensors, metadata["distiller"], best, [Record(**row) for row in records], validations)


def table_of(rows: Sequence[NamedTuple], kind: type[NamedTuple]) -> pa.Table:
    """Return named tuples as a table, one column per field."""
    return pa.table({field: [getattr(row, field) for row in rows] for field in kind._fields})


def _serialise(records: Sequence[Record]) -> pa.Buffer:
    """Return the records as an Arrow stream.

    A long run has a million records, too many for the JSON header of safetensors.
    """
    buffer, table = pa.BufferOutputStream(), table_of(records, Record)
    with pa.ipc.new_stream(buffer, table.schema) as stream:
        stream.write_table(table)
    return buffer.getvalue()
