"""Processor time counts children and earlier runs, and is no content."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from raydistill.artifacts.manifest import COST, PARTIAL, commit
from raydistill.runtime import cost
from raydistill.runtime.cost import Cost, cost_of, measured
from raydistill.storage import Folder

BUSY = "import time; end = time.process_time() + {}\nwhile time.process_time() < end: pass"


def busy(seconds: float) -> None:
    """Use the processor in a child, which is seen before it ends."""
    code = f"{BUSY.format(seconds)}\ntime.sleep(.3)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "EVERY", 0.05)


def test_processor_time_of_children_counts(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    with measured(folder, gpus=0.5):
        busy(0.5)
    found = cost_of(folder)
    assert found is not None
    assert 0.45 < found.cpu_seconds < 5
    assert found.wall_seconds >= 0.5
    assert found.gpu_seconds == pytest.approx(found.wall_seconds / 2, rel=0.1)
    assert found.peak_memory > 10**6


def test_sum_goes_on_after_an_interruption(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    with pytest.raises(KeyboardInterrupt), measured(folder, gpus=0):  # noqa: PT012
        busy(0.3)
        raise KeyboardInterrupt
    assert cost_of(folder) is None, "an unfinished artifact has no cost"
    before = cost._read(folder, f"{PARTIAL}/{COST}")
    assert before is not None
    with measured(folder, gpus=0):
        busy(0.3)
    after = cost_of(folder)
    assert after is not None
    assert after.cpu_seconds > before.cpu_seconds + 0.25
    assert after.wall_seconds > before.wall_seconds + 0.3


def test_cost_is_no_content(tmp_path: Path) -> None:
    contents = []
    for name in ("one", "other"):
        folder = Folder(str(tmp_path / name))
        with measured(folder, gpus=0):
            folder.write("data.txt", b"equal")
            time.sleep(0.2 if name == "one" else 0)
        made = commit(folder, kind="distilled", identity="a", config={}, parents={}, seed=0, uris={})
        assert COST in made.files
        contents.append(made.content)
    assert contents[0] == contents[1]


def test_damaged_cost_is_no_error(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.write(f"{PARTIAL}/{COST}", b"{")
    with measured(folder, gpus=0):
        pass
    assert cost_of(folder) != Cost()
    folder.write(COST, b"[1]")
    assert cost_of(folder) is None
