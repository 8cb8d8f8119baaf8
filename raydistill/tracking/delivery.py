"""Deliver the records of one run to a tracking server, in order and in batches.

During an outage the records wait. This module does not depend on MLflow.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Generic, TypeVar

from raydistill.log import duration, get_logger
from raydistill.storage.patience import say_waiting

# Call a tracking server that may fail, without stopping the computation.
#
# A failed attempt is one of two kinds:
#
# - *permanent* (a bad name, a missing file): the record would fail again, so it is dropped with one
#   warning;
# - *transient* (no server, a full disk): the record is tried again after a pause.
#
# The pause grows with each failure and with the time that the failure took. A dead server therefore
# costs about a tenth of the run time. This module does not depend on MLflow.

log = get_logger(__name__)

Client = TypeVar("Client")
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 120.0  # seconds


class Outcome(Enum):
    DONE = "done"
    DROPPED = "dropped"  # a permanent failure
    RETRY = "retry"  # a transient failure, or a pause


class CircuitBreaker(Generic[Client]):
    """Call one tracking server, which may fail.

    Parameters
    ----------
    uri
        The server. Log lines show it without its password.
    connect
        Opens a client of `uri`; called at the first attempt.
    clock
        Monotonic time in seconds.
    """

    def __init__(self, uri: str, connect: Callable[[str], Client], clock: Callable[[], float] = time.monotonic) -> None:
        self.uri, self.shown_uri = uri, hide_password(uri)
        self._connect, self._clock = connect, clock
        self._client: Client | None = None
        self._failures = 0
        self._resume_at = 0.0
        self._warned: set[str] = set()

    def attempt(self, name: str, action: Callable[[Client], object], *, last: bool = False) -> Outcome:
        """Call `action` with the client, unless a pause is on.

        Parameters
        ----------
        name
            The kind of record, for warnings.
        action
            A function of the client that sends the record.
        last
            The run ends: try once more during a pause, unless three attempts in a row have failed.

        Returns
        -------
        Outcome
            RETRY asks the caller to keep the record and try again later. No exception is raised.
        """
        if self._clock() < self._resume_at and not (last and self._failures < 3):
            return Outcome.RETRY
        start, surrounding = self._clock(), sys.exception()
        try:
            if self._client is None:
                self._client = self._connect(self.uri)
            with say_waiting(self.shown_uri):
                action(self._client)
        except Exception as error:  # no failure of tracking may stop the computation
            if self._client is not None and is_permanent(error):
                self.warn_once(name, f"{self.shown_uri} refused the {name} ({describe_cause(error, surrounding)})")
                return Outcome.DROPPED
            self._pause(self._clock() - start)
            cause = describe_cause(error, surrounding)
            self.warn_once("connection", f"nothing can be recorded at {self.shown_uri} ({cause})")
            return Outcome.RETRY
        if self._failures:
            log.info("tracking: %s answers again", self.shown_uri)
        self._failures, self._resume_at = 0, 0.0
        return Outcome.DONE

    def warn_once(self, topic: str, problem: str) -> None:
        """Log a warning; later warnings of the same topic are left out."""
        if topic not in self._warned:
            self._warned.add(topic)
            log.warning("tracking: %s; the run continues without it", problem)

    def _pause(self, cost: float) -> None:
        self._failures += 1
        pause = min(max(FIRST_PAUSE * 2 ** (self._failures - 1), 10 * cost), LONGEST_PAUSE)
        self._resume_at = self._clock() + pause
        log.debug("tracking: attempt %d failed, the next in %s", self._failures, duration(pause))


def is_permanent(error: Exception) -> bool:
    """Return whether the same record would fail again.

    It would after an HTTP status 4xx, or after an error in the record itself.
    """
    status_of = getattr(error, "get_http_status_code", None)
    if status_of is not None:
        status = int(status_of())
        return 400 <= status < 500 and status not in (408, 429)
    return isinstance(error, TypeError | ValueError | LookupError | FileNotFoundError)


def describe_cause(error: BaseException, surrounding: BaseException | None = None) -> str:
    """Return the cause of an error in one line.

    The cause is the OSError at the root of the exception chain, such as "connection refused".
    Without one it is `error` itself. `surrounding` is an exception that was being handled before
    the attempt; it is not a cause, although Python chains it.
    """
    root = error
    while (inner := root.__cause__ or root.__context__) is not None and inner is not surrounding:
        root = inner
    shown = root if isinstance(root, OSError) else error
    line = next(iter(str(shown).splitlines()), "")
    return hide_password(f"{type(shown).__name__}: {line}")[:300]


def hide_password(text: str) -> str:
    """Replace user and password in the URLs of a text by an ellipsis."""
    return re.sub(r"//[^/\s]+@", "//…@", text)


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
