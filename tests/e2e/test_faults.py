"""Test faults other than a dead worker.

They are two commands at once, a restarted head, wrong clocks, full memory and disks.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e import tools
from tests.e2e.nodes import head_node, worker_node

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def test_two_commands_at_once_build_each_artifact_once(tiny_run: Path, env: dict[str, str], tmp_path: Path) -> None:
    """One command builds an artifact while the other waits for it."""
    both = [tools.raydistill(tmp_path, env) for _ in range(2)]
    for command in both:
        assert command.wait() == 0, command.log[-4000:]
        assert command.answer == str(tools.artifact(tmp_path, "evaluation"))
    tools.assert_each_was_built_once(both[0].log + both[1].log)
    assert tools.contents(tmp_path) == tools.contents(tiny_run)


def test_job_resumes_after_the_head_restarts(tiny_run: Path, env: dict[str, str], tmp_path: Path) -> None:
    """The jobs of the old head are gone; the same job, submitted again, resumes."""
    job = ("python", "jobs/run.py", str(tools.TINY), f"output={tmp_path / 'runs'}")
    with head_node(tmp_path / "first", env) as head:
        interrupted = head.start_job(tmp_path, *job)
        interrupted.wait_until(
            "experts train", lambda: tools.there(tmp_path, "trajectories", "partial/expert-*/state.npz")
        )
        head.command.kill()
    assert not tools.there(tmp_path, "trajectories", "manifest.json"), "killed too late, it was finished"
    interrupted.close()
    with head_node(tmp_path / "second", env) as head:
        again = head.submit(tmp_path, *job)
    log = again.out.read_text() + again.log
    assert again.process.returncode == 0, log[-4000:]
    assert tools.contents(tmp_path) == tools.contents(tiny_run)


WRONG_CLOCK = """
import sys, time
if any("default_worker" in word for word in sys.argv[:3]):  # Ray's workers, not the driver
    right = time.time
    time.time = lambda: right() - 10 * 365 * 86400
    time.time_ns = lambda: int(time.time() * 1e9)
    print("ten years ago", file=open(WITNESS, "a"))
"""


def test_workers_with_a_clock_ten_years_behind(tiny_run: Path, env: dict[str, str], tmp_path: Path) -> None:
    """Wall-clock time affects neither leases nor artifacts."""
    witness = tmp_path / "witness"
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(WRONG_CLOCK.replace("WITNESS", repr(str(witness))))
    path = os.pathsep.join(filter(None, [str(tmp_path / "clock"), env.get("PYTHONPATH")]))
    command = tools.raydistill(tmp_path, {**env, "PYTHONPATH": path})
    assert command.wait() == 0, command.log[-4000:]
    assert witness.exists(), "no worker had a wrong clock"
    assert tools.contents(tmp_path) == tools.contents(tiny_run)


@pytest.mark.parametrize("kind", tools.KINDS)
def test_run_stops_with_a_message_when_memory_is_full(
    tiny_run: Path, env: dict[str, str], tmp_path: Path, kind: str
) -> None:
    """Set the memory limit to almost nothing: Ray kills workers when memory is full.

    In every stage the run stops with a message, and resumes on a larger machine.
    """
    tools.copy_of(tiny_run, tmp_path, *tools.KINDS[: tools.KINDS.index(kind)])
    tight = {"RAY_memory_usage_threshold": "0.001", "RAY_memory_monitor_refresh_ms": "100"}
    command = tools.raydistill(tmp_path, {**env, **tight})
    assert command.wait(300) == 5, command.log[-4000:]
    assert f"{kind}: begins" in command.log
    assert "memory" in command.error_line
    assert "Traceback" not in command.log
    command = tools.raydistill(tmp_path, env)
    assert command.wait() == 0, command.log[-4000:]
    assert tools.contents(tmp_path) == tools.contents(tiny_run)


def test_search_stops_with_a_message_when_its_only_machine_dies(
    tiny_run: Path, env: dict[str, str], tmp_path: Path
) -> None:
    """Stop the search instead of waiting without end for another machine.

    A larger cluster resumes it.
    """
    tools.copy_of(tiny_run, tmp_path, "survey", "curated", "trajectories")
    space = "search={trials: 2, stopping: null, space: {student_steps: [2, 3]}}"
    words = (space, "distill.iterations=60", "distill.validate_every=20", "resources.distill_cpus=2")
    with head_node(tmp_path / "head", env, cpus=1) as head, worker_node(head, tmp_path / "other", env, cpus=2) as other:
        search = tools.raydistill(tmp_path, env, *words, f"resources.address={head.gcs_address}", stage="tune")
        search.wait_until("a trial distils", lambda: tools.there(tmp_path, "distilled", "partial/state.safetensors"))
        other.kill()
        assert search.wait(240) == 5, search.log[-4000:]
        assert (
            "one worker needs 2 CPUs and 0 GPUs, no machine of the cluster has more than 1 and 0" in search.error_line
        )
        assert "Traceback" not in search.log
        with worker_node(head, tmp_path / "another", env, cpus=2):
            search = tools.raydistill(tmp_path, env, *words, f"resources.address={head.gcs_address}", stage="tune")
            assert search.wait() == 0, search.log[-4000:]


@pytest.fixture
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    tools.mount_small_disk(folder, getattr(request, "param", "40m"))
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("small_disk", ["3m"], indirect=True)
def test_disk_full_while_pictures_are_written(
    data_root: Path, env: dict[str, str], small_disk: Path, tmp_path: Path
) -> None:
    words = (
        "gz2_kaggle5",
        f"output={small_disk}",
        "curate.image_size=64",
        "curate.per_class=400",
        "tracking.enabled=false",
    )
    command = tools.typed(tmp_path, env, "curate", *words)
    assert command.wait(300) == 3, command.log[-4000:]
    assert "the disk is full; free some space and run the same command again; it resumes" in command.error_line
    assert not list(small_disk.rglob("manifest.json"))


def test_disk_full_while_experts_train(tiny_run: Path, env: dict[str, str], small_disk: Path) -> None:
    command = tools.raydistill(small_disk, env)
    command.wait_until("experts train", lambda: tools.there(small_disk, "trajectories", "partial/expert-*/state.npz"))
    ballast = small_disk / "ballast"
    with suppress(OSError), open(ballast, "wb", buffering=0) as file:
        while file.write(bytes(1 << 12)):
            pass
    assert command.wait() == 3, command.log[-4000:]
    assert not tools.there(small_disk, "trajectories", "manifest.json"), "it was finished before the disk was full"
    assert "the disk is full; free some space and run the same command again; it resumes" in command.error_line
    ballast.unlink()
    command = tools.raydistill(small_disk, env)
    assert command.wait() == 0, command.log[-4000:]
    assert tools.contents(small_disk) == tools.contents(tiny_run)
