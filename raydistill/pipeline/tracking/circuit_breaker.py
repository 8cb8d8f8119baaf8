"""The way to a tracking server that may be away: whatever goes wrong there, the science goes on.

A failure is one of two things. A *refusal* (a bad name, a missing file) would be refused again: said once, dropped.
An *absence* (nobody listens, the disk is full) is worth another attempt after a pause, which grows with each failure
and with what the failure cost, so that a dead server takes at most a tenth of the time. Knows nothing of MLflow.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from enum import Enum
from typing import Generic, TypeVar

from raydistill.log import duration, get_logger

log = get_logger(__name__)

Client = TypeVar("Client")
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 120.0  # seconds


class Outcome(Enum):
    DONE = "done"
    DROPPED = "dropped"  # refused for what it is
    RETRY = "later"  # keep it: worth another attempt


class CircuitBreaker(Generic[Client]):
    """A connection to `uri`, opened by `connect` at the first attempt."""

    def __init__(self, uri: str, connect: Callable[[str], Client]) -> None:
        self.uri, self.shown_uri = uri, without_password(uri)
        self._connect = connect
        self._client: Client | None = None
        self._failures = 0
        self._resume_at = 0.0
        self._warned: set[str] = set()

    def attempt(self, what: str, action: Callable[[Client], object], *, last: bool = False) -> Outcome:
        """Do `action` unless a pause is on. At the end of a run (`last`) a short absence is given one more chance."""
        if time.monotonic() < self._resume_at and not (last and self._failures < 3):
            return Outcome.RETRY
        began, surrounding = time.monotonic(), sys.exception()
        try:
            if self._client is None:
                self._client = self._connect(self.uri)
            action(self._client)
        except Exception as error:  # whatever it is, the science goes on
            if self._client is not None and is_refusal(error):
                self.warn_once(what, f"{self.shown_uri} refused the {what} ({cause(error, surrounding)})")
                return Outcome.DROPPED
            self._pause(time.monotonic() - began)
            self.warn_once("away", f"nothing can be recorded at {self.shown_uri} ({cause(error, surrounding)})")
            return Outcome.RETRY
        if self._failures:
            log.info("tracking: %s answers again", self.shown_uri)
        self._failures, self._resume_at = 0, 0.0
        return Outcome.DONE

    def warn_once(self, about: str, sentence: str) -> None:
        if about not in self._warned:
            self._warned.add(about)
            log.warning("tracking: %s; the run goes on without it", sentence)

    def _pause(self, cost: float) -> None:
        self._failures += 1
        pause = min(max(FIRST_PAUSE * 2 ** (self._failures - 1), 10 * cost), LONGEST_PAUSE)
        self._resume_at = time.monotonic() + pause
        log.debug("tracking: attempt %d failed, the next in %s", self._failures, duration(pause))


def is_refusal(error: Exception) -> bool:
    """Whether the same record would fail again: an HTTP status 4xx, or an error of the record itself."""
    status_of = getattr(error, "get_http_status_code", None)
    if status_of is not None:
        status = int(status_of())
        return 400 <= status < 500 and status not in (408, 429)
    return isinstance(error, TypeError | ValueError | LookupError | FileNotFoundError)


def cause(error: BaseException, surrounding: BaseException | None = None) -> str:
    """One line: the system's own word (connection refused, no space left) where there is one beneath `error`.

    `surrounding` is the exception that was being handled all the while, which is not a cause.
    """
    root = error
    while (inner := root.__cause__ or root.__context__) is not None and inner is not surrounding:
        root = inner
    shown = root if isinstance(root, OSError) else error
    line = next(iter(str(shown).splitlines()), "")
    return without_password(f"{type(shown).__name__}: {line}")[:300]


def without_password(text: str) -> str:
    return re.sub(r"//[^/\s]+@", "//…@", text)
