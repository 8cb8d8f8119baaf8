"""Run jobs in threads that stop together and keep a common pace."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from raydistill.errors import ConfigError
from raydistill.fetching.http import Interrupted

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_in_threads(
    work: Callable[[Job], Result], jobs: Sequence[Job], parallel: int, stop: threading.Event
) -> list[Result]:
    """Return `work(job)` of every job, in their order, from `parallel` threads.

    The threads are daemons: after Ctrl-C the process need not wait for a server that does not
    answer. An error in one sets `stop` for the others, and is raised here.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, Result | None, BaseException | None]] = queue.SimpleQueue()
    for index in range(len(jobs)):
        waiting.put(index)

    def loop() -> None:
        while not stop.is_set():
            try:
                index = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((index, work(jobs[index]), None))
            except BaseException as error:
                done.put((index, None, error))

    for _ in range(min(parallel, len(jobs))):
        threading.Thread(target=loop, daemon=True).start()
    results: dict[int, Any] = {}
    try:
        while len(results) < len(jobs):
            index, result, error = done.get()
            if error is not None:
                raise error
            results[index] = result
    except BaseException:
        stop.set()
        raise
    return [results[index] for index in range(len(jobs))]


# Keep a common pace of requests over several threads.


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
