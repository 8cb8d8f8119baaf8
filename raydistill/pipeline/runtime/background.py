"""A thread that lives as long as the body of a `with`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def run_in_background(work: Callable[[threading.Event], None], patience: float | None = None) -> Iterator[None]:
    """`work(done)` in a thread of its own; at the body's end `done` is set, and `work` is waited for, `patience` seconds at most."""
    done = threading.Event()
    thread = threading.Thread(target=work, args=(done,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(patience)
