"""SIGTERM (`kill`, a scheduler, a spot machine that is taken back) unwinds the stack as Ctrl-C does, so that runs are closed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_terminated = threading.Event()  # by SIGTERM; Ray replaces the code of an exit that is raised while it waits


def raise_on_sigterm() -> None:
    """From now on SIGTERM raises SystemExit(143) in the main thread. Called after `ray.init`, whose own handler is ruder."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _exit)


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """The same inside the body, unless somebody (Ray, the command line) handles it already."""
    mine = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if mine:
        raise_on_sigterm()
    try:
        yield
    finally:
        if mine and signal.getsignal(signal.SIGTERM) is _exit:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _exit(number: int, _frame: object) -> None:
    _terminated.set()
    raise SystemExit(128 + number)


@contextmanager
def preserve_sigint() -> Iterator[None]:
    """Ctrl-C is a KeyboardInterrupt in the body and after it.

    For Ray Train, which sets a handler of SIGINT that exits, with 0 or 1, and that stays when the training is over.
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
