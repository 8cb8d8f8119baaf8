"""A run folder that was moved or copied keeps its MLflow runs and artifacts."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
from tracking_tools import DIGEST, read_run

from raydistill.tracking.tracker import Tracker
from raydistill.tracking.uris import default_uri


def record(folder: Path, identity: str = DIGEST) -> str:
    """Record a run with an artifact in the database of a folder; return its id."""
    tracker = Tracker(default_uri(folder), "galaxies")
    tracker.initialise()
    source = folder.with_name("grid.txt")
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(f"galaxies of {identity}")
    with tracker.run("distill", identity=identity) as run:
        run.artifact(source)
    assert run.id is not None
    return run.id


def artifact(folder: Path, run_id: str) -> str:
    import mlflow

    tracker = Tracker(default_uri(folder), "galaxies")
    tracker.initialise()
    uri = read_run(tracker, run_id).info.artifact_uri
    assert str(folder) in mlflow.artifacts.download_artifacts(uri), f"{uri} is elsewhere"
    text: str = mlflow.artifacts.load_text(f"{uri}/grid.txt")
    return text


def test_moved_or_copied_run_folder_lists_its_artifacts_and_takes_new_ones(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, copied, moved = tmp_path / "old" / "demo", tmp_path / "copy" / "demo", tmp_path / "a#b 100% ü &=;@'\""
    caplog.set_level(logging.INFO, "raydistill")
    first = record(old)
    shutil.copytree(old, copied)
    assert artifact(copied, first) == f"galaxies of {DIGEST}"
    assert f"the run folder was moved from {old} to {copied}" in caplog.text
    before = sorted(old.rglob("*"))
    second = record(copied, "other")
    assert artifact(copied, second) == "galaxies of other"
    assert sorted(old.rglob("*")) == before, "a file was written into the first folder"
    shutil.move(copied, moved)
    for run_id, identity in ((first, DIGEST), (second, "other"), (record(moved, "third"), "third")):
        assert artifact(moved, run_id) == f"galaxies of {identity}"
    assert not copied.exists(), "the old folder was created again"
    assert artifact(old, first) == f"galaxies of {DIGEST}"
