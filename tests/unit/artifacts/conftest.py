"""A folder on a disk and one on fsspec's in-memory store, where artifacts must behave alike."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from raydistill.storage import Folder


@pytest.fixture(params=["disk", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """An empty folder that does not exist yet."""
    monkeypatch.setattr("raydistill.storage.CACHE", tmp_path / "cache")
    if request.param == "disk":
        return Folder(tmp_path / "artifact")
    return Folder(f"memory://{uuid.uuid4().hex}/artifact")
