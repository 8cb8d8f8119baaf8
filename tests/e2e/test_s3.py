"""Run all stages with every file in a bucket of an S3-compatible server.

The server stops answering for a while.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.e2e import tools
from tests.e2e.bucket import RUNS, contents, refusing_server, s3_server, stored

pytestmark = pytest.mark.timeout(900)


def run(folder: Path, env: dict[str, str], *words: str) -> tools.Command:
    cached = {**env, "RAYDISTILL_CACHE": str(folder / "cache")}
    return tools.typed(folder, cached, "run", str(tools.TINY), f"output={RUNS}", *words)


@pytest.mark.long
def test_run_in_a_bucket_has_the_digests_of_a_run_on_disk(
    tiny_run: Path, env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off the server while experts train, and throttle requests while distilling."""
    with s3_server(tmp_path / "s3", monkeypatch) as (client, gate):
        command = run(tmp_path, {**env, **client})
        command.wait_until("experts train", lambda: bool(stored("/state.npz")))
        gate.shut()
        time.sleep(8)
        gate.open()
        command.wait_until("distilling", lambda: bool(stored("partial/state.safetensors")))
        gate.throttle()
        time.sleep(5)
        gate.open()
        assert gate.throttled > 0
        assert command.wait() == 0, command.log[-4000:]
        assert command.answer.startswith(f"{RUNS}/tiny/evaluation-")
        assert "tracking is off" in command.log, "SQLite needs a disk"
        assert contents() == tools.contents(tiny_run)
        assert not stored("/partial/")


@pytest.mark.long
def test_missing_bucket_is_reported(env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server(tmp_path / "s3", monkeypatch) as (client, _):
        error = error_of(run(tmp_path, {**env, **client}, "output=s3://no-such-bucket/runs"))
    assert "the storage refused" in error
    assert "check its name and that you may read and write there" in error


def test_denied_access_to_a_bucket_is_reported(env: dict[str, str], tmp_path: Path) -> None:
    with refusing_server() as client:
        error = error_of(run(tmp_path, {**env, **client}))
    assert "the storage refused" in error
    assert "check its name and that you may read and write there" in error
    assert "Access Denied" in error or "Forbidden" in error


def error_of(command: tools.Command) -> str:
    """Wait for the exit code of storage errors and return the error line."""
    assert command.wait(120) == 3, command.log[-4000:]
    return command.error_line


@pytest.mark.long
def test_run_stops_with_a_message_when_the_store_stays_unreachable(
    tiny_run: Path, env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server(tmp_path / "s3", monkeypatch) as (client, gate):
        impatient = {**env, **client, "AWS_MAX_ATTEMPTS": "2"}
        for progress in ("survey-", "/state.npz", "partial/state.safetensors"):
            command = run(tmp_path, impatient)
            command.wait_until(progress, lambda pattern=progress: bool(stored(pattern)))
            gate.shut()
            code = command.wait(120)
            gate.open()
            assert code == 3, command.log[-4000:]
            assert "the storage did not answer" in command.error_line
            assert "Traceback" not in command.log
        command = run(tmp_path, impatient)
        assert command.wait() == 0, command.log[-4000:]
        assert contents() == tools.contents(tiny_run)
