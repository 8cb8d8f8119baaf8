"""Tracking against real MLflow: on SQLite in this process, and (slow) real servers and killed processes."""

from __future__ import annotations

import logging
import math
import os
import pickle
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import raydistill
from raydistill.errors import DivergenceError
from raydistill.pipeline import tracking
from raydistill.pipeline.tracking import InputDataset, Tracker, default_uri, ui_command
from raydistill.pipeline.tracking_link import Link, Outcome
from raydistill.pipeline.tracking_words import allowed

slow = pytest.mark.slow
DIGEST = "0123456789abcdef" * 4


@pytest.fixture(scope="session")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One migrated database for all tests (the migration takes a second); each test has its own experiment."""
    return default_uri(tmp_path_factory.mktemp("a run"))


@pytest.fixture
def tracker(uri: str, request: pytest.FixtureRequest) -> Tracker:
    tracker = Tracker(uri, request.node.name)
    tracker.initialise()
    return tracker


def client_of(uri: str) -> Any:
    import mlflow

    return mlflow.MlflowClient(uri)


def read(tracker: Tracker, run_id: str | None) -> Any:
    assert run_id is not None
    return client_of(tracker.uri).get_run(run_id)


def only_run(tracker: Tracker) -> Any:
    (run,) = all_runs(tracker)
    return run


def all_runs(tracker: Tracker) -> list[Any]:
    client = client_of(tracker.uri)
    return list(client.search_runs([client.get_experiment_by_name(tracker.experiment).experiment_id]))


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING and r.name.startswith("raydistill")]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


# What a run holds


def test_params_are_dotted_and_long_ones_cut_with_a_note_and_kept_whole(tracker: Tracker) -> None:
    @dataclass(frozen=True)
    class Schedule:
        significance: float = 2.0
        steps: tuple[int, ...] = (1, 2)

    params = {
        "distill": {"schedule": Schedule(), "student": {"lr": 0.01}},
        "empty": {},
        "note": "x" * 9000,
        "none": None,
    }
    many = {f"k{i}": i for i in range(150)}  # more than MLflow takes at once
    with tracker.run("distill", identity=DIGEST, params={**params, "many": many}) as run:
        pass
    logged = read(tracker, run.id).data.params
    assert logged["distill.schedule.significance"] == "2.0"
    assert logged["distill.schedule.steps"] == "(1, 2)"
    assert logged["distill.student.lr"] == "0.01"
    assert logged["empty"] == "{}" and logged["none"] == "None"
    assert all(logged[f"many.k{i}"] == str(i) for i in range(150))
    assert len(logged["note"]) <= 6000 and "[cut: 9000 characters, whole in params.json]" in logged["note"]
    import mlflow

    whole = mlflow.artifacts.load_dict(f"{read(tracker, run.id).info.artifact_uri}/params.json")
    assert whole["note"] == "x" * 9000


def test_tags_say_stage_identity_and_parents(tracker: Tracker) -> None:
    with tracker.run("distill", identity=DIGEST, parents={"CuratedSet": "aa", "TrajectoryStore": "bb"}) as run:
        run.tags({"raydistill.content": "cc"})
    tags = read(tracker, run.id).data.tags
    expected = {
        "raydistill.stage": "distill",
        "raydistill.identity": DIGEST,
        "raydistill.parent.CuratedSet": "aa",
        "raydistill.parent.TrajectoryStore": "bb",
        "raydistill.content": "cc",
        "mlflow.source.name": "raydistill distill",
        "mlflow.runName": "distill-01234567",
    }
    assert expected.items() <= tags.items()


def test_inputs_carry_our_digest_and_their_source(tracker: Tracker) -> None:
    import mlflow

    inputs = [
        InputDataset("survey", DIGEST, "s3://bucket/survey", 240_000),
        InputDataset("curated", DIGEST[::-1], "/data/curated", 5_000, context="evaluation"),
    ]
    with tracker.run("experts", identity=DIGEST, inputs=inputs) as run:
        pass
    logged = {i.dataset.name: i for i in read(tracker, run.id).inputs.dataset_inputs}
    assert logged["survey"].dataset.digest == DIGEST[:36], "MLflow holds 36 characters"
    assert DIGEST in logged["survey"].dataset.profile and "240000" in logged["survey"].dataset.profile
    assert mlflow.data.get_source(logged["survey"].dataset).uri == "s3://bucket/survey"
    assert mlflow.data.get_source(logged["curated"].dataset).uri == "/data/curated"
    assert [(t.key, t.value) for t in logged["curated"].tags] == [("mlflow.data.context", "evaluation")]


def test_every_metric_arrives_with_its_step(tracker: Tracker) -> None:
    with tracker.run("distill", identity=DIGEST) as run:
        for step in range(1234):
            run.metrics({"loss": 1 / (step + 1), "test/accuracy (%)": step}, step)
    history = client_of(tracker.uri).get_metric_history(run.id, "loss")
    assert [(m.step, m.value) for m in history] == [(step, 1 / (step + 1)) for step in range(1234)]
    assert read(tracker, run.id).data.metrics["test/accuracy ___"] == 1233


def test_non_finite_metrics_become_nan_and_a_tag_says_which(tracker: Tracker) -> None:
    with tracker.run("distill", identity=DIGEST) as run:
        for step, value in enumerate([1.0, math.inf, math.nan, 2.0]):
            run.metrics({"loss": value}, step)
    history = client_of(tracker.uri).get_metric_history(run.id, "loss")
    assert [m.value for m in history if m.step in (0, 3)] == [1.0, 2.0]
    assert all(math.isnan(m.value) for m in history if m.step in (1, 2)) and len(history) == 4
    assert read(tracker, run.id).data.tags["raydistill.non_finite.loss"] == "inf at step 1"


def test_artifacts_and_tables_come_back(tracker: Tracker, tmp_path: Path) -> None:
    import mlflow

    (tmp_path / "grid").mkdir()
    (tmp_path / "grid" / "spiral.txt").write_text("arms")
    (tmp_path / "report.json").write_text("{}")
    with tracker.run("evaluate", identity=DIGEST) as run:
        run.artifact(tmp_path / "report.json")
        run.artifact(tmp_path / "report.json", "reports")
        run.artifact(tmp_path / "grid", "images")
        run.table("per_class", {"label": ["spiral", "ring"], "completeness": [0.9, 0.8]})
    place = read(tracker, run.id).info.artifact_uri
    assert mlflow.artifacts.load_text(f"{place}/images/spiral.txt") == "arms"
    assert mlflow.artifacts.load_text(f"{place}/reports/report.json") == "{}"
    table = mlflow.artifacts.load_dict(f"{place}/per_class.json")
    assert table["columns"] == ["label", "completeness"] and table["data"] == [["spiral", 0.9], ["ring", 0.8]]
    beside = Path(tracker.uri.removeprefix("sqlite:///")).parent / "mlartifacts"
    assert list(beside.rglob("spiral.txt")), "artifacts lie beside the database"


def test_children_hang_below_their_parent_and_workers_attach(tracker: Tracker) -> None:
    worker = pickle.loads(pickle.dumps(tracker))
    with tracker.run("experts", identity=DIGEST) as parent:
        with worker.attach(parent.id) as same:
            same.metrics({"experts_done": 1}, 0)
        assert read(tracker, parent.id).info.status == "RUNNING", "attaching must not end the run"
        for k in range(2):
            with worker.run("expert", identity=f"{DIGEST}/{k}", parent_run_id=parent.id, name=f"expert-{k}") as child:
                child.metrics({"loss": k}, 0)
    runs = all_runs(tracker)
    children = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == parent.id]
    assert sorted(r.info.run_name for r in children) == ["expert-0", "expert-1"]
    assert {r.info.status for r in runs} == {"FINISHED"}
    assert read(tracker, parent.id).data.metrics == {"experts_done": 1}


# How a run ends


@pytest.mark.parametrize(
    ("raised", "status", "sentence"),
    [
        (
            DivergenceError("the loss is nan", "step 7", "lower the lr"),
            "FAILED",
            "step 7: the loss is nan; lower the lr",
        ),
        (KeyError("theta"), "FAILED", "KeyError: 'theta'"),
        (KeyboardInterrupt(), "KILLED", None),
        (SystemExit(0), "KILLED", None),
    ],
)
def test_the_status_says_how_the_body_ended(
    uri: str, raised: BaseException, status: str, sentence: str | None, request: pytest.FixtureRequest
) -> None:
    tracker = Tracker(uri, request.node.name.replace("/", "_"))
    with pytest.raises(type(raised)), tracker.run("distill", identity=DIGEST) as run:
        run.metrics({"loss": 0.5}, 1)
        raise raised
    run_read = read(tracker, run.id)
    assert run_read.info.status == status and run_read.info.end_time is not None
    assert run_read.data.tags.get("raydistill.error") == sentence
    assert run_read.data.metrics == {"loss": 0.5}, "the last points were not sent before the end"


def test_runs_left_running_are_killed_by_the_next_of_the_same_identity_only(tracker: Tracker) -> None:
    client = client_of(tracker.uri)
    experiment = client.get_experiment_by_name(tracker.experiment).experiment_id
    stale = client.create_run(experiment, tags={"raydistill.identity": DIGEST}).info.run_id
    below = client.create_run(experiment, tags={"mlflow.parentRunId": stale}).info.run_id
    other = client.create_run(experiment, tags={"raydistill.identity": "another"}).info.run_id
    with tracker.run("distill", identity=DIGEST) as run:
        statuses = {r.info.run_id: r.info.status for r in all_runs(tracker)}
    assert statuses == {stale: "KILLED", below: "KILLED", other: "RUNNING", run.id: "RUNNING"}


def test_sigterm_is_handled_only_during_the_run(tracker: Tracker) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with tracker.run("distill", identity=DIGEST), tracker.run("expert", identity="k"):
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is before


# When tracking fails


def test_disabled_does_nothing_with_the_same_interface(tmp_path: Path) -> None:
    tracker = Tracker(default_uri(tmp_path), "x", enabled=False)
    tracker.initialise()
    with tracker.run("distill", identity=DIGEST, params={"a": 1}) as run, tracker.attach(run.id) as attached:
        for each in (run, attached):
            each.metrics({"loss": 1.0}, 0)
            each.tags({"a": "b"})
            each.artifact("nowhere")
            each.table("t", {"a": [1]})
    assert run.id is None and list(tmp_path.iterdir()) == []
    interface = {name for name in vars(tracking.Run) if not name.startswith("_")}
    assert interface <= set(vars(tracking._MlflowRun)) | {"id"}, "a method of the interface does nothing when enabled"


@pytest.mark.parametrize(
    "bad", ["http://127.0.0.1:{port}", "http://user:secret@127.0.0.1:{port}", "nonsense://x", "/a"]
)
def test_a_tracker_that_cannot_work_warns_once_and_the_science_goes_on(
    bad: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tracker = Tracker(bad.format(port=free_port()), "x")
    began = time.monotonic()
    tracker.initialise()
    for k in range(3):
        with tracker.run("distill", identity=f"k{k}", params={"a": 1}) as run:
            for step in range(2000):
                run.metrics({"loss": step}, step)
            run.artifact(tmp_path)
            run.table("t", {"a": [1]})
    assert time.monotonic() - began < 5
    assert run.id is None
    (warning,) = warnings_of(caplog)
    assert "the run goes on without it" in warning and "\n" not in warning and "secret" not in warning
    assert capfd.readouterr().out == ""


def test_a_database_that_cannot_be_written_warns_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("not a folder")
    tracker = Tracker(default_uri(tmp_path / "file"), "x")
    with tracker.run("distill", identity=DIGEST) as run:
        run.metrics({"loss": 1.0}, 0)
    assert len(warnings_of(caplog)) == 1


def test_a_refused_record_is_dropped_and_the_rest_arrives(tracker: Tracker, caplog: pytest.LogCaptureFixture) -> None:
    with tracker.run("distill", identity=DIGEST) as run:
        for _ in range(3):
            run.artifact("no/such/file")
            run.metrics({"loss": "high", "good": 1.0}, 0)  # type: ignore[dict-item]
    assert read(tracker, run.id).info.status == "FINISHED"
    assert read(tracker, run.id).data.metrics == {"good": 1.0}
    about_file, about_metric = sorted(warnings_of(caplog), key=lambda text: "loss" in text)
    assert "no/such/file" in about_file and "'loss'" in about_metric


def test_the_warning_names_the_trackers_trouble_and_not_the_sciences(caplog: pytest.LogCaptureFixture) -> None:
    link: Link[None] = Link("somewhere", lambda uri: None)

    def away(_: None) -> None:
        raise ConnectionError("nobody listens")

    try:
        raise KeyError("the science failed")
    except KeyError:
        assert link.attempt("run", away) is Outcome.LATER
    assert "nobody listens" in warnings_of(caplog)[0] and "science" not in warnings_of(caplog)[0]


def test_a_dead_server_is_asked_ever_more_seldom_and_a_live_one_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now, asked, alive = [0.0], list[float](), False
    monkeypatch.setattr("raydistill.pipeline.tracking_link.time.monotonic", lambda: now[0])

    def ask(_: None) -> None:
        asked.append(now[0])
        now[0] += 0 if alive else 20  # a silent server costs two timeouts of ten seconds
        if not alive:
            raise TimeoutError("silent")

    link: Link[None] = Link("somewhere", lambda uri: None)
    while now[0] < 3600:
        now[0] += 1
        link.attempt("metrics", ask)
    assert 20 * len(asked) < 0.2 * 3600, "more than a fifth of an hour went to a server that never answered"
    assert len(asked) > 20, "a server that comes back would not be noticed for minutes"
    alive, now[0] = True, now[0] + 121
    assert link.attempt("metrics", ask) is Outcome.DONE
    assert link.attempt("metrics", ask) is Outcome.DONE


@given(st.text(min_size=1, max_size=300))
@example("..")
@example("a//b/../c/")
@example("..a")
@example("é/" * 130)
def test_any_name_becomes_one_that_mlflow_accepts(name: str) -> None:
    from mlflow.utils.validation import _validate_length_limit, _validate_metric_name

    _validate_metric_name(allowed(name))
    _validate_length_limit("name", 250, allowed(name))
    assert allowed(allowed(name)) == allowed(name)


def test_ui_command() -> None:
    assert ui_command("https://tracking.example:5000") == "python -m webbrowser https://tracking.example:5000"
    assert shlex.split(ui_command("sqlite:////a b/mlflow.db")) == [
        *("mlflow", "ui", "--backend-store-uri", "sqlite:////a b/mlflow.db"),
        *("--artifacts-destination", "/a b/mlartifacts"),
    ]


# Other processes and real servers


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(raydistill.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


ENDLESS = """
import sys, time
from raydistill.pipeline.tracking import Tracker
tracker = Tracker(*sys.argv[1:])
with tracker.run("experts", identity="same") as parent:
    with tracker.run("expert", identity="k", parent_run_id=parent.id) as run:
        run.metrics({"loss": 0.5}, 3)
        print("ready", flush=True)
        while True:
            time.sleep(0.05)
