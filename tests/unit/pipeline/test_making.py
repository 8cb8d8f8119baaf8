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
from raydistill.artifacts.storage import Folder
from raydistill.errors import ClusterError
from raydistill.pipeline import making
from raydistill.pipeline.plan import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place("curated", "0" * 64, Folder(tmp_path / "curated-0"), 0, {}, {})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "SECOND_LOOK", 0.01)
    monkeypatch.setattr(making, "RENEWED", 0.05)


def sign(place: Place) -> Path:
    return Path(place.folder.uri).parent / ".curated-0.making"


def leave(place: Place, **who: Any) -> None:
    sign(place).write_text(json.dumps({**making.US, "sign": "a", **who}))


def test_what_nobody_makes_is_ours_and_the_sign_goes_with_the_work(place: Place) -> None:
    assert not making.waited(place)
    assert not sign(place).exists(), "nothing is written before the work begins"
    with making.making(place):
        first = sign(place).read_text()
        time.sleep(0.3)
        assert sign(place).read_text() != first, "not renewed"
    assert not sign(place).exists()


def test_what_is_there_is_not_made(place: Place) -> None:
    place.folder.write(NAME, b"{}")
    assert making.waited(place)
    with pytest.raises(making.MadeMeanwhile), making.making(place):
        raise AssertionError("made again")
    assert not sign(place).exists()


def test_a_process_of_this_machine_that_is_no_more_is_not_waited_for(place: Place) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    leave(place, pid=gone.pid)
    assert not making.waited(place)


@pytest.mark.parametrize(
    "who", [{"host": "elsewhere"}, {"boot": "another", "pid": 2**22 + 1}, {"pids": "pid:[1]", "pid": 2**22 + 1}]
)
def test_another_machine_s_silence_is_waited_for_once(
    place: Place, monkeypatch: pytest.MonkeyPatch, who: dict[str, Any]
) -> None:
    """And one's that has the same name, or another container's: of their processes nothing is to be seen here."""
    monkeypatch.setattr(making, "SILENCE", 1.5)
    leave(place, **who)
    began = time.monotonic()
    assert not making.waited(place)
    assert time.monotonic() - began > 1.5


def test_who_waits_for_a_maker_finds_what_it_made(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    leave(place, host="elsewhere")

    def other() -> None:
        time.sleep(0.5)
        place.folder.write(NAME, b"{}")
        sign(place).unlink()

    maker = threading.Thread(target=other)
    maker.start()
    with caplog.at_level("INFO", "raydistill"):
        assert making.waited(place)
    maker.join()
    assert caplog.text.count("on elsewhere, waiting for it") == 1


def test_of_two_that_begin_at_once_the_later_sign_stays(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "SILENCE", 1.0)
    seen: list[str] = []

    def overtaken(seconds: float) -> None:
        if not seen:
            leave(place, host="elsewhere")
        seen.append("looked again")

    monkeypatch.setattr(making.time, "sleep", overtaken)
    with making.making(place):
        assert len(seen) > 2, "it did not wait for the other"


def test_who_was_taken_for_gone_leaves_the_other_s_sign_and_gives_up(place: Place) -> None:
    with making.making(place) as demand_ours:
        demand_ours()
        leave(place, host="elsewhere", process="another")
        theirs = sign(place).read_text()
        time.sleep(0.3)  # some times as long as it takes to renew ours
        assert sign(place).read_text() == theirs
        with pytest.raises(ClusterError, match="another one makes the artifact now"):
            demand_ours()
    assert sign(place).read_text() == theirs


def test_a_storage_that_keeps_us_waiting_may_keep_the_maker_from_signing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "SILENCE", 1.5)
    leave(place, host="elsewhere")
    slow, read = iter([0.0, 2.0, 0.0, 0.0, 0.0, 0.0]), making._read

    def hesitant(where: Place) -> Any:
        time.sleep(next(slow, 0.0))
        return read(where)

    monkeypatch.setattr(making, "_read", hesitant)
    began = time.monotonic()
    assert not making.waited(place)
    assert time.monotonic() - began > 1 + 2.0 + 1.5, "the time that the storage was away counted as silence"
