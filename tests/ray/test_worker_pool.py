"""An iteration of several pieces, shared among workers: the same bits on one, two and four, and with one of them lost in the middle."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
import ray
from ray_tools import SILENT, below, content, copy_of, killing, seen, tiny, workers

from raydistill.artifacts.curated import CuratedSet
from raydistill.pipeline.distill.stage import distill
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.tracking.tracker import Run
from raydistill.pipeline.trainer.trainer import STATE, make_task
from raydistill.pipeline.trainer.worker_pool import WorkerPool, _Hired
from tests.ray.deadly import Faulty

PIECES = (
    "distill.trajectories_per_step=4",
    "distill.iterations=60",
    "distill.validate_every=30",
    "distill.compile=false",
)
MADE_FROM = ("survey", "curated", "trajectories")


def distilled(root: Path, to: Path, *more: str) -> Plan:
    plan = Plan(tiny(copy_of(root, to, *MADE_FROM), *PIECES, *more))
    distill(plan, SILENT)
    return plan


@pytest.fixture(scope="module")
def alone(trained_root: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return content(distilled(trained_root, tmp_path_factory.mktemp("alone"), "resources.workers=1").distilled)


def test_the_number_of_workers_does_not_show(trained_root: Path, alone: str, tmp_path: Path) -> None:
    """Four, of which there is room for two."""
    with seen("Helper.measure"):
        plan = distilled(trained_root, tmp_path, "resources.workers=4")
    assert content(plan.distilled) == alone
    assert not workers("Helper"), "helpers end with the distilling"


def test_a_helper_that_raises_is_let_go_and_the_others_go_on(trained_root: Path, tmp_path: Path) -> None:
    plan = Plan(tiny(copy_of(trained_root, tmp_path, *MADE_FROM), *PIECES, "resources.max_restarts=0"))
    told: list[str] = []
    helper = ray.remote(num_cpus=0)(Faulty).remote()
    with closing(
        WorkerPool(make_task(plan, CuratedSet.open(plan.curated.folder), Run(), threads=1), told.append)
    ) as team:
        hired = _Hired(helper, helper.__ray_ready__.remote(), in_vain=0)
        team._hired = [hired]
        assert team._answer(hired, helper.measure.remote()) is None
        assert team._hired == []
    assert len(told) == 1
    assert "no space left for the trajectories), the others go on" in told[0]


@pytest.mark.long
@pytest.mark.parametrize("who", ["Helper.measure", "distilling"])
def test_a_worker_lost_in_the_middle_does_not_show(
    trained_root: Path, alone: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, who: str
) -> None:
    config = tiny(tmp_path, *PIECES)
    with caplog.at_level("WARNING", "raydistill"), killing(who, (below(config, "distilled") / STATE).exists):
        plan = distilled(trained_root, tmp_path, "resources.workers=2")
    told = {"Helper.measure": "a helper was lost", "distilling": "the worker was lost"}
    assert told[who] in caplog.text
    assert content(plan.distilled) == alone
