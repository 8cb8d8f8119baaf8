"""Deliver records to a server in memory that fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raydistill.tracking import delivery
from raydistill.tracking.delivery import CircuitBreaker, Outcome, RecordQueue


class Server:
    """A server in memory, with a clock that moves only when a test moves it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.is_up = True
        self.received: list[object] = []
        self.breaker = CircuitBreaker("somewhere", lambda uri: self, clock=lambda: self.now)

    def receive(self, record: object) -> Callable[[Server], None]:
        def action(server: Server) -> None:
            if not server.is_up:
                raise ConnectionError("no server")
            server.received.append(record)

        return action

    def queue(self) -> RecordQueue[Server, int]:
        queue: RecordQueue[Server, int] = RecordQueue(
            self.breaker, self.receive("open"), lambda points, server: self.receive(points)(server)
        )
        queue.send()
        return queue


def refuse(server: Server) -> None:
    raise ValueError("bad name")


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_warning_names_the_failure_of_tracking_and_not_of_the_body(caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    server.is_up = False
    try:
        raise KeyError("galaxies")
    except KeyError:
        assert server.breaker.attempt("run", server.receive("open")) is Outcome.RETRY
    (warning,) = warnings(caplog)
    assert "no server" in warning
    assert "galaxies" not in warning


def test_attempts_to_reach_a_dead_server_become_rare() -> None:
    server, attempts = Server(), list[float]()
    server.is_up = False

    def ask(server: Server) -> None:
        attempts.append(server.now)
        if not server.is_up:
            server.now += 20  # a silent server costs two timeouts of ten seconds
            raise TimeoutError("silent")

    while server.now < 3600:
        server.now += 1
        server.breaker.attempt("metrics", ask)
    assert 20 * len(attempts) < 0.2 * 3600, "more than a fifth of an hour went to a server that never answered"
    assert len(attempts) > 20, "a server that comes back would not be noticed for minutes"
    server.is_up, server.now = True, server.now + 121
    assert server.breaker.attempt("metrics", ask) is Outcome.DONE
    assert server.breaker.attempt("metrics", ask) is Outcome.DONE


def test_permanent_failure_drops_the_record_and_gives_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    assert [server.breaker.attempt("tags", refuse) for _ in range(2)] == [Outcome.DROPPED] * 2
    (warning,) = warnings(caplog)
    assert "somewhere refused the tags (ValueError: bad name)" in warning
    assert server.breaker.attempt("tags", server.receive("tags")) is Outcome.DONE


def test_records_of_an_outage_arrive_in_order() -> None:
    server = Server()
    queue = server.queue()
    server.is_up = False
    for record in ("first", "second"):
        queue.put(record, server.receive(record))
    for point in range(1500):
        queue.put_point(point)
    server.is_up = True
    queue.close(server.receive("end"))
    assert server.received == ["open", "first", "second", list(range(1000)), list(range(1000, 1500)), "end"]


def test_refused_run_gets_no_further_calls() -> None:
    server = Server()
    queue: RecordQueue[Server, int] = RecordQueue(server.breaker, refuse, lambda points, server: None)
    queue.put("tags", server.receive("tags"))
    queue.close(server.receive("end"))
    assert server.received == []


def test_long_outage_keeps_the_newest_points_and_the_oldest_records(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "raydistill")
    monkeypatch.setattr(delivery, "MAX_KEPT_POINTS", 3)
    monkeypatch.setattr(delivery, "MAX_KEPT_RECORDS", 2)
    server = Server()
    queue = server.queue()
    server.is_up = False
    for record in ("first", "second", "third"):
        queue.put(record, server.receive(record))
    queue.put("tags", server.receive("tags"), always=True)
    for point in range(9):
        queue.put_point(point)
    server.is_up = True
    queue.close(server.receive("end"))
    assert server.received == ["open", "first", "second", "tags", [6, 7, 8], "end"]
    assert "1 records did not reach somewhere" in caplog.text