"""


@slow
def test_sigterm_ends_as_killed_and_kill_9_is_closed_by_the_next_run(tracker: Tracker) -> None:
    with start(ENDLESS, tracker.uri, tracker.experiment) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.wait(20) == 128 + signal.SIGTERM
    assert [r.info.status for r in all_runs(tracker)] == ["KILLED", "KILLED"]
    assert {"loss": 0.5} in [r.data.metrics for r in all_runs(tracker)], "the points in the buffer were lost"

    with start(ENDLESS, tracker.uri, tracker.experiment) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.kill()
    assert sorted(r.info.status for r in all_runs(tracker)) == ["KILLED", "KILLED", "RUNNING", "RUNNING"]
    with tracker.run("experts", identity="same"):
        pass
    assert sorted(r.info.status for r in all_runs(tracker)) == ["FINISHED", *["KILLED"] * 4]


HUNDRED = """
import sys
from raydistill import log
from raydistill.pipeline.tracking import Tracker
log.setup()
tracker = Tracker(*sys.argv[1:3])
with tracker.run("expert", identity=sys.argv[3], params={"k": sys.argv[3]}) as run:
    for step in range(100):
        run.metrics({"loss": step}, step)
"""


@slow
@pytest.mark.parametrize("initialised", [True, False])
def test_eight_processes_on_one_database(tmp_path: Path, initialised: bool) -> None:
    tracker = Tracker(default_uri(tmp_path), "many")
    if initialised:
        tracker.initialise()
    processes = [start(HUNDRED, tracker.uri, tracker.experiment, f"k{k}") for k in range(8)]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out, err) == (0, "", ""), "a process failed, warned or chattered"
    runs = all_runs(tracker)
    assert [r.info.status for r in runs] == ["FINISHED"] * 8
    client = client_of(tracker.uri)
    histories = [client.get_metric_history(r.info.run_id, "loss") for r in runs]
    assert all([m.value for m in history] == list(range(100)) for history in histories)


@slow
def test_an_older_database_is_migrated(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
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
    assert read(tracker, run.id).data.metrics == {"loss": 1.0} and warnings_of(caplog) == []


@contextmanager
def serving(command: list[str], port: int, log_file: Path) -> Iterator[None]:
    """A server in its own process group, ready to answer; killed without a chance to say goodbye."""
    command = [*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with log_file.open("w") as output:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("mlflow")), *command[1:]],
            stdout=output,
            stderr=output,
            cwd=log_file.parent,
            start_new_session=True,
        )
    try:
        for _ in range(600):
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                break
            assert process.poll() is None, log_file.read_text()
            time.sleep(0.1)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@slow
def test_a_server_that_dies_and_comes_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    command = ["mlflow", "server", "--backend-store-uri", f"sqlite:///{tmp_path}/server.db"]
    command += ["--artifacts-destination", str(tmp_path / "artifacts")]
    tracker = Tracker(f"http://127.0.0.1:{port}", "galaxies")
    (tmp_path / "early.txt").write_text("early")
    (tmp_path / "late.txt").write_text("late")
    with tracker.run("distill", identity="before") as before:
        pass  # nobody listens yet: one warning
    assert before.id is None and len(warnings_of(caplog)) == 1

    tracking._links.clear()  # as in a new process
    caplog.clear()
    inputs = [InputDataset("survey", DIGEST, "s3://bucket/survey", 9)]
    with serving(command, port, tmp_path / "first.log"):
        run_in_two_lives = tracker.run("distill", identity=DIGEST, params={"a": {"b": 1}}, inputs=inputs)
        run = run_in_two_lives.__enter__()
        run.artifact(tmp_path / "early.txt")
        for step in range(300):
            run.metrics({"loss": math.inf if step == 7 else step}, step)
    began = time.monotonic()
    for step in range(300, 5000):
        run.metrics({"loss": step}, step)
    run.artifact(tmp_path / "late.txt", "folder")
    assert time.monotonic() - began < 5, "a dead server held the science up"
    (warning,) = warnings_of(caplog)
    assert f"http://127.0.0.1:{port}" in warning and "refused" in warning

    with serving(command, port, tmp_path / "second.log"):
        run_in_two_lives.__exit__(None, None, None)
        recorded = only_run(tracker)
        history = client_of(tracker.uri).get_metric_history(run.id, "loss")
        names = {a.path for a in client_of(tracker.uri).list_artifacts(run.id)}
        text = urllib.request.urlopen(
            f"http://127.0.0.1:{port}/get-artifact?path=folder/late.txt&run_uuid={run.id}", timeout=5
        ).read()
    assert recorded.info.status == "FINISHED" and recorded.data.params == {"a.b": "1"}
    assert recorded.inputs.dataset_inputs[0].dataset.digest == DIGEST[:36]
    assert [m.step for m in history] == list(range(5000)) and math.isnan(history[7].value)
    assert names == {"early.txt", "folder"} and text == b"late"
    assert len(warnings_of(caplog)) == 1


@slow
def test_a_silent_server_costs_its_timeouts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        tracker = Tracker(f"http://127.0.0.1:{listener.getsockname()[1]}", "x")
        began = time.monotonic()
        for k in range(50):
            with tracker.run("expert", identity=f"k{k}") as run:
                run.metrics({"loss": 1.0}, 0)
        assert time.monotonic() - began < 10


@slow
def test_the_ui_command_shows_the_runs_and_their_artifacts(tracker: Tracker, tmp_path: Path) -> None:
    (tmp_path / "grid.txt").write_text("galaxies")
    with tracker.run("distill", identity=DIGEST) as run:
        run.artifact(tmp_path / "grid.txt")
    port = free_port()
    with serving(shlex.split(ui_command(tracker.uri)), port, tmp_path / "ui.log"):
        url = f"http://127.0.0.1:{port}/get-artifact?path=grid.txt&run_uuid={run.id}"
        assert urllib.request.urlopen(url, timeout=5).read() == b"galaxies"
        assert b"<html" in urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["grid.txt", "ui.log"], "the command littered its folder"


def test_importing_this_file_needs_no_mlflow() -> None:
    script = "import sys; sys.modules['mlflow'] = None\nimport raydistill.pipeline.tracking as t\n"
    script += (
        "with t.Tracker('sqlite:///x', 'x', enabled=False).run('s', identity='i') as run: run.metrics({'a': 1}, 0)\n"
    )
    with start(script) as process:
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")
