"""What the stages share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import ray

from raydistill import config
from raydistill.core.cost_model import WorkEstimate
from raydistill.core.training import Training
from raydistill.errors import ArtifactError
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.runtime.stages import BEGUN_ON, SETTLED, resolve, stage_context
from raydistill.pipeline.tracking.tracker import Run
from raydistill.storage import Folder

SHORT, LONG = WorkEstimate(1.0, 1), WorkEstimate(1e18, 1)


class Tags(Run):
    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}

    def tags(self, values: Any) -> None:
        self.seen.update(values)


def test_what_was_settled_first_holds_for_whoever_goes_on(tmp_path: Path) -> None:
    """The work stands for the machine: either decides what `auto` comes to."""
    folder, run = Folder(tmp_path), Tags()
    wanted = Training(compile="auto", precision="auto", lr=0.5)
    first = resolve(folder, run, wanted, SHORT, gpus=1, threads=1)
    assert first == Training(compile=False, precision="float32", lr=0.5)
    assert sorted(folder.files()) == sorted([SETTLED, BEGUN_ON])
    assert resolve(folder, run, wanted, LONG, gpus=1, threads=1) == first
    assert run.seen == {"raydistill.settled": "float32, not compiled"}
    folder.write(SETTLED, b"{damaged")
    assert resolve(folder, run, wanted, SHORT, gpus=1, threads=1) == first
    folder.remove(SETTLED)
    assert resolve(folder, run, wanted, LONG, gpus=1, threads=1).precision == "bfloat16"


def test_what_was_chosen_is_not_settled(tmp_path: Path) -> None:
    chosen = Training(compile=False, precision="float32")
    assert resolve(Folder(tmp_path), Run(), chosen, LONG, gpus=1, threads=1) == chosen


def test_who_goes_on_with_other_threads_is_told_that_bits_may_differ(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for gpus, threads in ((0, 8), (0, 8), (0, 4), (1, 1)):
        resolve(Folder(tmp_path), Run(), Training(), SHORT, gpus=gpus, threads=threads)
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    stage_context = f"{tmp_path} was begun on 8 threads of a CPU and goes on with"
    assert said == [
        f"{stage_context} {on}: the same to rounding, not to the bit" for on in ("4 threads of a CPU", "GPUs")
    ]


def test_an_output_that_takes_nothing_is_refused_before_there_is_a_cluster(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    plan = Plan(config.load("demo", [f"output={tmp_path / 'file'}"]))
    with pytest.raises(ArtifactError, match="choose another output=FOLDER"), stage_context(plan):
        pytest.fail("there is a cluster")
    assert not ray.is_initialized()
