"""Run jobs in daemon threads that stop together."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

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
