"""The sign of life: one maker at a time, and none that waits for the dead."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from raydistill.artifacts.manifest import NAME
from raydistill.errors import ClusterError
from raydistill.pipeline.plan import ArtifactSpec
from raydistill.pipeline.runtime import lease
from raydistill.storage import Folder


@pytest.fixture
def spec(tmp_path: Path) -> ArtifactSpec:
    return ArtifactSpec("curated", "0" * 64, Folder(tmp_path / "curated-0"), 0, {}, {})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "SETTLE_SECONDS", 0.01)
    monkeypatch.setattr(lease, "HEARTBEAT_INTERVAL", 0.05)


def sign(spec: ArtifactSpec) -> Path:
    return Path(spec.folder.uri).parent / ".curated-0.making"


def leave(spec: ArtifactSpec, **who: Any) -> None:
    sign(spec).write_text(json.dumps({**lease.HOLDER, "sign": "a", **who}))


def test_what_nobody_makes_is_ours_and_the_sign_goes_with_the_work(spec: ArtifactSpec) -> None:
    assert not lease.wait_for_artifact(spec)
    assert not sign(spec).exists(), "nothing is written before the work begins"
    with lease.hold_lease(spec):
        first = sign(spec).read_text()
        time.sleep(0.3)
        assert sign(spec).read_text() != first, "not renewed"
    assert not sign(spec).exists()


def test_what_is_there_is_not_made(spec: ArtifactSpec) -> None:
    spec.folder.write(NAME, b"{}")
    assert lease.wait_for_artifact(spec)
    with pytest.raises(lease.AlreadyBuilt), lease.hold_lease(spec):
        raise AssertionError("made again")
    assert not sign(spec).exists()


def test_a_process_of_this_machine_that_is_no_more_is_not_waited_for(spec: ArtifactSpec) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    leave(spec, pid=gone.pid)
    assert not lease.wait_for_artifact(spec)


@pytest.mark.parametrize(
    "who", [{"host": "elsewhere"}, {"boot": "another", "pid": 2**22 + 1}, {"pids": "pid:[1]", "pid": 2**22 + 1}]
)
def test_another_machine_s_silence_is_waited_for_once(
    spec: ArtifactSpec, monkeypatch: pytest.MonkeyPatch, who: dict[str, Any]
) -> None:
    """And one's that has the same name, or another container's: of their processes nothing is to be seen here."""
    monkeypatch.setattr(lease, "LEASE_TIMEOUT", 1.5)
    leave(spec, **who)
    began = time.monotonic()
    assert not lease.wait_for_artifact(spec)
    assert time.monotonic() - began > 1.5


def test_who_waits_for_a_maker_finds_what_it_made(spec: ArtifactSpec, caplog: pytest.LogCaptureFixture) -> None:
    leave(spec, host="elsewhere")

    def other() -> None:
        time.sleep(0.5)
        spec.folder.write(NAME, b"{}")
        sign(spec).unlink()

    maker = threading.Thread(target=other)
    maker.start()
    with caplog.at_level("INFO", "raydistill"):
        assert lease.wait_for_artifact(spec)
    maker.join()
    assert caplog.text.count("on elsewhere, waiting for it") == 1


def test_of_two_that_begin_at_once_the_later_sign_stays(spec: ArtifactSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE_TIMEOUT", 1.0)
    seen: list[str] = []

    def overtaken(seconds: float) -> None:
        if not seen:
            leave(spec, host="elsewhere")
        seen.append("looked again")

    monkeypatch.setattr(lease.time, "sleep", overtaken)
    with lease.hold_lease(spec):
        assert len(seen) > 2, "it did not wait for the other"


def test_who_was_taken_for_gone_leaves_the_other_s_sign_and_gives_up(spec: ArtifactSpec) -> None:
    with lease.hold_lease(spec) as demand_ours:
        demand_ours()
        leave(spec, host="elsewhere", process="another")
        theirs = sign(spec).read_text()
        time.sleep(0.3)  # some times as long as it takes to renew ours
        assert sign(spec).read_text() == theirs
        with pytest.raises(ClusterError, match="another one makes the artifact now"):
            demand_ours()
    assert sign(spec).read_text() == theirs


def test_a_storage_that_keeps_us_waiting_may_keep_the_maker_from_signing(
    spec: ArtifactSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LEASE_TIMEOUT", 1.5)
    leave(spec, host="elsewhere")
    slow, read = iter([0.0, 2.0, 0.0, 0.0, 0.0, 0.0]), lease._read

    def hesitant(where: ArtifactSpec) -> Any:
        time.sleep(next(slow, 0.0))
        return read(where)

    monkeypatch.setattr(lease, "_read", hesitant)
    began = time.monotonic()
    assert not lease.wait_for_artifact(spec)
    assert time.monotonic() - began > 1 + 2.0 + 1.5, "the time that the storage was away counted as silence"
