"""Track runs with real MLflow on SQLite: records, status, failures of tracking."""

from __future__ import annotations

import math
import pickle
import shlex
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tracking_tools import DIGEST, all_runs, client_of, read_run, start_script, warnings_of

from raydistill.config import chosen, load, plain
from raydistill.errors import DivergenceError
from raydistill.tracking import tracker as tracking
from raydistill.tracking.formatting import InputDataset, valid_name
from raydistill.tracking.tracker import Tracker
from raydistill.tracking.uris import default_uri, ui_command
from tests.servers import free_port


@pytest.fixture(scope="session")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the one database of all tests; each test has an experiment of its own."""
    return default_uri(tmp_path_factory.mktemp("a run"))


@pytest.fixture
def tracker(uri: str, request: pytest.FixtureRequest) -> Tracker:
    tracker = Tracker(uri, request.node.name)
    tracker.initialise()
    return tracker


# Records


def test_params_have_dotted_names_and_long_values_are_cut(tracker: Tracker) -> None:
    params: dict[str, object] = {
        "distill": {"schedule": {"significance": 2.0, "steps": (1, 2)}, "student": {"lr": 0.01}},
        "empty": {},
        "note": "x" * 9000,
        "none": None,
    }
    many = {f"k{i}": i for i in range(150)}
    with tracker.run("distill", identity=DIGEST, params={**params, "many": many}) as run:
        pass
    logged = read_run(tracker, run.id).data.params
    assert logged["distill.schedule.significance"] == "2.0"
    assert logged["distill.schedule.steps"] == "(1, 2)"
    assert logged["distill.student.lr"] == "0.01"
    assert logged["empty"] == "{}"
    assert logged["none"] == "None"
    assert len(logged["note"]) <= 6000
    assert logged["note"].endswith("[cut: 9000 characters]")
    assert len(logged) == 60, "MLflow's page of more is slow"


def test_the_whole_config_is_a_file_that_can_be_run(tracker: Tracker, tmp_path: Path) -> None:
    config = load("demo", [f"output={tmp_path}", "distill.iterations=7"])
    with tracker.run("run", identity=DIGEST, config=plain(config), params=chosen(config)) as run:
        pass
    import mlflow

    recorded = read_run(tracker, run.id)
    assert recorded.data.params["distill.iterations"] == "7"
    assert "distill.multi_formation" not in recorded.data.params, "it has its default"
    whole = mlflow.artifacts.download_artifacts(f"{recorded.info.artifact_uri}/config.yaml")
    assert load(whole) == config


def test_tags_contain_stage_identity_and_parents(tracker: Tracker) -> None:
    with tracker.run("distill", identity=DIGEST, parents={"CuratedSet": "aa", "TrajectoryStore": "bb"}) as run:
        run.tags({"raydistill.content": "cc"})
    tags = read_run(tracker, run.id).data.tags
    expected = {
        "raydistill.stage": "distill",
        "raydistill.identity": DIGEST,
        "raydistill.parent.CuratedSet": "aa",
        "raydistill.parent.TrajectoryStore": "bb",
        "raydistill.content": "cc",
        "mlflow.source.name": "raydistill distill",
        "mlflow.runName": "distill #01234567",
    }
    assert expected.items() <= tags.items()


def test_inputs_have_their_whole_digest_and_source(tracker: Tracker) -> None:
    import mlflow

    inputs = [
        InputDataset("survey", DIGEST, "s3://bucket/survey", 240_000),
        InputDataset("curated", DIGEST[::-1], "/data/curated", 5_000, context="evaluation"),
    ]
    with tracker.run("experts", identity=DIGEST, inputs=inputs) as run:
        pass
    logged = {i.dataset.name: i for i in read_run(tracker, run.id).inputs.dataset_inputs}
    assert logged["survey"].dataset.digest == DIGEST[:36], "MLflow holds 36 characters"
    assert DIGEST in logged["survey"].dataset.profile
    assert "240000" in logged["survey"].dataset.profile
    assert mlflow.data.get_source(logged["survey"].dataset).uri == "s3://bucket/survey"
    assert mlflow.data.get_source(logged["curated"].dataset).uri == "/data/curated"
    assert [(t.key, t.value) for t in logged["curated"].tags] == [("mlflow.data.context", "evaluation")]


def test_every_metric_is_recorded_with_its_step(tracker: Tracker) -> None:
    with tracker.run("distill", identity=DIGEST) as run:
        for step in range(1234):
            run.metrics({"loss": 1 / (step + 1), "test/accuracy (%)": step}, step)
    history = client_of(tracker.uri).get_metric_history(run.id, "loss")
    assert [(m.step, m.value) for m in history] == [(step, 1 / (step + 1)) for step in range(1234)]
    assert read_run(tracker, run.id).data.metrics["test/accuracy ___"] == 1233


def test_metrics_and_the_load_of_the_machine_arrive_while_the_run_lasts(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    with replace(tracker, system_metrics=True).run("distill", identity=DIGEST) as run:
        run.metrics({"loss": 0.5}, 0)
        deadline = time.monotonic() + 60
        while not (recorded := read_run(tracker, run.id).data.metrics):
            assert time.monotonic() < deadline, "nothing arrived before the end"
            time.sleep(0.1)
        assert read_run(tracker, run.id).info.status == "RUNNING"
    assert recorded["loss"] == 0.5
    assert 0 < recorded["system/system_memory_usage_percentage"] <= 100
    assert {"system/cpu_utilization_percentage", "system/disk_usage_percentage"} <= set(recorded)


def test_two_threads_can_use_one_run(tracker: Tracker) -> None:
    # The thread that reports the experts' progress may still run when the stage ends.
    with tracker.run("experts", identity=DIGEST) as run, ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda k: run.tags({f"tag.{k}": k}), range(60)))
    tags = read_run(tracker, run.id).data.tags
    assert [tags.get(f"tag.{k}") for k in range(60)] == [str(k) for k in range(60)]


def test_non_finite_metrics_become_nan_and_a_tag_names_them(tracker: Tracker) -> None:
    with tracker.run("distill", identity=DIGEST) as run:
        for step, value in enumerate([1.0, math.inf, math.nan, 2.0]):
            run.metrics({"loss": value}, step)
    history = client_of(tracker.uri).get_metric_history(run.id, "loss")
    assert [m.value for m in history if m.step in (0, 3)] == [1.0, 2.0]
    assert all(math.isnan(m.value) for m in history if m.step in (1, 2))
    assert len(history) == 4
    assert read_run(tracker, run.id).data.tags["raydistill.non_finite.loss"] == "inf at step 1"


def test_artifacts_can_be_loaded(tracker: Tracker, tmp_path: Path) -> None:
    import mlflow

    (tmp_path / "grid").mkdir()
    (tmp_path / "grid" / "spiral.txt").write_text("arms")
    (tmp_path / "report.json").write_text("{}")
    with tracker.run("evaluate", identity=DIGEST) as run:
        run.artifact(tmp_path / "report.json")
        run.artifact(tmp_path / "report.json", "reports")
        run.artifact(tmp_path / "grid", "images")
    artifact_uri = read_run(tracker, run.id).info.artifact_uri
    assert mlflow.artifacts.load_text(f"{artifact_uri}/images/spiral.txt") == "arms"
    assert mlflow.artifacts.load_text(f"{artifact_uri}/reports/report.json") == "{}"
    folder = Path(tracker.uri.removeprefix("sqlite:///")).parent / "mlartifacts"
    assert list(folder.rglob("spiral.txt")), "no artifacts beside the database"


def test_child_runs_are_listed_under_their_parent(tracker: Tracker) -> None:
    worker = pickle.loads(pickle.dumps(tracker))
    with tracker.run("experts", identity=DIGEST) as parent:
        for k in range(2):
            with worker.run("expert", identity=f"{DIGEST}/{k}", parent_run_id=parent.id, name=f"expert-{k}") as child:
                child.metrics({"loss": k}, 0)
    runs = all_runs(tracker)
    children = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == parent.id]
    assert sorted(r.info.run_name for r in children) == ["expert-0", "expert-1"]
    assert {r.info.status for r in runs} == {"FINISHED"}


# Status


@pytest.mark.parametrize(
    ("raised", "status", "error_tag"),
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
def test_status_shows_how_the_body_ended(
    uri: str, raised: BaseException, status: str, error_tag: str | None, request: pytest.FixtureRequest
) -> None:
    tracker = Tracker(uri, request.node.name.replace("/", "_"))

    def distill() -> None:
        with tracker.run("distill", identity=DIGEST) as run:
            run.metrics({"loss": 0.5}, 1)
            raise raised

    with pytest.raises(type(raised)):
        distill()
    (recorded,) = all_runs(tracker)
    assert recorded.info.status == status
    assert recorded.info.end_time is not None
    assert recorded.data.tags.get("raydistill.error") == error_tag
    assert recorded.data.metrics == {"loss": 0.5}, "the last points were not sent before the end"


def test_only_a_run_of_the_same_identity_closes_stale_runs(tracker: Tracker) -> None:
    client = client_of(tracker.uri)
    experiment = client.get_experiment_by_name(tracker.experiment).experiment_id
    stale = client.create_run(experiment, tags={"raydistill.identity": DIGEST}).info.run_id
    child = client.create_run(experiment, tags={"mlflow.parentRunId": stale}).info.run_id
    other = client.create_run(experiment, tags={"raydistill.identity": "another"}).info.run_id
    with tracker.run("distill", identity=DIGEST) as run:
        statuses = {r.info.run_id: r.info.status for r in all_runs(tracker)}
    assert statuses == {stale: "KILLED", child: "KILLED", other: "RUNNING", run.id: "RUNNING"}


def test_sigterm_is_handled_only_during_the_run(tracker: Tracker) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a running Ray has installed a handler
    try:
        with tracker.run("distill", identity=DIGEST), tracker.run("expert", identity="k"):
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


# Failures of tracking


def test_disabled_tracker_records_nothing_and_has_the_same_interface(tmp_path: Path) -> None:
    tracker = Tracker(default_uri(tmp_path), "x", enabled=False)
    tracker.initialise()
    with tracker.run("distill", identity=DIGEST, params={"a": 1}) as run:
        run.metrics({"loss": 1.0}, 0)
        run.tags({"a": "b"})
        run.artifact("nowhere")
    assert run.id is None
    assert list(tmp_path.iterdir()) == []
    interface = {name for name in vars(tracking.Run) if not name.startswith("_")}
    assert interface <= set(vars(tracking._MlflowRun)) | {"id"}, "an enabled run lacks a method of the interface"


@pytest.mark.parametrize(
    "bad", ["http://127.0.0.1:{port}", "http://user:secret@127.0.0.1:{port}", "nonsense://x", "/a"]
)
def test_unusable_tracking_uri_gives_one_warning_and_does_not_stop_the_run(
    bad: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tracker = Tracker(bad.format(port=free_port()), "x")
    pytest.importorskip("mlflow")  # its import takes seconds, once
    start_time = time.monotonic()
    tracker.initialise()
    for k in range(3):
        with tracker.run("distill", identity=f"k{k}", params={"a": 1}) as run:
            for step in range(2000):
                run.metrics({"loss": step}, step)
            run.artifact(tmp_path)
    assert time.monotonic() - start_time < 5
    assert run.id is None
    (warning,) = warnings_of(caplog)
    assert "the run continues without it" in warning
    assert "\n" not in warning
    assert "secret" not in warning
    assert capfd.readouterr().out == ""


def test_unwritable_database_gives_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("not a folder")
    tracker = Tracker(default_uri(tmp_path / "file"), "x")
    with tracker.run("distill", identity=DIGEST) as run:
        run.metrics({"loss": 1.0}, 0)
    assert len(warnings_of(caplog)) == 1


def test_refused_record_is_dropped_and_the_others_are_recorded(
    tracker: Tracker, caplog: pytest.LogCaptureFixture
) -> None:
    with tracker.run("distill", identity=DIGEST) as run:
        for _ in range(3):
            run.artifact("no/such/file")
            run.metrics({"loss": "high", "good": 1.0}, 0)  # type: ignore[dict-item]
    assert read_run(tracker, run.id).info.status == "FINISHED"
    assert read_run(tracker, run.id).data.metrics == {"good": 1.0}
    about_file, about_metric = sorted(warnings_of(caplog), key=lambda text: "loss" in text)
    assert "no/such/file" in about_file
    assert "'loss'" in about_metric


@given(st.text(min_size=1, max_size=300))
@example("..")
@example("a//b/../c/")
@example("..a")
@example("é/" * 130)
def test_mlflow_accepts_the_valid_form_of_any_name(name: str) -> None:
    from mlflow.utils.validation import _validate_length_limit, _validate_metric_name

    _validate_metric_name(valid_name(name))
    _validate_length_limit("name", 250, valid_name(name))
    assert valid_name(valid_name(name)) == valid_name(name)


def test_ui_command_runs_without_an_activated_environment() -> None:
    assert ui_command("https://tracking.example:5000") == "python -m webbrowser https://tracking.example:5000"
    program, *arguments = shlex.split(ui_command("sqlite:////a b/mlflow.db"))
    assert Path(program).resolve() == Path(sys.executable).with_name("mlflow").resolve(), (
        "it needs an activated environment"
    )
    assert arguments == [
        "ui",
        "--backend-store-uri",
        "sqlite:////a b/mlflow.db",
        "--artifacts-destination",
        "/a b/mlartifacts",
    ]


def test_ui_command_is_short_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = ui_command(default_uri("runs/demo"), between=" \\\n    ").splitlines()
    assert lines[0].endswith("mlflow ui \\")
    assert lines[1:] == [
        "    --backend-store-uri sqlite:///runs/demo/mlflow.db \\",
        "    --artifacts-destination runs/demo/mlartifacts",
    ]


def test_disabled_tracker_needs_no_mlflow() -> None:
    script = "import sys; sys.modules['mlflow'] = None\nimport raydistill.tracking.tracker as t\n"
    script += (
        "with t.Tracker('sqlite:///x', 'x', enabled=False).run('s', identity='i') as run: run.metrics({'a': 1}, 0)\n"
    )
    with start_script(script) as process:
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")
