"""Read runs with MLflow's client, and start processes, for the tests of tracking."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import raydistill
from raydistill.tracking.tracker import Tracker

DIGEST = "0123456789abcdef" * 4


def client_of(uri: str) -> Any:
    import mlflow

    return mlflow.MlflowClient(uri)


def read_run(tracker: Tracker, run_id: str | None) -> Any:
    assert run_id is not None
    return client_of(tracker.uri).get_run(run_id)


def all_runs(tracker: Tracker) -> list[Any]:
    client = client_of(tracker.uri)
    return list(client.search_runs([client.get_experiment_by_name(tracker.experiment).experiment_id]))


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING and r.name.startswith("raydistill")]


def start_script(script: str, *arguments: str, stdin: int | None = None) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(raydistill.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdin=stdin, stdout=pipe, stderr=pipe, text=True)
