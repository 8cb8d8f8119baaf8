"""Kill Ray's own processes: a run ends with a message and is KILLED in MLflow."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.e2e import tools
from tests.e2e.nodes import head_node
from tests.e2e.test_mlflow import client

pytestmark = pytest.mark.timeout(600)


def kill_part(process: psutil.Process, name: str) -> None:
    """Kill the only process of this program below a process."""
    (result,) = (p for p in process.children(recursive=True) if os.path.basename((p.cmdline() or [""])[0]) == name)
    os.kill(result.pid, signal.SIGKILL)


def statuses(output: Path) -> list[str]:
    """Return the status of the runs that have not finished."""
    runs = client(output)
    result = runs.search_runs([runs.get_experiment_by_name("tiny").experiment_id])
    return [run.info.status for run in result if run.info.status != "FINISHED"]


def assert_ended(command: tools.Command, output: Path, end: str = "died") -> None:
    left = psutil.Process(command.process.pid).children(recursive=True)
    assert command.wait(120) == 5, command.log[-4000:]
    assert command.log.splitlines()[-1] == command.error_line
    assert command.error_line.endswith(f"{end}; run the same command again; what is finished is kept")
    assert "Traceback" not in command.log
    assert statuses(output) == ["KILLED", "KILLED"]
    _, alive = psutil.wait_procs(left, 30)
    assert not alive


@pytest.mark.long
@pytest.mark.parametrize("part", ["raylet", "gcs_server"])
def test_death_of_a_private_ray(env: dict[str, str], tmp_path: Path, part: str) -> None:
    command = tools.raydistill(tmp_path, env, "--to", "simulate", "survey.num_galaxies=100000")
    command.wait_until("workers simulate", lambda: bool(command.workers("simulate_chunk")))
    kill_part(psutil.Process(command.process.pid), part)
    assert_ended(command, tmp_path)


@pytest.mark.long
def test_death_of_the_driver(env: dict[str, str], tmp_path: Path) -> None:
    """The kernel kills the largest process if memory is full."""
    command = tools.raydistill(tmp_path, env, "--to", "simulate", "survey.num_galaxies=100000")
    command.wait_until("workers simulate", lambda: bool(command.workers("simulate_chunk")))
    (driver,) = psutil.Process(command.process.pid).children()
    driver.kill()
    assert_ended(command, tmp_path, "SIGKILL ended the command, perhaps for lack of memory")


@pytest.mark.long
@pytest.mark.parametrize("part", ["raylet", "gcs_server"])
def test_death_of_a_private_ray_while_experts_train(env: dict[str, str], tmp_path: Path, part: str) -> None:
    command = tools.raydistill(tmp_path, env, "experts.training.epochs=10000")
    command.wait_until("experts train", lambda: tools.there(tmp_path, "trajectories", "partial/expert-*/state.npz"))
    kill_part(psutil.Process(command.process.pid), part)
    assert_ended(command, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("part", ["raylet", "gcs_server"])
def test_death_of_an_attached_cluster(env: dict[str, str], tmp_path: Path, part: str) -> None:
    with head_node(tmp_path / "head", env) as head:
        words = ("--to", "simulate", "survey.num_galaxies=100000", f"resources.address={head.gcs_address}")
        command = tools.raydistill(tmp_path, env, *words)
        command.wait_until("the stage begins", lambda: "survey: begins" in command.log)
        kill_part(psutil.Process(head.command.process.pid), part)
        assert command.wait(120) == 5, command.log[-4000:]
    assert command.log.splitlines()[-1] == command.error_line
    assert statuses(tmp_path) == ["KILLED", "KILLED"]
