"""Failures of Ray's workers and of Ray itself, as raydistill's errors."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

import ray
import ray.exceptions

from raydistill.errors import ClusterError, RaydistillError
from raydistill.log import get_logger
from raydistill.runtime import driver_notes
from raydistill.runtime.signals import run_in_background

WORKER_FAILURES = (
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.RayActorError,
)


@contextmanager
def translate_errors(stage: str) -> Iterator[None]:
    """Raise raydistill's own errors in place of those that Ray wraps around them.

    Raises
    ------
    RaydistillError
        The error that a task raised, without the traceback of the worker.
    ClusterError
        A worker died more often than Ray starts it again, or ran out of memory.
    """
    try:
        yield
    except WORKER_FAILURES as error:
        fix = "run the same command again; what is finished is kept"
        raise ClusterError(f"a worker died too often ({one_line(error)})", stage, fix) from error
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, RaydistillError):
            raise error.cause from None
        if _is_out_of_memory(error.cause):
            fix = (
                "use a larger machine or a larger share of it (resources.gpus, distill_gpus), "
                "or less memory for distilling (resources.distill_memory_mb)"
            )
            raise ClusterError(f"a worker ran out of memory ({one_line(error.cause)})", stage, fix) from error
        raise


def one_line(error: BaseException) -> str:
    """Return the last line of an error's message; before it, Ray puts tracebacks."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


def _is_out_of_memory(error: BaseException) -> bool:
    """Return whether torch (on a GPU or in main memory) or Python ran out of memory."""
    return type(error).__name__ in ("OutOfMemoryError", "MemoryError") or "can't allocate memory" in str(error)


# Stop a driver whose Ray has died.
#
# Without its raylet a driver waits without end, or Ray ends it by `_Exit(1)`. Without the GCS Ray does so
# after a minute. Here a connection to each of them closes when it dies. The driver then unwinds as on
# SIGTERM, so that its MLflow runs become KILLED.

log = get_logger(__name__)

UNWINDING_SECONDS = 20.0  # Ray's own calls may wait for a dead process
FIX = "run the same command again; what is finished is kept"
Address = str | tuple[str, int]  # of a unix socket, or of TCP


@contextmanager
def stop_if_ray_dies(private: bool) -> Iterator[None]:
    """Raise ClusterError in the body if the local raylet or a private GCS dies.

    The GCS of a cluster may come back within Ray's own limit of a minute.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # nothing can interrupt it
        return
    node: Any = ray._private.worker._global_node
    addresses: dict[str, Address] = {"raylet": node.raylet_socket_name.removeprefix("unix:")}
    if private:
        host, _, port = node.gcs_address.rpartition(":")
        addresses["GCS"] = (host.strip("[]"), int(port))
    lost: list[str] = []
    try:
        with run_in_background(partial(_watch, addresses, lost), timeout=5):
            yield
    except SystemExit:
        if not lost:
            raise
        raise ClusterError(f"its {lost[0]} died", "Ray", FIX) from None


def _watch(addresses: dict[str, Address], lost: list[str], done: threading.Event) -> None:
    with ExitStack() as stack:
        open_sockets: dict[str, socket.socket] = {}
        while not done.is_set():
            for name in addresses.keys() - open_sockets.keys():
                try:
                    open_sockets[name] = stack.enter_context(_connect(addresses[name]))
                except (ConnectionRefusedError, FileNotFoundError):
                    lost.append(name)
                    _stop(name, done)
                    return
                except OSError:  # a busy machine
                    done.wait(0.5)
            for name, connection in list(open_sockets.items()):
                if select.select([connection], [], [], 0.25)[0] and not _receive(connection):
                    open_sockets.pop(name).close()


def _connect(address: Address) -> socket.socket:
    if isinstance(address, tuple):
        return socket.create_connection(address, timeout=5)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5)
    connection.connect(address)
    return connection


def _receive(connection: socket.socket) -> bytes:
    with suppress(OSError):
        return connection.recv(4096)
    return b""


def _stop(name: str, done: threading.Event) -> None:
    log.error("Ray: its %s died", name)
    driver_notes.note("lost", f"its {name} died")
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    if not done.wait(UNWINDING_SECONDS) and driver_notes.are_kept():
        os._exit(1)  # the supervisor closes the MLflow runs
