"""Call a tracking server that may fail, without stopping the computation.

A failed attempt is one of two kinds:

- *permanent* (a bad name, a missing file): the record would fail again, so it is dropped with one
  warning;
- *transient* (no server, a full disk): the record is tried again after a pause.

The pause grows with each failure and with the time that the failure took. A dead server therefore
costs about a tenth of the run time. This module does not depend on MLflow.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from enum import Enum
from typing import Generic, TypeVar

from raydistill.log import duration, get_logger
from raydistill.storage.patience import say_waiting

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
    the attempt; it is no cause, although Python chains it.
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
