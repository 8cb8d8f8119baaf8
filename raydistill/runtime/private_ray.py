"""What a private Ray needs: limits of this machine, a short folder, a token."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray._common.utils import get_default_ray_temp_dir
from ray._private.utils import estimate_available_memory, resolve_object_store_memory

from raydistill.errors import ClusterError
from raydistill.log import get_logger

# Name what keeps a private Ray from starting.
#
# It is a limit of the shell, or the space for its files. Ray itself waits for its processes until a timeout.

MB = 2**20
SHARED_MEMORY = "/dev/shm"
LEAST_SPACE = 10 * MB  # logs of a session
LEAST_ADDRESSES = 4000 * MB  # of a worker that imports torch, without the object store
LEAST_FILES = 256  # open files of a process; fewer serve a small run
LEAST_THREADS = 220  # of Ray and one worker
FEW_THREADS = 10_000  # a limit from which threads are not counted
WHERE, AGAIN = "a private Ray", "and run the same command again"
CAUSES = re.compile(
    "no space left|disk quota exceeded|file too large|read-only file system|"
    "too many open files|resource temporarily unavailable|cannot allocate memory|can't start new thread",
    re.IGNORECASE,
)


def check_limits(object_store: int | None, temp_dir: str | None) -> None:
    """Raise ClusterError if a private Ray with this object store [bytes] cannot start.

    None stands for Ray's own choice.
    """
    size = object_store or resolve_object_store_memory(estimate_available_memory())
    if sys.platform != "win32":
        import resource

        for kind, least, what, option in (
            (resource.RLIMIT_FSIZE, size, "a file may have {} MB, and its object store is one of {} MB", "f"),
            (
                resource.RLIMIT_AS,
                LEAST_ADDRESSES + size,
                "a process may map {} MB of memory, and a worker maps {} MB",
                "v",
            ),
        ):
            limit = resource.getrlimit(kind)[0]
            if limit != resource.RLIM_INFINITY and limit < least:
                raise _error(what.format(_mb(limit), _mb(least)), f"raise the limit (ulimit -{option})")
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # Ray raises its own limit up to it
        if files != resource.RLIM_INFINITY and files < LEAST_FILES:
            what = f"a process may open {files} files, and Ray may open {LEAST_FILES}"
            raise _error(what, "raise the limit (ulimit -n)")
        threads = resource.getrlimit(resource.RLIMIT_NPROC)[0]
        if os.geteuid() and 0 <= threads < FEW_THREADS and threads - (used := _num_threads()) < LEAST_THREADS:
            what = f"a user may have {threads} threads, {used} run, and Ray starts {LEAST_THREADS}"
            raise _error(what, "raise the limit (ulimit -u)")
    _check_space(size, temp_dir or get_default_ray_temp_dir())


def _check_space(object_store: int, temp_dir: str) -> None:
    folder = _nearest(temp_dir)
    if not os.access(folder, os.W_OK):
        raise _error(f"its files cannot be written to {temp_dir}", "set TMPDIR to another folder")
    free, shared = _free(folder), _free(_nearest(SHARED_MEMORY))
    if free < LEAST_SPACE:
        what = f"{temp_dir} has {_mb(free)} MB free, and its files need {_mb(LEAST_SPACE)} MB"
        raise _error(what, "free some space, or set TMPDIR to another folder")
    if max(shared, free) < object_store:
        what = (
            f"{SHARED_MEMORY} has {_mb(shared)} MB free and {temp_dir} {_mb(free)} MB, and its object store "
            f"needs {_mb(object_store)} MB"
        )
        raise _error(what, "free some space, or lower resources.object_store_mb")


def find_cause(temp_dir: str | None) -> str | None:
    """Return the last line of Ray's logs that names a lack; None if there is none."""
    texts = []
    folder = Path(temp_dir or get_default_ray_temp_dir())
    for log in sorted(folder.glob(f"session_*_{os.getpid()}/logs/*.*")):
        with suppress(OSError):
            texts.append(log.read_text(errors="replace"))
    lines = [line.strip() for text in texts for line in text.splitlines() if CAUSES.search(line)]
    return lines[-1][-200:] if lines else None


def _nearest(path: str) -> Path:
    """Return the first folder that exists, of a path and those around it."""
    return next(folder for folder in (Path(path), *Path(path).parents) if folder.exists())


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free if os.access(folder, os.W_OK) else 0


def _mb(size: int) -> str:
    return f"{size / MB:.0f}" if size >= MB else f"{size / MB:.2g}"


def _num_threads() -> int:
    """Return the number of threads of this user (Linux)."""
    total = 0
    for tasks in Path("/proc").glob("[0-9]*/task"):
        with suppress(OSError):
            total += tasks.stat().st_nlink - 2 if tasks.stat().st_uid == os.getuid() else 0
    return total


def _error(what: str, fix: str) -> ClusterError:
    return ClusterError(f"cannot start: {what}", WHERE, f"{fix}, {AGAIN}")


# Choose a folder for Ray's sockets, whose paths are limited to about 100 bytes.

log = get_logger(__name__)

# sizeof(sun_path) of unix(7) and of macOS, less the final zero byte.
MAX_SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
# Ray's longest socket path below its folder; a process id has at most 7 digits.
LONGEST_SOCKET = "session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")


def choose_temp_dir() -> str | None:
    """Return a short folder for Ray if TMPDIR is too long for its sockets, else None.

    None also if no short folder can be written to.
    """
    default = get_default_ray_temp_dir()
    if sys.platform == "win32" or _fits(default):
        return None
    short = [f"{folder}/ray" for folder in SHORT_FOLDERS if Path(folder).is_dir() and os.access(folder, os.W_OK)]
    if not short:
        return None
    log.info("Ray: %s is too long for sockets; its files are in %s", default, short[0])
    return short[0]


def _fits(folder: str) -> bool:
    return len(os.fsencode(f"{folder}/{LONGEST_SOCKET}")) <= MAX_SOCKET_BYTES


# Draw the token of a private Ray, which only its processes know.
#
# By default Ray writes a token to `~/.ray/auth_token` and uses it again.

_raylet: Any = ray._raylet
MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"


@contextmanager
def private_token() -> Iterator[None]:
    """Give a Ray that starts in the body its own token, unless the user chose one."""
    mode = os.environ.get(MODE)
    if os.environ.get(TOKEN) or os.environ.get(TOKEN_PATH) or (mode or "token").lower() != "token":
        yield
        return
    os.environ[TOKEN] = secrets.token_hex(32)
    _raylet.AuthenticationTokenLoader.instance().reset_cache()
    try:
        yield
    finally:
        del os.environ[TOKEN]
        if mode is None:
            os.environ.pop(MODE, None)  # Ray has set it
            _raylet.Config.initialize("")
        _raylet.AuthenticationTokenLoader.instance().reset_cache()
