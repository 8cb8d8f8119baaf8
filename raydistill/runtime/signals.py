"""Threads beside the main one, and signals that unwind it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Unwind the stack on SIGTERM as on Ctrl-C.
#
# `finally` blocks then close the MLflow runs. SIGTERM comes from `kill`, from a scheduler, or from a
# spot machine that is reclaimed.

_terminated = threading.Event()  # set by SIGTERM: Ray changes the code of a SystemExit that is raised while it waits


def raise_on_sigterm() -> None:
    """Make SIGTERM raise SystemExit(143) in the main thread.

    Call it after `ray.init`, whose own handler would kill Ray's processes first.
    """
    _terminated.clear()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _exit)


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Make SIGTERM raise SystemExit(143) in the body, unless it has a handler already."""
    is_unhandled = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if is_unhandled:
        raise_on_sigterm()
    try:
        yield
    finally:
        if is_unhandled and signal.getsignal(signal.SIGTERM) is _exit:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _exit(number: int, _frame: object) -> None:
    if not _terminated.is_set():  # a second one, to the process group, must not break the `finally` blocks
        _terminated.set()
        raise SystemExit(128 + number)


@contextmanager
def preserve_sigint() -> Iterator[None]:
    """Raise KeyboardInterrupt on Ctrl-C in the body; then restore SIGINT's handler.

    Ray Train installs a SIGINT handler that exits with 0 or 1, and does not remove it.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if _terminated.is_set():
            raise
        raise KeyboardInterrupt from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


# A thread that runs while the body of a `with` runs.


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
