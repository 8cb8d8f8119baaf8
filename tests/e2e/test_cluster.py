"""Clusters whose machines share no disk: everything lies in an S3-compatible store. The demo on one of them, and a run that loses two of
its three machines on the way."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e import tools
from tests.e2e.bucket import RUNS, contents, s3_server, stored
from tests.e2e.nodes import head_node, worker_node

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

# Long enough for something to happen in between.
LONG = (
    "experts.training.epochs=40",
    "distill.iterations=400",
    "distill.trajectories_per_step=2",
    "distill.compile=false",
)

NOTICE = {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "5"}  # from SIGTERM to the end; by default 30


@pytest.mark.timeout(1800)  # two demos
def test_the_whole_demo_on_two_machines_and_a_bucket(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a job, with the digests that it has on one machine's disk."""
    named = "name=tiny"  # where the tools look
    at_home = tools.typed(tmp_path, env, "demo", named, f"output={tmp_path / 'runs'}")
    assert at_home.wait(600) == 0, at_home.said[-4000:]
    with ExitStack() as stack:
        store, _ = stack.enter_context(s3_server(tmp_path / "s3", monkeypatch))
        caches = [tmp_path / name / "cache" for name in ("head", "other")]
        here, there = ({**env, **store, "RAYDISTILL_CACHE": str(cache)} for cache in caches)
        head = stack.enter_context(head_node(tmp_path / "head", here, cpus=1))
        stack.enter_context(worker_node(head, tmp_path / "other", there))
        job = head.submitted(
            tmp_path, "python", "jobs/run.py", "demo", named, f"output={RUNS}", "tracking.enabled=false"
        )
        assert job.wait(600) == 0, (job.out.read_text() + job.said)[-6000:]
        assert contents() == tools.contents(tmp_path)
        assert all(list(cache.glob("*/expert-*.npy")) for cache in caches), "one of the two machines judged no expert"


def test_the_same_job_submitted_twice(
    undisturbed: Path, env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        store, _ = stack.enter_context(s3_server(tmp_path / "s3", monkeypatch))
        here = {**env, **store, "RAYDISTILL_CACHE": str(tmp_path / "cache")}
        head = stack.enter_context(head_node(tmp_path / "head", here))
        words = ("python", "jobs/run.py", str(tools.TINY), f"output={RUNS}", "tracking.enabled=false")
        jobs = [head.submitted(tmp_path, *words) for _ in range(2)]
        told = ""
        for job in jobs:
            assert job.wait() == 0, (job.out.read_text() + job.said)[-6000:]
            told += job.out.read_text()
        tools.assert_each_was_made_once(told)
        assert contents() == tools.contents(undisturbed)


def test_machines_are_lost_and_the_digests_are_those_of_an_undisturbed_run(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = tools.raydistill(tmp_path, env, *LONG)
    assert undisturbed.wait() == 0, undisturbed.said[-4000:]
    with ExitStack() as stack:
        store, _ = stack.enter_context(s3_server(tmp_path / "s3", monkeypatch))

        def on(machine: str) -> dict[str, str]:
            return {**env, **store, "RAYDISTILL_CACHE": str(tmp_path / machine / "cache")}

        def cached(machine: str) -> list[Path]:
            """Trajectories in the machine's own copy."""
            return list((tmp_path / machine / "cache").glob("*/expert-*.npy"))

        head = stack.enter_context(head_node(tmp_path / "head", on("head"), cpus=1))
        first, second = (
            stack.enter_context(worker_node(head, tmp_path / name, on(name) | NOTICE)) for name in ("first", "second")
        )
        words = (str(tools.TINY), *LONG, f"output={RUNS}", "tracking.enabled=false")
        job = head.submitted(tmp_path, "python", "jobs/run.py", *words)
        job.wait_until("three workers train", lambda: len(stored("/state.npz")) >= 3)
        first.kill()
        job.wait_until("the images are being distilled", lambda: bool(stored("partial/state.safetensors")))
        job.wait_until("both machines that are left distil", lambda: len(cached("head")) == len(cached("second")) == 3)
        second.process.terminate()  # as a spot instance is told to go
        told = (job.wait(), job.out.read_text() + job.said)
        assert told[0] == 0, told[1][-6000:]
        assert "experts: another group of workers" in told[1]
        assert "the worker died" in told[1] or "a pool worker died" in told[1]
        assert not cached("first"), "it was lost before there was a trajectory to read"
        assert contents() == tools.contents(tmp_path)
        assert not stored("/partial/")
