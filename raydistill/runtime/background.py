"""A thread that runs while the body of a `with` runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def run_in_background(work: Callable[[threading.Event], None], timeout: float | None = None) -> Iterator[None]:
    """Run `work(done)` in a daemon thread during the body.

    At the end of the body `done` is set and the thread joined.

    Parameters
    ----------
    work
        A function that returns soon after its event is set.
    timeout
        Seconds to wait for the thread; None: until it ends.
    """
    done = threading.Event()
    thread = threading.Thread(target=work, args=(done,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout)
