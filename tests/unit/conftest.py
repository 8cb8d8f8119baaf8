"""Fixtures for configs and for folders on a disk and in memory."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from raydistill.config import Config, load
from raydistill.storage import Folder
from tests.unit.config_tools import SIMULATED, Read


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """`read(text, *overrides)`: the config of a YAML text."""

    def read(text: str = SIMULATED, *overrides: str) -> Config:
        path = tmp_path / "c.yaml"
        path.write_text(text)
        return load(path, overrides)

    return read


@pytest.fixture(params=["disk", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """Return an empty folder, not created yet, on disk and in fsspec's memory store."""
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path / "cache"))
    if request.param == "disk":
        return Folder(tmp_path / "artifact")
    return Folder(f"memory://{uuid.uuid4().hex}/artifact")
