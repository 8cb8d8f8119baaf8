"""Tensors with a header are read as written; damage is detected."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from raydistill.artifacts.tensors import read_tensors, write_tensors
from raydistill.errors import ArtifactCorrupt
from raydistill.storage import Folder
from tests.damage import flipped

TENSORS = {
    "images": torch.tensor([[0.5, -1.0]]),
    "half": torch.tensor(2.0, dtype=torch.bfloat16),
    "none": torch.zeros(0),
}
INFO = {"loss": [float("inf"), 0.25], "names": ["spiral"]}


def test_tensors_and_header_are_read_as_written(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    write_tensors(folder, "state", TENSORS, INFO)
    tensors, info = read_tensors(folder, "state")
    assert info == INFO
    assert tensors.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert tensors[name].dtype == value.dtype
        assert torch.equal(tensors[name], value)


def test_any_changed_bit_is_detected(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    write_tensors(folder, "state", TENSORS, INFO)
    intact = folder.read("state")
    for position in range(len(intact)):
        folder.write("state", flipped(intact, position, position % 8))
        with pytest.raises(ArtifactCorrupt, match="'state' is damaged or no safetensors file"):
            read_tensors(folder, "state")
