"""One process at a time holds an artifact's lease; a dead holder's lease expires."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raydistill.artifacts.manifest import NAME
from raydistill.errors import ClusterError
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.runtime import lease
from raydistill.storage import Folder
from raydistill.storage.checked import to_json


class FakeClock:
    """A clock that advances only in `sleep`, which calls `on_sleep`."""

    def __init__(self, on_sleep: Callable[[], None] = lambda: None) -> None:
        self.time, self.on_sleep = 0.0, on_sleep
        self.clock = lease.Clock(lambda: self.time, self.sleep)

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.on_sleep()


class Beats(threading.Event):
    """An event whose first `count` waits time out at once."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.left = count

    def wait(self, timeout: float | None = None) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.fixture
def spec(tmp_path: Path) -> ArtifactSpec:
    return ArtifactSpec("curated", "0" * 64, Folder(tmp_path / "curated-0"), 0, {}, {})


@pytest.fixture(autouse=True)
def forget_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_expired", [])


def lease_file(spec: ArtifactSpec) -> Path:
    return Path(spec.folder.uri).parent / ".curated-0.making"


def write_lease(spec: ArtifactSpec, **holder: Any) -> None:
    lease_file(spec).write_bytes(to_json({**lease.HOLDER, "heartbeat": "a", **holder}))


def test_a_free_lease_is_acquired_and_released_with_the_body(spec: ArtifactSpec) -> None:
    assert not lease.wait_for_artifact(spec)
    assert not lease_file(spec).exists(), "waiting wrote a lease"
    with lease.hold_lease(spec):
        first = lease_file(spec).read_text()
        lease._heartbeat(spec, Beats(1))
        assert lease_file(spec).read_text() != first, "the heartbeat did not renew the lease"
    assert not lease_file(spec).exists()


