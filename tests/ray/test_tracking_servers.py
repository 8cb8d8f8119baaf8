"""Several processes write to one MLflow server, on SQLite and on PostgreSQL.

The server restarts meanwhile.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tracking_tools import all_runs, client_of, start_script

from raydistill.tracking.tracker import Tracker
from tests.servers import find_postgresql, free_port, mlflow_server, postgresql

WRITERS = 4
# Each line from stdin begins a phase: with a server, without one, with one again. The third lasts until stdin ends.
WRITE = """
import sys, threading, time
from pathlib import Path
from raydistill.tracking.registry import DISTILLED_SET, Model
from raydistill.tracking.tracker import Tracker
uri, number, file = sys.argv[1:]
ended = threading.Event()
with Tracker(uri, "many").run("distilled", identity=f"w{number}", params={"number": number}) as run:
    for phase in range(2):
        for step in range(100 * phase, 100 * (phase + 1)):
            run.metrics({"loss": step}, step)
        run.artifact(file, f"phase-{phase}")
        run.register(Model("sets", DISTILLED_SET, "/there", f"{number}-{phase}", "cc", float(f"0.{number}{phase}"),
                           0, "survey", "dd" * 32))
        print(phase, flush=True)
        sys.stdin.readline()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    step = 200
    while not ended.wait(0.5):
        run.metrics({"loss": step}, step)
        step += 1
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the URI of an empty database for the server."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/server.db"
    elif find_postgresql() is None:
        pytest.skip("needs PostgreSQL's programs (Debian's package postgresql)")
    else:
        pytest.importorskip("psycopg2", reason="needs the extra 'postgres'")
        with postgresql() as uri:
            yield uri


def wait_for_phase(writers: list[subprocess.Popen[str]], phase: int) -> None:
    """Wait until all writers have ended a phase."""
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == f"{phase}\n", "a writer ended early"


def go_on(writers: list[subprocess.Popen[str]]) -> None:
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()


def wait_for_step(tracker: Tracker, step: int) -> None:
    """Wait until the points of this step have arrived from all writers."""
    deadline = time.monotonic() + 300
    while True:
        last = [run.data.metrics.get("loss", -1) for run in all_runs(tracker)]
        if len(last) == WRITERS and min(last) >= step:
            return
        assert time.monotonic() < deadline, f"the last points are {last}"
        time.sleep(0.5)


@pytest.mark.long
def test_nothing_of_several_writers_is_lost_when_the_server_restarts(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "100")  # a busy machine is slow, and its server not dead
    port = free_port()
    tracker = Tracker(f"http://127.0.0.1:{port}", "many")
    (tmp_path / "a.txt").write_text("a")
    with ExitStack() as stack:  # closes the pipes of the writers
        with mlflow_server(tmp_path, port, "first.log", store):
            arguments = [(tracker.uri, str(number), str(tmp_path / "a.txt")) for number in range(WRITERS)]
            writers = [stack.enter_context(start_script(WRITE, *call, stdin=subprocess.PIPE)) for call in arguments]
            wait_for_phase(writers, 0)
        go_on(writers)  # the server is killed
        wait_for_phase(writers, 1)
        with mlflow_server(tmp_path, port, "second.log", store):
            go_on(writers)
            client = client_of(tracker.uri)
            wait_for_step(tracker, 200)
            for writer in writers:
                assert writer.stdin is not None
                writer.stdin.close()
            for writer in writers:
                assert writer.wait(120) == 0
            runs = all_runs(tracker)
            assert [run.info.status for run in runs] == ["FINISHED"] * WRITERS
            assert sorted(run.data.params["number"] for run in runs) == [str(number) for number in range(WRITERS)]
            for run in runs:
                steps = [point.step for point in client.get_metric_history(run.info.run_id, "loss")]
                assert steps == list(range(len(steps)))
                assert len(steps) > 200
                folders = {entry.path for entry in client.list_artifacts(run.info.run_id)}
                assert folders == {"phase-0", "phase-1"}
            versions = client.search_model_versions("name = 'sets'")
            identities = sorted(version.tags["raydistill.identity"] for version in versions)
            assert identities == sorted(f"{number}-{phase}" for number in range(WRITERS) for phase in range(2))
            best = client.get_model_version_by_alias("sets", "best")
            assert best.tags["raydistill.identity"] == f"{WRITERS - 1}-1"
