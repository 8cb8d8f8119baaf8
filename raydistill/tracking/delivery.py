"""Deliver the records of one run to a tracking server, in order and in batches.

During an outage the records wait. This module does not depend on MLflow.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from raydistill.log import get_logger
from raydistill.tracking.circuit_breaker import CircuitBreaker, Client, Outcome

log = get_logger(__name__)

Point = TypeVar("Point")
SECONDS_BETWEEN_SENDS, POINTS_BETWEEN_SENDS = 1.0, 200
POINTS_PER_BATCH = 1000  # mlflow/utils/validation.py, 3.17
MAX_KEPT_POINTS, MAX_KEPT_RECORDS = 50_000, 1_000  # during an outage


class RecordQueue(Generic[Client, Point]):
    """The records and metric points of one run that wait to be sent.

    Several threads may use it. Records are sent in order, then points. The record that opens the
    run is the first, the one that ends it the last. If the server refuses the first, the others are
    dropped.

    During an outage the newest `MAX_KEPT_POINTS` points and the oldest `MAX_KEPT_RECORDS` records
    are kept.

    Parameters
    ----------
    breaker
        The connection to the server.
    open_run
        The record that opens the run.
    send_points
        Sends one batch of points. A batch may be sent twice, and must then change nothing.
    """

    def __init__(
        self,
        breaker: CircuitBreaker[Client],
        open_run: Callable[[Client], object],
        send_points: Callable[[list[Point], Client], object],
    ) -> None:
        self._breaker = breaker
        self._open_run: Callable[[Client], object] | None = open_run
        self._send_batch = send_points
        self._end_run: Callable[[Client], object] | None = None
        self._records: deque[tuple[str, Callable[[Client], object]]] = deque()
        self._points: deque[Point] = deque(maxlen=MAX_KEPT_POINTS)
        self._lock = threading.RLock()
        self._last_send = time.monotonic()
        self._num_discarded = 0  # records that came when the queue was full
        self._is_refused = False

    def put(self, name: str, action: Callable[[Client], object], *, always: bool = False) -> None:
        """Add a record and send what waits.

        A full queue discards the record, unless it must `always` be kept.
        """
        with self._lock:
            if len(self._records) < MAX_KEPT_RECORDS or always:
                self._records.append((name, action))
            else:
                self._num_discarded += 1
            self._send()

    def put_point(self, point: Point) -> None:
        """Add a point, to be sent with a later batch."""
        self._points.append(point)

    def send_if_due(self) -> None:
        """Send what waits, after a second or 200 points."""
        is_due = time.monotonic() - self._last_send >= SECONDS_BETWEEN_SENDS
        if is_due or len(self._points) >= POINTS_BETWEEN_SENDS:
            self.send()

    def send(self) -> None:
        """Send what waits."""
        with self._lock:
            self._send()

    def close(self, end_run: Callable[[Client], object]) -> None:
        """Send what waits and end the run; log how many records were lost."""
        with self._lock:
            self._end_run = end_run
            self._send(last=True)
        num_lost = len(self._records) + len(self._points) + self._num_discarded
        num_lost += (self._open_run is not None) + (self._end_run is not None)
        if num_lost and not self._is_refused:
            log.info("tracking: %d records did not reach %s", num_lost, self._breaker.shown_uri)

    def _send(self, last: bool = False) -> None:
        self._last_send = time.monotonic()
        attempt = partial(self._breaker.attempt, last=last)
        if self._open_run is not None:
            outcome = attempt("run", self._open_run)
            if outcome is Outcome.RETRY:
                return
            self._open_run, self._is_refused = None, outcome is Outcome.DROPPED
        if self._is_refused:
            self._records.clear()
            self._points.clear()
            self._end_run = None
            return
        while self._records:
            if attempt(*self._records[0]) is Outcome.RETRY:
                return
            self._records.popleft()
        while self._points:
            batch = [self._points[i] for i in range(min(len(self._points), POINTS_PER_BATCH))]
            if attempt("metrics", partial(self._send_batch, batch)) is Outcome.RETRY:
                return
            for _ in batch:
                self._points.popleft()
        if self._end_run is not None and attempt("end", self._end_run) is not Outcome.RETRY:
            self._end_run = None
