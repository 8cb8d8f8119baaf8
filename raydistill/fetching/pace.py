"""Keep a common pace of requests over several threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from raydistill.errors import ConfigError
from raydistill.fetching.http import Interrupted


class Pace:
    """Space requests by at least 1/rate seconds; a pause holds all threads back.

    Parameters
    ----------
    rate
        Most requests a second.
    clock
        Returns seconds of a monotonic clock.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        if not rate > 0:
            raise ConfigError(f"the rate is {rate:g} requests a second", "--rate", "give a positive number")
        self._spacing, self._clock = 1 / rate, clock
        self._next, self._lock = clock(), threading.Lock()

    def reserve(self) -> float:
        """Reserve the next moment for a request, and return the seconds until then."""
        with self._lock:
            now = self._clock()
            moment = max(self._next, now)
            self._next = moment + self._spacing
            return moment - now

    def wait(self, stop: threading.Event) -> None:
        """Wait for the next moment. Interrupted if `stop` is set meanwhile."""
        if stop.wait(self.reserve()):
            raise Interrupted

    def pause(self, seconds: float) -> None:
        """Make no request for this time: the server is busy."""
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)
