"""Evaluate several segments an iteration in a worker pool, with one worker's bits.

This also holds when a worker dies.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
import ray
from ray_tools import SILENT, below, content, copy_of, expecting_worker, killing, tiny, workers

from raydistill.pipeline.plan import Plan
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill.stage import WorkerPool, _Member, distill
from raydistill.stages.distill.task import STATE, make_task
from raydistill.tracking.tracker import Run
from tests.ray.deadly import Faulty

SEGMENTS = (
    "distill.trajectories_per_step=4",
    "distill.iterations=60",
    "distill.validate_every=30",
    "distill.compile=false",
)
MADE_FROM = ("survey", "curated", "trajectories")


def distilled(root: Path, to: Path, *more: str) -> Plan:
    plan = Plan(tiny(copy_of(root, to, *MADE_FROM), *SEGMENTS, *more))
    distill(plan, SILENT)
    return plan


@pytest.fixture(scope="module")
def one_worker(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return content(distilled(tiny_root, tmp_path_factory.mktemp("one-worker"), "resources.workers=1").distilled)


@pytest.mark.long
def test_number_of_workers_does_not_change_the_bits(tiny_root: Path, one_worker: str, tmp_path: Path) -> None:
    """Four workers are requested; the cluster can run two."""
    with expecting_worker("PoolWorker.evaluate"):
        plan = distilled(tiny_root, tmp_path, "resources.workers=4")
    assert content(plan.distilled) == one_worker
    assert not workers("PoolWorker"), "pool workers must stop with the trainer"


def test_failed_pool_worker_is_removed_and_the_others_continue(tiny_root: Path, tmp_path: Path) -> None:
    plan = Plan(tiny(copy_of(tiny_root, tmp_path, *MADE_FROM), *SEGMENTS, "resources.max_restarts=0"))
    warnings: list[str] = []
    actor = ray.remote(num_cpus=0)(Faulty).remote()
    with closing(
        WorkerPool(make_task(plan, CuratedSet.open(plan.curated.folder), Run(), threads=1), warnings.append)
    ) as pool:
        member = _Member(actor, actor.__ray_ready__.remote(), consecutive_failures=0)
        pool._members = [member]
        assert pool._get(member, actor.evaluate.remote()) is None
        assert pool._members == []
    assert len(warnings) == 1
    assert "no space left for the trajectories); the others continue" in warnings[0]


@pytest.mark.long
@pytest.mark.parametrize("worker", ["PoolWorker.evaluate", "run_trainer"])
def test_death_of_a_worker_does_not_change_the_bits(
    tiny_root: Path, one_worker: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, worker: str
) -> None:
    config = tiny(tmp_path, *SEGMENTS)
    with caplog.at_level("WARNING", "raydistill"), killing(worker, (below(config, "distilled") / STATE).exists):
        plan = distilled(tiny_root, tmp_path, "resources.workers=2")
    message = {"PoolWorker.evaluate": "a pool worker died", "run_trainer": "the worker died"}
    assert message[worker] in caplog.text
    assert content(plan.distilled) == one_worker
