"""The monitor of a group of workers reads all updates, whatever happens to one."""

from __future__ import annotations

import queue
import threading
from typing import Any

from raydistill.errors import ClusterError
from raydistill.runtime.group_training import Monitor, Update
from raydistill.tracking.tracker import Run


class Broken(Monitor):
    """A monitor whose storage does not answer."""

    def record(self, update: Update, seen: int) -> None:
        raise OSError("the bucket does not answer")

    def describe(self, row: dict[str, Any]) -> str:
        return ""


def test_an_update_that_cannot_be_recorded_hides_no_later_error_and_no_checkpoint() -> None:
    updates: Any = queue.Queue()
    error = ClusterError("a worker failed", "generate", "run it again")
    for update in (Update(1), Update(2, saved=True), Update(3, error=error)):
        updates.put(update)
    monitor, done = Broken(updates, Run(), "training", 3), threading.Event()
    done.set()
    monitor.show(done)
    assert monitor.error is error
    assert monitor.wait_for_saved_step() == 2
