"""Run Ray's autoscaler with processes as machines.

The cluster grows with waiting work and shrinks when idle.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.e2e import tools
from tests.e2e.nodes import Head, head_node

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

WORKER = {"worker": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 2}}
# Enough steps that the experts still train when the second machine joins.
LONG = ("experts.training.batch_size=1", "experts.training.epochs=200")


@pytest.fixture(scope="module")
def growing(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """Start a head without CPUs for tasks and an autoscaler for up to two workers."""
    with head_node(tmp_path_factory.mktemp("growing"), env, cpus=0, autoscaling=WORKER) as head:
        yield head


def machines(head: Head) -> int:
    """Return the number of running machines, head included.

    A child of a raylet is also called raylet until it starts another program, so it does not count.
    """
    family = psutil.Process(head.command.process.pid).children(recursive=True)
    raylets = {}
    for process in family:
        with suppress(psutil.NoSuchProcess):
            if process.name() == "raylet":
                raylets[process.pid] = process.ppid()
    return sum(parent not in raylets for parent in raylets.values())


def raydistill(head: Head, folder: Path, stage: str, *words: str) -> tools.Command:
    """Run a command instead of a job.

    The machines share a session folder, and a stopped one deletes the folders of jobs.
    """
    return tools.raydistill(folder, head.env, f"resources.address={head.gcs_address}", *words, stage=stage)


def test_waiting_experts_start_machines_and_idle_machines_stop(growing: Head, tiny_run: Path, tmp_path: Path) -> None:
    tools.copy_of(tiny_run, tmp_path, "survey", "curated")
    growing.command.wait_until("the head is alone", lambda: machines(growing) == 1, 60)
    run = raydistill(growing, tmp_path, "experts", "resources.workers=2", *LONG)
    run.wait_until("a machine has started", lambda: machines(growing) == 2)
    assert "waiting for a machine with 1 CPUs" in run.log
    run.wait_until("another machine has started", lambda: machines(growing) == 3)
    assert not tools.there(tmp_path, "trajectories", "manifest.json"), "the machine started too late"
    assert run.wait() == 0, run.log[-4000:]
    assert tools.there(tmp_path, "trajectories", "manifest.json")
    growing.command.wait_until("idle machines have stopped", lambda: machines(growing) == 1, 120)


@pytest.mark.parametrize(("resource", "amounts"), [("cpus=8", "8 CPUs and 0 GPUs"), ("gpus=2", "1 CPUs and 2 GPUs")])
def test_resources_of_no_machine_type_are_rejected(
    growing: Head, tiny_run: Path, tmp_path: Path, resource: str, amounts: str
) -> None:
    tools.copy_of(tiny_run, tmp_path, "survey", "curated")
    began = time.monotonic()
    run = raydistill(
        growing, tmp_path, "experts", "resources.workers=2", f"resources.{resource}", "resources.growth_seconds=30"
    )
    assert run.wait() == 5, run.log[-4000:]
    assert f"one worker needs {amounts}, no machine of the cluster has more than" in run.log
    assert "(after 30 s)" in run.log
    assert time.monotonic() - began < 30 + 120, "the command took much longer than its wait"
