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

from raydistill.artifacts.storage import Folder
from raydistill.errors import ArtifactError, ArtifactMissing, ClusterError
from raydistill.log import get_logger
from raydistill.pipeline.alongside import alongside
from raydistill.pipeline.plan import Place

log = get_logger(__name__)

RENEWED = 5.0  # seconds
SILENCE = 40.0
SECOND_LOOK = 0.2  # at least: of two that begin at once, the later sign stays
_BOOT, _PIDS = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
_MACHINE = {  # whose pids: machines, and containers of one, may share a name
    "host": socket.gethostname(),
    "boot": _BOOT.read_text().strip() if _BOOT.exists() else "",
    "pids": os.readlink(_PIDS) if _PIDS.exists() else "",
}
US = _MACHINE | {
    "pid": os.getpid(),
    "process": uuid.uuid4().hex,  # a pid comes again
}


class MadeMeanwhile(Exception):
    """Another maker was quicker, and is done."""


def waited(place: Place) -> bool:
    """Whether the artifact is there, after a wait for whoever makes it now. Nothing is written."""
    if not place.done:
        _wait_for_another(place)
    return place.done


@contextmanager
def making(place: Place) -> Iterator[Callable[[], None]]:
    """The body makes the artifact under our sign of life. `MadeMeanwhile` in the place of the body: suppress it.

    Yields what is to be called before the artifact is sealed: ClusterError if another took us for gone, and makes it now.
    """
    if not _claimed(place):
        raise MadeMeanwhile
    try:
        with alongside(partial(_renew, place)):
            yield partial(_demand, place)
    finally:
        with suppress(ArtifactError, OSError):
            if not _taken_over(place):
                _unsign(place)


def _renew(place: Place, done: threading.Event) -> None:
    while not done.wait(RENEWED):
        with suppress(ArtifactError, OSError):  # a store or disk that does not answer; the body will say so
            if _taken_over(place):
                return
            _sign(place)


def _taken_over(place: Place) -> bool:
    sign = _read(place)
    return sign is not None and not _is_ours(sign)


def _demand(place: Place) -> None:
    if _taken_over(place):
        what = f"this process gave no sign of life for {SILENCE:g} s, and another one makes the artifact now"
        raise ClusterError(what, place.folder.uri, "run the same command again to wait for it")


def _claimed(place: Place) -> bool:
    while not waited(place):
        began = time.monotonic()
        _sign(place)
        # Who looked before that has signed by then, too: from its look to its sign it asks the storage for a few things more.
        time.sleep(max(SECOND_LOOK, 5 * (time.monotonic() - began)))
        sign = _read(place)
        if sign and _is_ours(sign):
            return True
    return False


def _wait_for_another(place: Place) -> None:
    """Until no other maker is alive."""
    sign, seen = _read(place), time.monotonic()
    if sign and _another_lives(sign):
        who = f"process {sign['pid']} on {sign['host']}"
        log.info("%s: is being made by %s, waiting for it (%s)", place.kind, who, place.folder)
    while sign and _another_lives(sign):
        time.sleep(1)
        asked = time.monotonic()
        now = _read(place)
        kept_waiting = time.monotonic() - asked > RENEWED  # by a storage that kept the other from signing, too
        if now != sign or kept_waiting:
            sign, seen = now, time.monotonic()
        elif time.monotonic() - seen > SILENCE:
            log.info("%s: no sign of life for %g s, going on with it", place.kind, SILENCE)
            _unsign(place)
            return


def _sign(place: Place) -> None:
    root, name = _where(place)
    root.write(name, json.dumps(US | {"sign": uuid.uuid4().hex}).encode())


def _unsign(place: Place) -> None:
    root, name = _where(place)
    root.remove(name)


def _read(place: Place) -> dict[str, Any] | None:
    root, name = _where(place)
    try:
        found: dict[str, Any] = json.loads(root.read(name))
    except (ArtifactMissing, json.JSONDecodeError):
        return None
    return found


def _is_ours(sign: dict[str, Any]) -> bool:
    return all(sign.get(key) == value for key, value in US.items())


def _another_lives(sign: dict[str, Any]) -> bool:
    """False for us, and for a process of this machine (and container) that is no more."""
    if any(sign.get(key) != value for key, value in _MACHINE.items()):
        return True
    if sign["pid"] == US["pid"]:
        return False
    try:
        os.kill(sign["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def _where(place: Place) -> tuple[Folder, str]:
    """Beside the artifact: what lies in it is part of it, or cleared away when it is sealed."""
    root, _, name = place.folder.uri.rpartition("/")
    return Folder(root), f".{name}.making"
