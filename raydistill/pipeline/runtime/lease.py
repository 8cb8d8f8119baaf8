"""One maker at a time: who makes an artifact leaves a sign of life beside its folder, and a second one waits for it.

What two makers of one artifact write has the same bits, but each would clear away what it takes for the other's leavings. The sign is
renewed every few seconds. Whoever finds one watches it on a clock of its own, and no two clocks are compared: a sign that stays the same
for `SILENCE` seconds is that of a maker who is gone, as is at once one of a process of this machine that is no more. A maker who was
taken for gone (its machine stood still, or the way to the storage) finds another's sign in place of its own, and gives up.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from raydistill.errors import ArtifactError, ArtifactMissing, ClusterError
from raydistill.log import get_logger
from raydistill.pipeline.plan import ArtifactSpec
from raydistill.pipeline.runtime.background import run_in_background
from raydistill.storage import Folder

log = get_logger(__name__)

HEARTBEAT_INTERVAL = 5.0  # seconds
LEASE_TIMEOUT = 40.0
SETTLE_SECONDS = 0.2  # at least: of two that begin at once, the later sign stays
_BOOT, _PIDS = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
_HOST = {  # whose pids: machines, and containers of one, may share a name
    "host": socket.gethostname(),
    "boot": _BOOT.read_text().strip() if _BOOT.exists() else "",
    "pids": os.readlink(_PIDS) if _PIDS.exists() else "",
}
HOLDER = _HOST | {
    "pid": os.getpid(),
    "process": uuid.uuid4().hex,  # a pid comes again
}


class AlreadyBuilt(Exception):
    """Another maker was quicker, and is done."""


def wait_for_artifact(spec: ArtifactSpec) -> bool:
    """Whether the artifact is there, after a wait for whoever makes it now. Nothing is written."""
    if not spec.done:
        _wait_for_holder(spec)
    return spec.done


@contextmanager
def hold_lease(spec: ArtifactSpec) -> Iterator[Callable[[], None]]:
    """The body makes the artifact under our sign of life. `MadeMeanwhile` in the place of the body: suppress it.

    Yields what is to be called before the artifact is sealed: ClusterError if another took us for gone, and makes it now.
    """
    if not _acquire(spec):
        raise AlreadyBuilt
    try:
        with run_in_background(partial(_heartbeat, spec)):
            yield partial(_require_held, spec)
    finally:
        with suppress(ArtifactError, OSError):
            if not _is_held_by_another(spec):
                _release(spec)


def _heartbeat(spec: ArtifactSpec, done: threading.Event) -> None:
    while not done.wait(HEARTBEAT_INTERVAL):
        with suppress(ArtifactError, OSError):  # a store or disk that does not answer; the body will say so
            if _is_held_by_another(spec):
                return
            _write(spec)


def _is_held_by_another(spec: ArtifactSpec) -> bool:
    sign = _read(spec)
    return sign is not None and not _is_ours(sign)


def _require_held(spec: ArtifactSpec) -> None:
    if _is_held_by_another(spec):
        what = f"this process gave no sign of life for {LEASE_TIMEOUT:g} s, and another one makes the artifact now"
        raise ClusterError(what, spec.folder.uri, "run the same command again to wait for it")


def _acquire(spec: ArtifactSpec) -> bool:
    while not wait_for_artifact(spec):
        began = time.monotonic()
        _write(spec)
        # Who looked before that has signed by then, too: from its look to its sign it asks the storage for a few things more.
        time.sleep(max(SETTLE_SECONDS, 5 * (time.monotonic() - began)))
        sign = _read(spec)
        if sign and _is_ours(sign):
            return True
    return False


def _wait_for_holder(spec: ArtifactSpec) -> None:
    """Until no other maker is alive."""
    sign, seen = _read(spec), time.monotonic()
    if sign and _is_alive(sign):
        who = f"process {sign['pid']} on {sign['host']}"
        log.info("%s: is being made by %s, waiting for it (%s)", spec.kind, who, spec.folder)
    while sign and _is_alive(sign):
        time.sleep(1)
        asked = time.monotonic()
        now = _read(spec)
        kept_waiting = (
            time.monotonic() - asked > HEARTBEAT_INTERVAL
        )  # by a storage that kept the other from signing, too
        if now != sign or kept_waiting:
            sign, seen = now, time.monotonic()
        elif time.monotonic() - seen > LEASE_TIMEOUT:
            log.info("%s: no sign of life for %g s, going on with it", spec.kind, LEASE_TIMEOUT)
            _release(spec)
            return


def _write(spec: ArtifactSpec) -> None:
    root, name = _location(spec)
    root.write(name, json.dumps(HOLDER | {"sign": uuid.uuid4().hex}).encode())


def _release(spec: ArtifactSpec) -> None:
    root, name = _location(spec)
    root.remove(name)


def _read(spec: ArtifactSpec) -> dict[str, Any] | None:
    root, name = _location(spec)
    try:
        found: dict[str, Any] = json.loads(root.read(name))
    except (ArtifactMissing, json.JSONDecodeError):
        return None
    return found


def _is_ours(sign: dict[str, Any]) -> bool:
    return all(sign.get(key) == value for key, value in HOLDER.items())


def _is_alive(sign: dict[str, Any]) -> bool:
    """False for us, and for a process of this machine (and container) that is no more."""
    if any(sign.get(key) != value for key, value in _HOST.items()):
        return True
    if sign["pid"] == HOLDER["pid"]:
        return False
    try:
        os.kill(sign["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def _location(spec: ArtifactSpec) -> tuple[Folder, str]:
    """Beside the artifact: what lies in it is part of it, or cleared away when it is sealed."""
    root, _, name = spec.folder.uri.rpartition("/")
    return Folder(root), f".{name}.making"
