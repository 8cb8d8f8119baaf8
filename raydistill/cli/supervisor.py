"""Outlive a command, and report its end if Ray or the kernel ends it.

Ray ends a driver by `_Exit(1)` if it cannot reach its raylet or GCS. So the command runs in a child
process. If it ends without a word, its MLflow runs become KILLED, and the sentence and the exit code
are those of a lost cluster.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from raydistill.errors import ClusterError
from raydistill.runtime import driver_notes

_FORWARDED = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
FIX = "run the same command again; what is finished is kept"


def supervise(command: Callable[[], object]) -> None:
    """Run the command in a child process on Linux, elsewhere in this one."""
    _open_streams()
    try:
        os.getcwd()
    except FileNotFoundError:
        print("raydistill: the working directory was removed; change to another one", file=sys.stderr)
        sys.exit(3)
    if sys.platform.startswith("linux"):
        driver_notes.keep()
    if not driver_notes.are_kept():
        command()
        return
    watched = _FORWARDED | {signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    prctl = ctypes.CDLL(None).prctl
    supervisor, child = os.getpid(), os.fork()
    if child:
        prctl(_PR_SET_CHILD_SUBREAPER, 1)  # it inherits the processes of a dead Ray
        _exit_like(_wait(child, watched))
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:  # it was killed just now
        os._exit(1)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, watched)
    try:
        command()
    finally:
        driver_notes.note("ended")


def _open_streams() -> None:
    """Open a closed stdin, stdout or stderr, whose number another file would get."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdout, sys.stderr = sys.stdout or open(1, "w"), sys.stderr or open(2, "w")  # noqa: SIM115


def _wait(child: int, watched: set[signal.Signals]) -> int:
    """Return the exit code of the child, negative for a signal; forward signals to it.

    The terminal sends its own signals to both processes.
    """
    while True:
        received = signal.sigwaitinfo(watched)
        if received.si_signo != signal.SIGCHLD:
            if received.si_code <= 0:  # a process sent it
                os.kill(child, received.si_signo)
            continue
        ended = status = 1
        while ended:
            ended, status = os.waitpid(-1, os.WNOHANG)
            if ended == child:
                return os.waitstatus_to_exitcode(status)


def _exit_like(code: int) -> None:
    """Exit as the child did, or report that it ended without a word."""
    has_ended = bool(driver_notes.read("ended"))
    if driver_notes.read("lost") or not has_ended:
        _kill_children()
    if not has_ended:
        error = _error(code)
        _close_runs()
        show_cursor = "\033[?25h" if sys.stderr.isatty() else ""
        print(f"{show_cursor}raydistill: {error}", file=sys.stderr, flush=True)
        code = error.exit_code
    os._exit(code if code >= 0 else 128 - code)


def _error(code: int) -> ClusterError:
    for (reason,) in driver_notes.read("lost"):
        return ClusterError(reason, "Ray", FIX)
    if code >= 0:
        return ClusterError("it ended the command, because its raylet or GCS cannot be reached", "Ray", FIX)
    name = signal.Signals(-code).name
    reason = "because of a limit of CPU time (ulimit -t)" if name == "SIGXCPU" else "perhaps for lack of memory"
    return ClusterError(f"{name} ended the command, {reason}", "this machine", FIX)


def _kill_children() -> None:
    with suppress(ChildProcessError):  # there are none left
        while True:
            for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
                os.kill(int(child), signal.SIGKILL)
            os.wait()


def _close_runs() -> None:
    closed = {run for (run,) in driver_notes.read("closed")}
    left = [(uri, run) for uri, run in driver_notes.read("opened") if run not in closed]
    if left:
        from raydistill.tracking.tracker import kill_run

        for uri, run in reversed(left):
            kill_run(uri, run)
