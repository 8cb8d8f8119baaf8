"""The lease of an artifact: one process at a time builds it, the others wait.

The lease is a small file beside the artifact's folder. It names its holder, who rewrites it every
`HEARTBEAT_INTERVAL` seconds.

Waiters time the lease on their own monotonic clock. It expires after `LEASE_TIMEOUT` without a
heartbeat, or at once if its process on this host has exited.

A new lease is created exclusively. An expired one is overwritten and read back: the last writer
holds it. A holder whose lease was taken over (its machine or its storage stalled) raises
ClusterError before the commit. Two builders write the same bits, but each would remove the other's
temporary files.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from raydistill.errors import ArtifactError, ArtifactMissing, ClusterError
from raydistill.log import get_logger
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.runtime.signals import run_in_background
from raydistill.storage import Folder
from raydistill.storage.checked import from_json, to_json

log = get_logger(__name__)

HEARTBEAT_INTERVAL = 5.0  # seconds
LEASE_TIMEOUT = 40.0
SETTLE_SECONDS = 0.2  # between writing a lease and reading it back, at least
_BOOT, _PIDS = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
_HOST = {  # pids are comparable within one of these; machines and containers may share a host name
    "host": socket.gethostname(),
    "boot": _BOOT.read_text().strip() if _BOOT.exists() else "",
    "pids": os.readlink(_PIDS) if _PIDS.exists() else "",
}
HOLDER = _HOST | {
    "pid": os.getpid(),
    "process": uuid.uuid4().hex,  # the system reuses pids
}
# (URI of the artifact, lease) of leases that this process saw expire: it waits for each once.
_expired: list[tuple[str, dict[str, Any]]] = []


@dataclass(frozen=True)
class Clock:
    """Monotonic time in seconds, and sleep."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


SYSTEM_CLOCK = Clock()


class AlreadyBuilt(Exception):
    """Another process has built the artifact."""


def wait_for_artifact(spec: ArtifactSpec, clock: Clock = SYSTEM_CLOCK) -> bool:
    """Wait until no live process holds the lease; return whether the artifact exists.

    Writes nothing.
    """
    if not spec.exists:
        _wait_for_holder(spec, clock)
    return spec.exists


@contextmanager
def hold_lease(spec: ArtifactSpec, clock: Clock = SYSTEM_CLOCK) -> Iterator[Callable[[], None]]:
    """Hold the lease while the body builds the artifact.

    Yields
    ------
    callable
        Call it before the commit. It raises ClusterError if another process took the lease over.

    Raises
    ------
    AlreadyBuilt
        Another process has built the artifact; the body does not run. Suppress it.
    """
    if not _acquire(spec, clock):
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
        with suppress(ArtifactError, OSError):  # the body meets the same storage error and reports it
            if _is_held_by_another(spec):
                return
            _write(spec)


def _is_held_by_another(spec: ArtifactSpec) -> bool:
    lease = _read(spec)
    return lease is not None and not _is_ours(lease)


def _require_held(spec: ArtifactSpec) -> None:
    if _is_held_by_another(spec):
        what = f"this process sent no heartbeat for {LEASE_TIMEOUT:g} s, and another process builds the artifact now"
        raise ClusterError(what, spec.folder.uri, "run the same command again to wait for it")


def _acquire(spec: ArtifactSpec, clock: Clock) -> bool:
    """Return True with the lease held, or False once the artifact is there."""
    while not wait_for_artifact(spec, clock):
        root, name = _location(spec)
        began = clock.now()
        lease = _read(spec)
        if lease is not None and _is_alive(spec, lease):
            continue  # another process acquired it just now
        if lease is not None:
            _write(spec)  # takes an expired lease over
        elif not root.create(name, _content()):
            continue
        elif root.is_local:
            return _is_still_missing(spec)
        # Another process may have read the old lease before this write and overwrite it after: it
        # needs a few requests.
        clock.sleep(max(SETTLE_SECONDS, 5 * (clock.now() - began)))
        lease = _read(spec)
        if lease and _is_ours(lease):
            return _is_still_missing(spec)
    return False


def _is_still_missing(spec: ArtifactSpec) -> bool:
    """Return whether the artifact is missing; release the lease if it is not."""
    if spec.exists:
        _release(spec)
        return False
    return True


def _wait_for_holder(spec: ArtifactSpec, clock: Clock) -> None:
    """Return when the lease is free, expired, or that of a process that has exited."""
    lease, last_seen = _read(spec), clock.now()
    if lease is not None and _is_alive(spec, lease):
        holder = f"process {lease.get('pid')} on {lease.get('host')}" if lease else "another process"
        log.info("%s: is being built by %s, waiting for it (%s)", spec.kind, holder, spec.folder)
    while lease is not None and _is_alive(spec, lease):
        clock.sleep(1)
        asked = clock.now()
        current = _read(spec)
        # A storage that answers late may also delay the holder's heartbeat.
        storage_is_slow = clock.now() - asked > HEARTBEAT_INTERVAL
        if current != lease or storage_is_slow:
            lease, last_seen = current, clock.now()
        elif clock.now() - last_seen > LEASE_TIMEOUT:
            log.info("%s: no heartbeat for %g s, building it here", spec.kind, LEASE_TIMEOUT)
            _expired.append((spec.folder.uri, lease))


def _content() -> bytes:
    return to_json(HOLDER | {"heartbeat": uuid.uuid4().hex})


def _write(spec: ArtifactSpec) -> None:
    root, name = _location(spec)
    root.write(name, _content())


def _release(spec: ArtifactSpec) -> None:
    root, name = _location(spec)
    root.remove(name)


def _read(spec: ArtifactSpec) -> dict[str, Any] | None:
    """Return the lease, or None; {} if it is damaged or being written."""
    root, name = _location(spec)
    try:
        return from_json(root.read(name))
    except ArtifactMissing:
        return None
    except ValueError:
        return {}


def _is_ours(lease: dict[str, Any]) -> bool:
    return all(lease.get(key) == value for key, value in HOLDER.items())


def _is_alive(spec: ArtifactSpec, lease: dict[str, Any]) -> bool:
    """Return whether the holder of a lease is alive.

    False for this process, an expired lease, and an exited process of this host or container.
    """
    if (spec.folder.uri, lease) in _expired:
        return False
    if any(lease.get(key) != value for key, value in _HOST.items()):
        return True
    if lease["pid"] == HOLDER["pid"]:
        return False
    try:
        os.kill(lease["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's process
    return True


def _location(spec: ArtifactSpec) -> tuple[Folder, str]:
    """Return folder and name of the lease.

    It is beside the artifact, whose commit removes unknown files.
    """
    root, _, name = spec.folder.uri.rpartition("/")
    return Folder(root), f".{name}.making"
