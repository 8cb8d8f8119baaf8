"""Resolve `auto`, and check the output folder before a cluster starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import ray

from raydistill import config
from raydistill.distillation.cost_model import WorkEstimate
from raydistill.errors import ArtifactError
from raydistill.learning.arithmetic import Arithmetic
from raydistill.learning.options import Training
from raydistill.pipeline.plan import Plan
from raydistill.runtime.resources import Processor
from raydistill.runtime.stages import RESOLVED, STARTED_ON, resolve, stage_context
from raydistill.storage import Folder
from raydistill.tracking.tracker import Run
from tests.damage import flipped

SHORT, LONG = WorkEstimate(1.0, 1), WorkEstimate(1e18, 1)


class Tags(Run):
    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def tags(self, values: Any) -> None:
        self.values.update(values)


def test_resumed_run_keeps_the_resolved_values_of_the_first(tmp_path: Path) -> None:
    # The work estimate stands in for another machine: both decide what `auto` becomes.
    folder, run = Folder(tmp_path), Tags()
    training = Training(compile="auto", precision="auto", lr=0.5)
    first = resolve(folder, run, training, SHORT, Processor(1, 1))
    assert first == Arithmetic(compile=False, precision="float32")
    assert sorted(folder.files()) == sorted([RESOLVED, STARTED_ON])
    assert resolve(folder, run, training, LONG, Processor(1, 1)) == first
    assert run.values == {"raydistill.resolved": "float32, not compiled"}
    written = folder.read(RESOLVED)
    folder.write(RESOLVED, b"{damaged")
    assert resolve(folder, run, training, LONG, Processor(1, 1)) == first
    assert folder.read(RESOLVED) == written
    folder.write(STARTED_ON, flipped(folder.read(STARTED_ON), -1))
    assert resolve(folder, run, training, LONG, Processor(1, 1)).precision == "bfloat16", "it is resolved again"


def test_explicit_values_are_not_changed(tmp_path: Path) -> None:
    explicit = Training(compile=False, precision="float32")
    assert resolve(Folder(tmp_path), Run(), explicit, LONG, Processor(1, 1)) == Arithmetic(False, "float32")


def test_resuming_on_other_hardware_warns_that_bits_may_differ(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for gpus, threads in ((0, 8), (0, 8), (0, 4), (1, 1)):
        resolve(Folder(tmp_path), Run(), Training(), SHORT, Processor(threads, gpus))
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    prefix = f"{tmp_path} was started on 8 threads of a CPU and resumes on"
    assert warnings == [
        f"{prefix} {on}: results agree to rounding, not bit for bit" for on in ("4 threads of a CPU", "GPUs")
    ]


def test_unwritable_output_is_reported_before_a_cluster_starts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    plan = Plan(config.load("demo", [f"output={tmp_path / 'file'}"]))
    with pytest.raises(ArtifactError, match="choose another output=FOLDER"), stage_context(plan):
        pytest.fail("a cluster was started")
    assert not ray.is_initialized()
