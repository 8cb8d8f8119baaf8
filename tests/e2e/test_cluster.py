"""Run clusters without a shared disk: all files are in an S3-compatible store.

One test runs the demo; another stops two of three machines during the run.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e import tools
from tests.e2e.bucket import RUNS, contents, s3_server, stored
from tests.e2e.nodes import head_node, worker_node

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

# Long enough for a fault in between.
LONG = (
    "experts.training.epochs=40",
    "distill.iterations=400",
    "distill.trajectories_per_step=2",
    "distill.compile=false",
)

NOTICE = {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "5"}  # seconds from SIGTERM to the end; the default is 30


@pytest.mark.timeout(1800)  # two demos
def test_demo_on_two_machines_and_a_bucket_has_the_same_digests(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demo runs as a job."""
    named = "name=tiny"  # where the tools look
    at_home = tools.typed(tmp_path, env, "demo", named, f"output={tmp_path / 'runs'}")
    assert at_home.wait(600) == 0, at_home.log[-4000:]
    with ExitStack() as stack:
        store, _ = stack.enter_context(s3_server(tmp_path / "s3", monkeypatch))
        caches = [tmp_path / name / "cache" for name in ("head", "other")]
        here, there = ({**env, **store, "RAYDISTILL_CACHE": str(cache)} for cache in caches)
        head = stack.enter_context(head_node(tmp_path / "head", here, cpus=1))
        stack.enter_context(worker_node(head, tmp_path / "other", there))
        job = head.start_job(
            tmp_path, "python", "jobs/run.py", "demo", named, f"output={RUNS}", "tracking.enabled=false"
        )
        assert job.wait(600) == 0, (job.out.read_text() + job.log)[-6000:]
        assert contents() == tools.contents(tmp_path)
        assert all(list(cache.glob("*/expert-*.npy")) for cache in caches), (
            "one of the two machines evaluated no expert"
        )


def test_job_submitted_twice_builds_each_artifact_once(
    tiny_run: Path, env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        store, _ = stack.enter_context(s3_server(tmp_path / "s3", monkeypatch))
        here = {**env, **store, "RAYDISTILL_CACHE": str(tmp_path / "cache")}
        head = stack.enter_context(head_node(tmp_path / "head", here))
        words = ("python", "jobs/run.py", str(tools.TINY), f"output={RUNS}", "tracking.enabled=false")
        jobs = [head.start_job(tmp_path, *words) for _ in range(2)]
        log = ""
        for job in jobs:
            assert job.wait() == 0, (job.out.read_text() + job.log)[-6000:]
            log += job.out.read_text()
        tools.assert_each_was_built_once(log)
        assert contents() == tools.contents(tiny_run)


def test_run_that_loses_two_machines_has_the_same_digests(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = tools.raydistill(tmp_path, env, *LONG)
    assert calm.wait() == 0, calm.log[-4000:]
    with ExitStack() as stack:
        store, _ = stack.enter_context(s3_server(tmp_path / "s3", monkeypatch))

        def on(machine: str) -> dict[str, str]:
            return {**env, **store, "RAYDISTILL_CACHE": str(tmp_path / machine / "cache")}

        def cached(machine: str) -> list[Path]:
            """Return the trajectories in the machine's cache."""
            return list((tmp_path / machine / "cache").glob("*/expert-*.npy"))

        head = stack.enter_context(head_node(tmp_path / "head", on("head"), cpus=1))
        first, second = (
            stack.enter_context(worker_node(head, tmp_path / name, on(name) | NOTICE)) for name in ("first", "second")
        )
        words = (str(tools.TINY), *LONG, f"output={RUNS}", "tracking.enabled=false")
        job = head.start_job(tmp_path, "python", "jobs/run.py", *words)
        job.wait_until("three workers train", lambda: len(stored("/state.npz")) >= 3)
        first.kill()
        job.wait_until("the images are being distilled", lambda: bool(stored("partial/state.safetensors")))
        job.wait_until("both remaining machines distil", lambda: len(cached("head")) == len(cached("second")) == 3)
        second.process.terminate()  # the notice of a spot instance
        log = (job.wait(), job.out.read_text() + job.log)
        assert log[0] == 0, log[1][-6000:]
        assert "experts: another group of workers" in log[1]
        assert "the worker died" in log[1] or "a pool worker died" in log[1]
        assert not cached("first"), "the first machine was killed too late"
        assert contents() == tools.contents(tmp_path)
        assert not stored("/partial/")
