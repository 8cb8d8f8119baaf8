"""The same run as a job on a cluster that was there before: `ray start`, `ray job submit`, and what its log says."""

from __future__ import annotations

import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e import tools

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RAY = str(Path(sys.executable).parent / "ray")


@dataclass
class Head:
    """A head node with its dashboard, which takes jobs at `address`."""

    command: tools.Command
    address: str
    env: dict[str, str]

    def submit(self, folder: Path, *entrypoint: str) -> tools.Command:
        """Submit from the repository's folder and wait for the end; the log comes along on stdout."""
        words = [RAY, "job", "submit", "--address", self.address, "--working-dir", ".", "--", *entrypoint]
        submitted = tools.start(words, folder, self.env, "job")
        submitted.wait(300)
        return submitted


@pytest.fixture(scope="module")
def head(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """A Ray of our own on free ports; with --block its processes are children of a command that we can end."""
    gcs, dashboard, client, agent, agent_grpc, metrics, setup = tools.free_ports(7)
    command = tools.start(
        [
            RAY, "start", "--head", "--block", "--node-ip-address=127.0.0.1", "--num-cpus=2", f"--port={gcs}",
            f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}",
            f"--dashboard-agent-grpc-port={agent_grpc}", f"--metrics-export-port={metrics}", f"--runtime-env-agent-port={setup}",
            "--min-worker-port=0", "--max-worker-port=0", f"--object-store-memory={100 * 2**20}",
            f"--temp-dir={env['RAY_TMPDIR']}/jobs",
        ],
        tmp_path_factory.mktemp("head"), env, "head",
    )  # fmt: skip
    address = f"http://127.0.0.1:{dashboard}"
    try:
        command.wait_until("the dashboard answers", lambda: answers(f"{address}/api/version"), 120)
        yield Head(command, address, env)
    finally:
        command.close()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return bool(reply.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def log_of(submitted: tools.Command) -> list[str]:
    """The job's own lines of what `ray job submit` printed: from where it follows the log to its next word of its own."""
    lines = [line.rstrip() for line in submitted.out.read_text().splitlines() if line.strip()]
    first = 1 + next((i for i, line in enumerate(lines) if "Tailing logs" in line), len(lines))
    words = (i for i, line in enumerate(lines[first:], first) if re.search(r" cli\.py:\d+ -- ", line))
    assert first <= len(lines), f"no log: {lines} {submitted.said[-2000:]}"
    return lines[first : next(words, len(lines))]


def test_a_submitted_run_makes_the_same_artifacts(head: Head, undisturbed: Path, tmp_path: Path) -> None:
    submitted = head.submit(tmp_path, "python", "jobs/run.py", str(tools.TINY), f"output={tmp_path / 'runs'}")
    told = submitted.out.read_text() + submitted.said
    assert submitted.process.returncode == 0, told[-4000:]
    assert "succeeded" in told
    assert log_of(submitted)[-1] == str(tools.artifact(tmp_path, "evaluation"))
    assert tools.contents(tmp_path) == tools.contents(undisturbed)


def test_a_failing_job_says_why(head: Head, tmp_path: Path) -> None:
    submitted = head.submit(tmp_path, "python", "jobs/distill.py", str(tools.TINY), "distill.itertions=3")
    told = submitted.out.read_text() + submitted.said
    assert submitted.process.returncode != 0, told[-4000:]
    (sentence,) = [line for line in log_of(submitted) if line.startswith("raydistill:")]
    assert "there is no key 'itertions'" in sentence
    assert "did you mean 'iterations'?" in sentence
    assert "Traceback" not in told
