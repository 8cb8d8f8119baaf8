"""Artifact paths in a database follow it, unless they still lead to the artifacts."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from raydistill.tracking.uris import ARTIFACTS, relocate


def write_database(folder: Path, location: str, runs: list[str]) -> Path:
    """Write the two tables of MLflow that hold paths."""
    database = folder / "mlflow.db"
    folder.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE experiments (artifact_location TEXT)")
        connection.execute("CREATE TABLE runs (artifact_uri TEXT)")
        connection.execute("INSERT INTO experiments VALUES (?)", (location,))
        connection.executemany("INSERT INTO runs VALUES (?)", [(f"{location}/{run}/artifacts",) for run in runs])
    return database


def read_database(database: Path) -> tuple[str, list[str]]:
    with closing(sqlite3.connect(database)) as connection:
        (location,) = connection.execute("SELECT artifact_location FROM experiments").fetchone()
        return location, [uri for (uri,) in connection.execute("SELECT artifact_uri FROM runs ORDER BY 1")]


def test_paths_of_a_moved_folder_are_rewritten_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "raydistill")
    new = tmp_path / "new #1"
    database = write_database(new, f"file:///gone/demo/{ARTIFACTS}", ["r1", "r2"])
    for _ in range(2):
        relocate(database)
    location = (new / ARTIFACTS).as_uri()
    assert "%23" in location
    assert read_database(database) == (location, [f"{location}/r1/artifacts", f"{location}/r2/artifacts"])
    assert caplog.text.count(f"the run folder was moved from /gone/demo to {new}") == 1


def test_run_whose_artifacts_stayed_behind_keeps_its_path(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    location = (old / ARTIFACTS).as_uri()
    database = write_database(new, location, ["copied", "left"])
    for folder in (old / ARTIFACTS / "copied", old / ARTIFACTS / "left", new / ARTIFACTS / "copied"):
        (folder / "artifacts").mkdir(parents=True)
    relocate(database)
    here = (new / ARTIFACTS).as_uri()
    assert read_database(database) == (here, [f"{here}/copied/artifacts", f"{location}/left/artifacts"])


def test_second_name_of_the_same_folder_changes_nothing(tmp_path: Path) -> None:
    location = (tmp_path / "real" / ARTIFACTS).as_uri()
    write_database(tmp_path / "real", location, ["r1"])
    (tmp_path / "real" / ARTIFACTS).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    relocate(tmp_path / "link" / "mlflow.db")
    assert read_database(tmp_path / "real" / "mlflow.db") == (location, [f"{location}/r1/artifacts"])


@pytest.mark.parametrize(
    "location", ["s3://bucket/mlartifacts", "mlflow-artifacts:/1", "file:///gone/other", "/gone/mlartifacts"]
)
def test_locations_of_other_programs_stay(tmp_path: Path, location: str) -> None:
    database = write_database(tmp_path, location, ["r1"])
    relocate(database)
    assert read_database(database) == (location, [f"{location}/r1/artifacts"])


def test_missing_or_empty_database_is_left_to_mlflow(tmp_path: Path) -> None:
    relocate(tmp_path / "mlflow.db")
    assert not (tmp_path / "mlflow.db").exists()
    (tmp_path / "mlflow.db").touch()
    relocate(tmp_path / "mlflow.db")
