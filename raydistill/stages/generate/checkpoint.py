"""Save and load the training of a generator: its state and its records."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from raydistill.artifacts.manifest import PARTIAL
from raydistill.artifacts.tensors import pack_tensors, unpack_tensors
from raydistill.diffusion.state import TrainingState
from raydistill.storage import Folder, checked

STATE = f"{PARTIAL}/state.safetensors"


@dataclass
class Records:
    """Records of a training.

    Parameters
    ----------
    history, validation
        Rows of `history.parquet` and of `validation.parquet`.
    losses
        Sums of losses and numbers of pictures by time since the last row of the history.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    validation: list[dict[str, Any]] = field(default_factory=list)
    losses: tuple[list[float], list[float]] | None = None


def save(folder: Folder, state: TrainingState, records: Records) -> None:
    """Write the state and the records in one file, which appears whole or not at all."""
    checked.write(folder, STATE, pack_tensors(state.to_tensors(), asdict(records)))


def load(folder: Folder, state: TrainingState) -> Records:
    """Load the last checkpoint into `state`, and return its records.

    Without a checkpoint both are new. A damaged checkpoint counts as none, with a warning.
    """
    data = checked.read(folder, STATE)
    if data is None:
        return Records()
    tensors, info = unpack_tensors(data)
    state.load_tensors(tensors)
    return Records(**info)
