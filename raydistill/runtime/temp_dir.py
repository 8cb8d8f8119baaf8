"""Choose a folder for Ray's sockets, whose paths are limited to about 100 bytes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ray._common.utils import get_default_ray_temp_dir

from raydistill.log import get_logger

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