def test_the_background_thread_sends_heartbeats(spec: ArtifactSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_INTERVAL", 0.01)
    renewed = threading.Event()
    write = lease._write
    monkeypatch.setattr(lease, "_write", lambda spec: (write(spec), renewed.set()))
    with lease.hold_lease(spec):
        assert renewed.wait(30)


def test_a_finished_artifact_is_not_built_again(spec: ArtifactSpec) -> None:
    spec.folder.write(NAME, b"{}")
    assert lease.wait_for_artifact(spec)
    with pytest.raises(lease.AlreadyBuilt), lease.hold_lease(spec):
        raise AssertionError("built again")
    assert not lease_file(spec).exists()


def test_an_exited_process_of_this_host_loses_its_lease_at_once(spec: ArtifactSpec) -> None:
    exited = subprocess.Popen([sys.executable, "-c", ""])
    exited.wait()
    write_lease(spec, pid=exited.pid)
    time = FakeClock()
    assert not lease.wait_for_artifact(spec, time.clock)
    assert time.time == 0
    with lease.hold_lease(spec, time.clock):
        assert json.loads(lease_file(spec).read_text())["pid"] == lease.HOLDER["pid"]
    assert not lease_file(spec).exists()


@pytest.mark.parametrize(
    "holder", [{"host": "elsewhere"}, {"boot": "another", "pid": 2**22 + 1}, {"pids": "pid:[1]", "pid": 2**22 + 1}]
)
def test_a_holder_elsewhere_without_heartbeat_is_waited_for_once(spec: ArtifactSpec, holder: dict[str, Any]) -> None:
    """A host of the same name or another container counts as elsewhere.

    Its processes cannot be seen.
    """
    write_lease(spec, **holder)
    time = FakeClock()
    assert not lease.wait_for_artifact(spec, time.clock)
    assert lease.LEASE_TIMEOUT < time.time <= lease.LEASE_TIMEOUT + 2
    waited = time.time
    with lease.hold_lease(spec, time.clock):
        assert time.time - waited < 2, "waited a second time"


def test_an_unreadable_lease_expires_too(spec: ArtifactSpec, caplog: pytest.LogCaptureFixture) -> None:
    lease_file(spec).write_bytes(b"")
    time = FakeClock()
    with caplog.at_level("INFO", "raydistill"), lease.hold_lease(spec, time.clock):
        assert time.time > lease.LEASE_TIMEOUT
    assert "is being built by another process, waiting for it" in caplog.text


def test_an_expired_unreadable_lease_does_not_expire_that_of_another_artifact(
    spec: ArtifactSpec, tmp_path: Path
) -> None:
    """A lease is unreadable for a moment while another process creates it."""
    other = ArtifactSpec("curated", "1" * 64, Folder(tmp_path / "curated-1"), 0, {}, {})
    lease_file(spec).write_bytes(b"")
    (tmp_path / ".curated-1.making").write_bytes(b"")
    for waited_for in (spec, other):
        time = FakeClock()
        assert not lease.wait_for_artifact(waited_for, time.clock)
        assert time.time > lease.LEASE_TIMEOUT


def test_a_heartbeat_keeps_the_lease_of_a_holder_elsewhere(spec: ArtifactSpec) -> None:
    beats = iter(range(1000))

    def beat() -> None:
        if (n := next(beats)) < 200:
            write_lease(spec, host="elsewhere", heartbeat=str(n))
        else:
            spec.folder.write(NAME, b"{}")
            lease_file(spec).unlink(missing_ok=True)

    write_lease(spec, host="elsewhere")
    time = FakeClock(beat)
    assert lease.wait_for_artifact(spec, time.clock)
    assert time.time > 4 * lease.LEASE_TIMEOUT


def test_a_waiter_returns_when_the_holder_has_built_the_artifact(
    spec: ArtifactSpec, caplog: pytest.LogCaptureFixture
) -> None:
    write_lease(spec, host="elsewhere")

    def finish() -> None:
        spec.folder.write(NAME, b"{}")
        lease_file(spec).unlink()

    with caplog.at_level("INFO", "raydistill"):
        assert lease.wait_for_artifact(spec, FakeClock(finish).clock)
    assert caplog.text.count("on elsewhere, waiting for it") == 1


def test_later_writer_wins_when_two_take_over_together(spec: ArtifactSpec) -> None:
    write_lease(spec, boot=lease.HOLDER["boot"], pid=lease.HOLDER["pid"], process="an earlier process")
    sleeps: list[float] = []

    def overtake() -> None:
        if not sleeps:
            write_lease(spec, host="elsewhere")
        sleeps.append(time.time)

    time = FakeClock(overtake)
    with lease.hold_lease(spec, time.clock):
        assert len(sleeps) > 2, "it did not wait for the other"
        assert time.time > lease.LEASE_TIMEOUT


def test_a_lease_acquired_between_the_wait_and_the_read_is_waited_for(
    spec: ArtifactSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process sees no lease; another acquires it before the file is read again."""
    wait, results = lease.wait_for_artifact, list[bool]()

    def wait_and_be_overtaken(spec: ArtifactSpec, clock: lease.Clock) -> bool:
        results.append(wait(spec, clock))
        if len(results) == 1:
            write_lease(spec, host="elsewhere")
        return results[-1]

    def finish() -> None:
        assert json.loads(lease_file(spec).read_text())["host"] == "elsewhere", "the other's lease was overwritten"
        spec.folder.write(NAME, b"{}")
        lease_file(spec).unlink()

    monkeypatch.setattr(lease, "wait_for_artifact", wait_and_be_overtaken)
    time = FakeClock(finish)
    with pytest.raises(lease.AlreadyBuilt), lease.hold_lease(spec, time.clock):
        raise AssertionError("built although another process held the lease")
    assert results == [False, True]
    assert time.time == 1


def test_a_holder_that_lost_its_lease_keeps_the_other_s_and_raises(spec: ArtifactSpec) -> None:
    with lease.hold_lease(spec) as require_held:
        require_held()
        write_lease(spec, host="elsewhere", process="another")
        theirs = lease_file(spec).read_text()
        lease._heartbeat(spec, Beats(3))
        assert lease_file(spec).read_text() == theirs
        with pytest.raises(ClusterError, match="another process builds the artifact now"):
            require_held()
    assert lease_file(spec).read_text() == theirs


def test_delays_of_a_slow_storage_do_not_count_as_missed_heartbeats(
    spec: ArtifactSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lease(spec, host="elsewhere")
    delays, read, time = iter([0.0, 2 * lease.LEASE_TIMEOUT]), lease._read, FakeClock()

    def slow(spec: ArtifactSpec) -> Any:
        time.time += next(delays, 0.0)
        return read(spec)

    monkeypatch.setattr(lease, "_read", slow)
    assert not lease.wait_for_artifact(spec, time.clock)
    assert time.time > 1 + 3 * lease.LEASE_TIMEOUT


CONTENDER = """
import sys, time
from pathlib import Path
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.runtime import lease
from raydistill.storage import Folder
from raydistill.storage.checked import to_json

root, name, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for n in range(rounds):
    spec = ArtifactSpec("curated", "0" * 64, Folder(root / f"curated-{n}"), 0, {}, {})
    (root / f"ready-{n}-{name}").touch()
    while len(list(root.glob(f"ready-{n}-*"))) < 2:
        pass
    try:
        with lease.hold_lease(spec, lease.Clock(time.monotonic, lambda seconds: time.sleep(seconds / 20))):
            print(n, "begin", name, flush=True)
            (root / f"held-{n}").open("x").close()
            time.sleep(0.01)
            spec.folder.write("manifest.json", b"{}")
    except lease.AlreadyBuilt:
        pass
"""


def test_exactly_one_of_two_processes_that_start_together_holds_the_lease(tmp_path: Path) -> None:
    rounds = 40
    command = [sys.executable, "-c", CONTENDER, str(tmp_path)]
    contenders = [
        subprocess.Popen([*command, name, str(rounds)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for name in "ab"
    ]
    outputs = [contender.communicate(timeout=100) for contender in contenders]
    assert [contender.returncode for contender in contenders] == [0, 0], [errors[-2000:] for _, errors in outputs]
    held = sorted(int(line.split()[0]) for output, _ in outputs for line in output.splitlines())
    assert held == list(range(rounds))
