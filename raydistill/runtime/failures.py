"""Failures of Ray's workers, and their translation into raydistill's errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import ray.exceptions

from raydistill.errors import ClusterError, RaydistillError

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
