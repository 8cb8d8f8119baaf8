"""What the stages share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raydistill.artifacts.storage import Folder
from raydistill.core.effort import Work
from raydistill.core.training import Training
from raydistill.pipeline.stage import SETTLED, settled
from raydistill.pipeline.tracking import Run

SHORT, LONG = Work(1.0, 1), Work(1e18, 1)


class Tags(Run):
    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}

    def tags(self, values: Any) -> None:
        self.seen.update(values)


def test_what_was_settled_first_holds_for_whoever_goes_on(tmp_path: Path) -> None:
    """The work stands for the machine: either decides what `auto` comes to."""
    folder, run = Folder(tmp_path), Tags()
    wanted = Training(compile="auto", precision="auto", lr=0.5)
    first = settled(folder, run, wanted, SHORT, gpus=1)
    assert first == Training(compile=False, precision="float32", lr=0.5)
    assert folder.files() == [SETTLED]
    assert settled(folder, run, wanted, LONG, gpus=1) == first
    assert run.seen == {"raydistill.settled": "float32, not compiled"}
    folder.remove(SETTLED)
    assert settled(folder, run, wanted, LONG, gpus=1).precision == "bfloat16"


def test_what_was_chosen_is_not_settled(tmp_path: Path) -> None:
    chosen = Training(compile=False, precision="float32")
    assert settled(Folder(tmp_path), Run(), chosen, LONG, gpus=1) == chosen
