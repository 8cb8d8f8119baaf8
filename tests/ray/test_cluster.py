"""How many workers a stage asks for, on a real Ray of two CPUs."""

from __future__ import annotations

import pytest
import ray

from raydistill.config import Resources
from raydistill.errors import ClusterError
from raydistill.pipeline.runtime import cluster as of_pipeline
from raydistill.pipeline.runtime.cluster import STARTS, check_memory, choose_num_workers, ensure_schedulable

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.mark.parametrize(
    ("resources", "pieces", "workers"),
    [
        (Resources(), 100, 2),
        (Resources(), 1, 1),
        (Resources(cpus=0.5), 100, 4),
        (Resources(cpus=2), 100, 1),
        (Resources(workers=7), 100, 7),  # what is not there yet may come
        (Resources(workers=7), 3, 3),
    ],
)
def test_never_more_than_there_is_work_nor_by_default_than_fit(resources: Resources, pieces: int, workers: int) -> None:
    assert ray.cluster_resources()["CPU"] == 2
    assert choose_num_workers(resources, pieces) == workers


def test_what_no_machine_has_is_refused_before_anything_waits_for_it() -> None:
    with pytest.raises(
        ClusterError, match=r"one worker wants 3 CPUs and 0 GPUs, no machine of the cluster has more than 2"
    ):
        choose_num_workers(Resources(cpus=3), 1)
    with pytest.raises(ClusterError, match=r"distill_gpus"):
        ensure_schedulable(Resources(), 1, 1, "distill_")


def test_workers_that_would_hold_more_than_their_machine_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    (machine,) = ray.nodes()
    memory = int(machine["Resources"]["memory"])
    check_memory(Resources(), 2, memory // 2 - 1, "experts")
    assert not caplog.text
    check_memory(Resources(), 2, memory // 2 + 1, "experts")
    assert "experts: each of the 2 workers of a machine will hold the training images" in caplog.text


@pytest.mark.parametrize(
    ("errors", "starts"),
    [([], 1), ([Exception("30 s")], 2), ([Exception("30 s")] * STARTS, STARTS), ([ValueError()], 1)],
)
def test_a_busy_machine_is_given_time_to_start_ray(
    monkeypatch: pytest.MonkeyPatch, errors: list[Exception], starts: int
) -> None:
    """No machine is too busy for Ray when a test wants it."""
    left, tries = list(errors), []

    def init(**options: object) -> None:
        tries.append(options)
        if left:
            raise left.pop()

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    if len(errors) == starts:
        with pytest.raises(type(errors[0])):
            of_pipeline.start_private()
    else:
        of_pipeline.start_private()
    assert len(tries) == starts
