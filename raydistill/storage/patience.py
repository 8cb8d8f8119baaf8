"""Wait for a server with a limit, and log a line every 15 seconds.

Clients of stores have limits for the next bytes alone, and repeat each request many times. So a
server that never answers, or sends a byte now and then, would keep a command for hours.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from raydistill.errors import ConfigError
from raydistill.log import duration, get_logger

log = get_logger(__name__)

T = TypeVar("T")

SECONDS_BETWEEN_LINES = 15.0
LIMIT = "RAYDISTILL_STORAGE_SECONDS"  # of one request, repeats included
SLOWEST = 100_000  # bytes per second, by which the limit grows
AFTER_SILENCE = 5.0  # limit of the next request, so that a command ends soon


def seconds_of_a_request() -> float:
    """Return the limit of a request without data. ConfigError if it is not positive."""
    text = os.environ.get(LIMIT, "65")
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ConfigError(f"'{text}' is not a positive number of seconds", LIMIT, "set it to 65, or remove it")
    return seconds


class SilentServer(OSError):
    """Report a server that did not answer in time.

    It is not a TimeoutError, which clients would answer by repeating the request.
    """


class Patience:
    """The patience with one store; it is short after a request without an answer."""

    def __init__(self) -> None:
        self._is_silent = False

    def exchange(self, where: str, num_bytes: int = 0) -> Exchange:
        """Return the wait for the answer to a request that sends this number of bytes."""
        limit = AFTER_SILENCE if self._is_silent else seconds_of_a_request()
        return Exchange(where, limit + num_bytes / SLOWEST, self._note)

    def _note(self, is_silent: bool) -> None:
        self._is_silent = is_silent


class Exchange:
    """One request and its answer, whose bytes extend the limit.

    Parameters
    ----------
    where
        Address of the file.
    seconds
        Time until the request is given up.
    note
        Called with False after an answer, and with True after none.
    """

    def __init__(self, where: str, seconds: float, note: Callable[[bool], None]) -> None:
        self._where, self._note = where, note
        self._start = time.monotonic()
        self._deadline = self._start + seconds
        self._next_line = self._start + SECONDS_BETWEEN_LINES

    async def wait(self, work: Awaitable[T]) -> T:
        """Return the result of `work`. SilentServer if it comes too late."""
        task = asyncio.ensure_future(work)
        try:
            while True:
                now = time.monotonic()
                if now >= self._next_line:
                    log.info(line(self._where, now - self._start, self._deadline - self._start))
                    self._next_line = now + SECONDS_BETWEEN_LINES
                if now >= self._deadline:
                    self._note(True)
                    raise SilentServer(f"no answer for {duration(now - self._start)}")
                await asyncio.wait({task}, timeout=min(self._next_line, self._deadline) - now)
                if task.done():
                    self._note(False)
                    return task.result()
        finally:
            task.cancel()

    async def read(self, body: Any, amount: int | None = None) -> bytes:
        """Return the next bytes of an answer, or all."""
        pieces = []
        while piece := await self.wait(body.read(amount or 2**16)):
            self._deadline += len(piece) / SLOWEST
            if amount:
                return piece
            pieces.append(piece)
        return b"".join(pieces)


@contextmanager
def say_waiting(where: str, seconds: float | None = None) -> Iterator[Callable[[], None]]:
    """Log a line every 15 seconds without a call of the yielded function.

    Parameters
    ----------
    where
        The server.
    seconds
        Time after which the body gives up, if it is known.
    """
    done, heard = threading.Event(), time.monotonic()

    def hear() -> None:
        nonlocal heard
        heard = time.monotonic()

    def watch() -> None:
        next_line = SECONDS_BETWEEN_LINES
        while not done.wait(max(heard + next_line - time.monotonic(), 0.1)):
            silent = time.monotonic() - heard
            if silent >= next_line:
                log.info(line(where, silent, seconds))
            next_line = SECONDS_BETWEEN_LINES * (silent // SECONDS_BETWEEN_LINES + 1)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield hear
    finally:
        done.set()


def line(where: str, silent: float, limit: float | None) -> str:
    """Return the line of a wait."""
    end = "" if limit is None else f"; it is given up after {duration(limit)}"
    return f"waiting for {where} for {duration(silent)}{end}"
