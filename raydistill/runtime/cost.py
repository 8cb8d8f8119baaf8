"""Measure what a stage costs: processor time, peak memory, energy.

A thread looks at this process and its children every two seconds. So workers of a Ray that this
process started are counted; those of a cluster are not. `cost.json` lies beside the artifact's
other files. It is no part of the content digest, because it differs from run to run. Work of an
interrupted run counts: the sums go on from `partial/cost.json`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from raydistill.artifacts.manifest import COST, PARTIAL
from raydistill.artifacts.records import Record, read_json
from raydistill.errors import RaydistillError
from raydistill.storage import Folder

EVERY = 2.0  # seconds between two looks
SAVED_EVERY = 30.0
_ENERGY = Path("/sys/class/powercap/intel-rapl:0/energy_uj")  # of the first processor, where it can be read


@dataclass(frozen=True)
class Cost(Record):
    """What a stage cost on this machine.

    Attributes
    ----------
    cpu_seconds
        Processor time of this process and its children.
    wall_seconds
        Time from begin to end.
    gpu_seconds
        GPUs that a worker of the stage may use, times `wall_seconds`.
    peak_memory
        Most memory of this process and its children [bytes]; pages that they share count once for each.
    joules
        Energy of the first processor, with all else that ran; None where the machine does not tell it.
    """

    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    gpu_seconds: float = 0.0
    peak_memory: int = 0
    joules: float | None = None


@contextmanager
def measured(folder: Folder, gpus: float) -> Iterator[None]:
    """Measure the body, and write `cost.json` if it ends without an error."""
    meter = _Meter(folder, gpus)
    meter.start()
    name = f"{PARTIAL}/{COST}"
    try:
        yield
        name = COST
    finally:
        meter.ends.set()
        meter.join()
        meter.save(name)


def cost_of(folder: Folder) -> Cost | None:
    """Return what an artifact cost; None if it was not measured."""
    return _read(folder, COST)


def _read(folder: Folder, name: str) -> Cost | None:
    with suppress(RaydistillError, OSError):
        return read_json(folder, name, Cost)
    return None


def _energy() -> float | None:
    with suppress(OSError, ValueError):
        return int(_ENERGY.read_text()) / 1e6
    return None


class _Meter(threading.Thread):
    """Sum the processor time of a tree of processes."""

    def __init__(self, folder: Folder, gpus: float) -> None:
        super().__init__(name="cost", daemon=True)
        self.ends = threading.Event()
        self._folder, self._gpus = folder, gpus
        self._before = _read(folder, f"{PARTIAL}/{COST}") or Cost()
        self._began, self._clock, self._energy = time.monotonic(), time.time(), _energy()
        self._joules = 0.0
        self._seconds: dict[tuple[int, float], float] = {}  # of each process since it was first seen
        self._first: dict[tuple[int, float], float] = {}
        self._peak = 0

    def run(self) -> None:
        saved = time.monotonic()
        self._look()
        while not self.ends.wait(EVERY):
            self._look()
            if time.monotonic() - saved > SAVED_EVERY:
                self.save(f"{PARTIAL}/{COST}")
                saved = time.monotonic()
        self._look()

    def _look(self) -> None:
        memory, this = 0, psutil.Process()
        for process in [this, *this.children(recursive=True)]:
            with suppress(psutil.Error):
                key = process.pid, process.create_time()
                times = process.cpu_times()
                seconds = times.user + times.system
                self._first.setdefault(key, 0.0 if key[1] > self._clock else seconds)  # 0: it began after the stage
                self._seconds[key] = seconds
                memory += process.memory_info().rss
        self._peak = max(self._peak, memory)
        if self._energy is not None and (now := _energy()) is not None:
            self._joules += max(0.0, now - self._energy)  # the counter begins again at 0 every some hours
            self._energy = now

    def save(self, name: str) -> None:
        """Write the sums so far."""
        wall = time.monotonic() - self._began
        before = self._before
        cost = Cost(
            cpu_seconds=before.cpu_seconds + sum(self._seconds[key] - first for key, first in self._first.items()),
            wall_seconds=before.wall_seconds + wall,
            gpu_seconds=before.gpu_seconds + self._gpus * wall,
            peak_memory=max(before.peak_memory, self._peak),
            joules=None if self._energy is None else (before.joules or 0.0) + self._joules,
        )
        with suppress(RaydistillError, OSError):  # a cost is not worth a failed stage
            self._folder.write(name, cost.to_json())
