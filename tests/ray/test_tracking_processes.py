"""Track runs while processes are killed and MLflow servers restart."""

from __future__ import annotations

import math
import shlex
import signal
import socket
import time
import urllib.request
from pathlib import Path

import pytest
from tracking_tools import DIGEST, all_runs, client_of, read_run, start_script, warnings_of

from raydistill.tracking import tracker as tracking
from raydistill.tracking.formatting import InputDataset
from raydistill.tracking.tracker import Tracker
from raydistill.tracking.uris import default_uri, ui_command
from tests.servers import free_port, mlflow_server, serving


@pytest.fixture
def tracker(tmp_path: Path) -> Tracker:
    tracker = Tracker(default_uri(tmp_path / "a run"), "galaxies")
    tracker.initialise()
    return tracker


RUN_FOREVER = """
import sys, time
from raydistill.tracking.tracker import Tracker
tracker = Tracker(*sys.argv[1:])
with tracker.run("experts", identity="same") as parent:
    with tracker.run("expert", identity="k", parent_run_id=parent.id) as run:
        run.metrics({"loss": 0.5}, 3)
        print("ready", flush=True)
        while True:
            time.sleep(0.05)
"""


def test_sigterm_sets_killed_and_the_next_run_closes_runs_left_by_kill_9(tracker: Tracker) -> None:
    with start_script(RUN_FOREVER, tracker.uri, tracker.experiment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.wait(20) == 128 + signal.SIGTERM
    assert [r.info.status for r in all_runs(tracker)] == ["KILLED", "KILLED"]
    assert {"loss": 0.5} in [r.data.metrics for r in all_runs(tracker)], "the points in the buffer were lost"

    with start_script(RUN_FOREVER, tracker.uri, tracker.experiment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.kill()
    assert sorted(r.info.status for r in all_runs(tracker)) == ["KILLED", "KILLED", "RUNNING", "RUNNING"]
    with tracker.run("experts", identity="same"):
        pass
    assert sorted(r.info.status for r in all_runs(tracker)) == ["FINISHED", *["KILLED"] * 4]


RUN_100_STEPS = """
import sys
from raydistill import log
from raydistill.tracking.tracker import Tracker
log.setup()
tracker = Tracker(*sys.argv[1:3])
with tracker.run("expert", identity=sys.argv[3], params={"k": sys.argv[3]}) as run:
    for step in range(100):
        run.metrics({"loss": step}, step)
"""


@pytest.mark.long
@pytest.mark.parametrize("initialised", [True, False])
def test_eight_processes_write_to_one_database(tmp_path: Path, initialised: bool) -> None:
    tracker = Tracker(default_uri(tmp_path), "many")
    if initialised:
        tracker.initialise()
    processes = [start_script(RUN_100_STEPS, tracker.uri, tracker.experiment, f"k{k}") for k in range(8)]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out, err) == (0, "", ""), "a process failed or printed"
    runs = all_runs(tracker)
    assert [r.info.status for r in runs] == ["FINISHED"] * 8
    client = client_of(tracker.uri)
    histories = [client.get_metric_history(r.info.run_id, "loss") for r in runs]
    assert all([m.value for m in history] == list(range(100)) for history in histories)


def test_older_database_is_migrated(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db import utils
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine

    uri = default_uri(tmp_path)
    engine = create_engine(uri)
    Base.metadata.create_all(engine)
    config = utils._get_alembic_config(uri)
    command.upgrade(config, ScriptDirectory.from_config(config).get_revision("head").down_revision)
    engine.dispose()
    tracker = Tracker(uri, "old")
    with tracker.run("distill", identity=DIGEST) as run:
        run.metrics({"loss": 1.0}, 0)
    assert read_run(tracker, run.id).data.metrics == {"loss": 1.0}
    assert warnings_of(caplog) == []


@pytest.mark.long
def test_database_of_another_schema_is_not_changed(
    tracker: Tracker,
) -> None:
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db import utils

    config = utils._get_alembic_config(tracker.uri)
    command.stamp(config, ScriptDirectory.from_config(config).get_revision("head").down_revision)
    with start_script(RUN_100_STEPS, tracker.uri, tracker.experiment, "k") as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "out-of-date" in err
    assert "mlflow db upgrade" in err


@pytest.mark.long
def test_run_survives_a_restart_of_its_server(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    tracker = Tracker(f"http://127.0.0.1:{port}", "galaxies")
    (tmp_path / "early.txt").write_text("early")
    (tmp_path / "late.txt").write_text("late")
    with tracker.run("distill", identity="before") as before:
        pass  # no server yet: one warning
    assert before.id is None
    assert len(warnings_of(caplog)) == 1

    tracking._breakers.clear()  # as in a new process
    caplog.clear()
    inputs = [InputDataset("survey", DIGEST, "s3://bucket/survey", 9)]
    with mlflow_server(tmp_path, port, "first.log"):
        open_run = tracker.run("distill", identity=DIGEST, params={"a": {"b": 1}}, inputs=inputs)
        run = open_run.__enter__()
        run.artifact(tmp_path / "early.txt")
        for step in range(300):
            run.metrics({"loss": math.inf if step == 7 else step}, step)
    start_time = time.monotonic()
    for step in range(300, 5000):
        run.metrics({"loss": step}, step)
    run.artifact(tmp_path / "late.txt", "folder")
    assert time.monotonic() - start_time < 5, "a dead server delayed the run"
    (warning,) = warnings_of(caplog)
    assert f"http://127.0.0.1:{port}" in warning
    assert "refused" in warning

    with mlflow_server(tmp_path, port, "second.log"):
        open_run.__exit__(None, None, None)
        recorded = all_runs(tracker)[0]
        history = client_of(tracker.uri).get_metric_history(run.id, "loss")
        names = {a.path for a in client_of(tracker.uri).list_artifacts(run.id)}
        text = urllib.request.urlopen(
            f"http://127.0.0.1:{port}/get-artifact?path=folder/late.txt&run_uuid={run.id}", timeout=5
        ).read()
    assert recorded.info.status == "FINISHED"
    assert recorded.data.params == {"a.b": "1"}
    assert recorded.inputs.dataset_inputs[0].dataset.digest == DIGEST[:36]
    assert [m.step for m in history] == list(range(5000))
    assert math.isnan(history[7].value)
    assert names == {"early.txt", "folder"}
    assert text == b"late"
    assert len(warnings_of(caplog)) == 1


def test_silent_server_delays_only_the_first_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        tracker = Tracker(f"http://127.0.0.1:{listener.getsockname()[1]}", "x")
        pytest.importorskip("mlflow")  # its import takes seconds, once
        start_time = time.monotonic()
        for k in range(50):
            with tracker.run("expert", identity=f"k{k}") as run:
                run.metrics({"loss": 1.0}, 0)
        assert time.monotonic() - start_time < 10


@pytest.mark.long
def test_ui_command_shows_the_runs_and_their_artifacts(
    tracker: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the paths of the command are relative
    (tmp_path / "grid.txt").write_text("galaxies")
    with tracker.run("distill", identity=DIGEST) as run:
        run.artifact(tmp_path / "grid.txt")
    port = free_port()
    with serving(shlex.split(ui_command(tracker.uri)), port, tmp_path / "ui.log"):
        url = f"http://127.0.0.1:{port}/get-artifact?path=grid.txt&run_uuid={run.id}"
        assert urllib.request.urlopen(url, timeout=5).read() == b"galaxies"
        assert b"<html" in urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a run", "grid.txt", "ui.log"], (
        "the command left files in its folder"
    )
