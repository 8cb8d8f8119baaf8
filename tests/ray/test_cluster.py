"""Choose resources on a real Ray of two CPUs, and start a private Ray."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from raydistill.config import Resources
from raydistill.errors import ClusterError
from raydistill.runtime.cluster import START_ATTEMPTS, start_private
from raydistill.runtime.resources import check_memory, choose_num_workers, ensure_schedulable

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.mark.parametrize(
    ("resources", "num_tasks", "workers"),
    [
        (Resources(), 100, 2),
        (Resources(), 1, 1),
        (Resources(cpus=0.5), 100, 4),
        (Resources(cpus=2), 100, 1),
        (Resources(workers=7), 100, 7),  # the cluster may grow
        (Resources(workers=7), 3, 3),
    ],
)
def test_number_of_workers_is_limited_by_tasks_and_by_default_by_capacity(
    resources: Resources, num_tasks: int, workers: int
) -> None:
    assert ray.cluster_resources()["CPU"] == 2
    assert choose_num_workers(resources, num_tasks) == workers


def test_request_beyond_every_machine_raises_at_once() -> None:
    with pytest.raises(
        ClusterError, match=r"one worker needs 3 CPUs and 0 GPUs, no machine of the cluster has more than 2"
    ):
        choose_num_workers(Resources(cpus=3), 1)
    with pytest.raises(ClusterError, match=r"distill_gpus"):
        ensure_schedulable(Resources(distill_gpus=1), 1)


def test_workers_beyond_the_memory_of_a_machine_give_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    (machine,) = ray.nodes()
    memory = int(machine["Resources"]["memory"])
    check_memory(Resources(), 2, memory // 2 - 1, "experts")
    assert not caplog.text
    check_memory(Resources(), 2, memory // 2 + 1, "experts")
    assert "experts: each of the 2 workers of a machine will hold the training images" in caplog.text


@pytest.mark.parametrize(
    ("errors", "starts"),
    [([], 1), ([Exception("30 s")], 2), ([Exception("30 s")] * START_ATTEMPTS, START_ATTEMPTS), ([ValueError()], 1)],
)
def test_start_of_private_ray_is_retried_only_after_a_timeout(
    monkeypatch: pytest.MonkeyPatch, errors: list[Exception], starts: int
) -> None:
    pending, attempts = list(errors), []

    def init(**options: object) -> None:
        attempts.append(options)
        if pending:
            raise pending.pop()

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    if len(errors) == starts:
        with pytest.raises(ClusterError, match="did not start"):
            start_private()
    else:
        start_private()
    assert len(attempts) == starts


@pytest.mark.long
def test_private_ray_starts_despite_a_long_tmpdir(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    script = "from raydistill.runtime.cluster import start_private; start_private(num_cpus=1); print('started')"
    environment = {**os.environ, "TMPDIR": str(long), "RAY_ADDRESS": ""}
    environment.pop("RAY_TMPDIR", None)
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=200)
    assert ended.stdout == "started\n", ended.stderr[-2000:]
    assert list(long.iterdir()) == []
