"""Submit runs as jobs to a running cluster with token authentication.

Read their logs, and stop them.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e import tools
from tests.e2e.nodes import Head, head_node
from tests.e2e.test_mlflow import runs_of

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def head(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    folder = tmp_path_factory.mktemp("head")
    (folder / "token").write_text(secrets.token_hex(32))
    token_auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
    with head_node(folder, {**env, **token_auth}) as started:
        yield started


def log_of(submitted: tools.Command) -> list[str]:
    """Return the job's own lines in the output of `ray job submit`."""
    lines = [line.rstrip() for line in submitted.out.read_text().splitlines() if line.strip()]
    first = 1 + next((i for i, line in enumerate(lines) if "Tailing logs" in line), len(lines))
    words = (i for i, line in enumerate(lines[first:], first) if re.search(r" cli\.py:\d+ -- ", line))
    assert first <= len(lines), f"no log: {lines} {submitted.log[-2000:]}"
    return lines[first : next(words, len(lines))]


@pytest.mark.long
def test_submitted_run_has_the_same_digests(head: Head, tiny_run: Path, tmp_path: Path) -> None:
    submitted = head.submit(tmp_path, "python", "jobs/run.py", str(tools.TINY), f"output={tmp_path / 'runs'}")
    output = submitted.out.read_text() + submitted.log
    assert submitted.process.returncode == 0, output[-4000:]
    assert "succeeded" in output
    assert log_of(submitted)[-1] == str(tools.artifact(tmp_path, "evaluation"))
    assert tools.contents(tmp_path) == tools.contents(tiny_run)


@pytest.mark.long
def test_every_stage_runs_as_a_job(head: Head, tiny_run: Path, tmp_path: Path) -> None:
    search = "search={trials: 2, stopping: null, space: {student_steps: [2, 3]}}"
    stages = ("simulate", "curate", "experts", "distill", "evaluate", "tune")
    for kind, stage in zip((*tools.KINDS, "search"), stages, strict=True):
        if kind == "search":  # it has its own distilled sets
            assert tools.contents(tmp_path) == tools.contents(tiny_run)
        words = (str(tools.TINY), f"output={tmp_path / 'runs'}", search)
        submitted = head.submit(tmp_path, "python", "jobs/stage.py", stage, *words)
        assert submitted.process.returncode == 0, submitted.out.read_text()[-4000:] + submitted.log[-4000:]
        assert log_of(submitted)[-1] == str(tools.artifact(tmp_path, kind)), stage


@pytest.mark.long
def test_failed_job_reports_the_reason(head: Head, tmp_path: Path) -> None:
    submitted = head.submit(tmp_path, "python", "jobs/stage.py", "distill", str(tools.TINY), "distill.itertions=3")
    output = submitted.out.read_text() + submitted.log
    assert submitted.process.returncode != 0, output[-4000:]
    (sentence,) = [line for line in log_of(submitted) if line.startswith("raydistill:")]
    assert "there is no key 'itertions'" in sentence
    assert "did you mean 'iterations'?" in sentence
    assert "Traceback" not in output


def test_job_in_a_python_without_the_packages_names_that_python() -> None:
    command = [sys.executable, "-S", "jobs/run.py", "demo"]  # -S: as an interpreter without any packages
    env = {**os.environ, "PYTHONPATH": str(tools.ROOT)}
    done = subprocess.run(command, cwd=tools.ROOT, env=env, capture_output=True, text=True)
    last = done.stderr.splitlines()[-1]
    assert done.returncode != 0
    assert last.startswith(f"ImportError: {sys.executable} runs this, and raydistill's packages are not installed")
    assert "lazy_loader" not in last


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs Linux's namespaces, as root")
def test_rehearsal_of_the_docs_runs_as_written(tiny_run: Path, tmp_path: Path) -> None:
    """Run in namespaces: `ray stop` ends every Ray that it sees."""
    page = (tools.ROOT / "docs/how-to/rehearse.md").read_text()
    commands = page.partition("```bash\n")[2].partition("```")[0]
    activate = Path(sys.executable).parent / "activate"
    script = commands.replace(".venv/bin/activate", str(activate)).replace("run demo", f"run {tools.TINY}")
    assert script.count(str(tools.TINY)) == script.count(str(activate)) == 1
    env = {
        **os.environ,
        "HOME": str(tmp_path),
        "PYTHONPATH": str(tools.ROOT),
        "RAY_TMPDIR": tempfile.mkdtemp(prefix="rh"),
    }
    namespaces = ["unshare", "--pid", "--net", "--fork", "--mount-proc", "bash", "-ec", f"ip link set lo up\n{script}"]
    done = subprocess.run(namespaces, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=400)
    shutil.rmtree(env["RAY_TMPDIR"])
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert str(tools.artifact(tmp_path, "evaluation")) in done.stdout.splitlines()
    assert tools.contents(tmp_path) == tools.contents(tiny_run)


@pytest.mark.long
def test_client_without_a_token_is_refused(head: Head, env: dict[str, str], tmp_path: Path) -> None:
    submitted = replace(head, env=env).submit(tmp_path, "touch", str(tmp_path / "done"))
    assert submitted.process.returncode != 0
    assert "Missing authentication token" in submitted.out.read_text() + submitted.log
    assert not (tmp_path / "done").exists()


def stop(head: Head, name: str) -> str:
    """Stop the job and return its final status.

    This does the same as `ray job stop`, without the start-up time of the command.
    """
    from ray.job_submission import JobSubmissionClient

    token = Path(head.env["RAY_AUTH_TOKEN_PATH"]).read_text()
    client = JobSubmissionClient(head.address, headers={"Authorization": f"Bearer {token}"})
    client.stop_job(name)
    deadline = time.monotonic() + 120
    while not (status := client.get_job_status(name)).is_terminal():
        assert time.monotonic() < deadline, f"not stopped: {status}"
        time.sleep(0.2)
    return str(status.value)


@pytest.mark.long
def test_stopped_job_is_killed_in_mlflow_and_resumes(head: Head, tiny_run: Path, tmp_path: Path) -> None:
    """deploy/runtime_env.yaml gives the job time to close its MLflow run."""
    job = ("python", "jobs/run.py", str(tools.TINY), f"output={tmp_path / 'runs'}")
    options = ("--submission-id=stopped", "--runtime-env=deploy/runtime_env.yaml")
    stopped = head.start_job(tmp_path, *job, options=options)
    stopped.wait_until("experts train", lambda: tools.there(tmp_path, "trajectories", "partial/expert-*/state.npz"))
    assert stop(head, "stopped") == "STOPPED"
    stopped.wait(60)
    assert "raydistill: stopped; run the same command again to resume" in log_of(stopped)
    assert not tools.there(tmp_path, "trajectories", "manifest.json"), "stopped too late, it was finished"
    (supervisor,) = Path(head.env["RAY_TMPDIR"]).glob("*/session_latest/logs/jobs/supervisor-stopped.log")
    assert "has been terminated gracefully with SIGTERM" in supervisor.read_text()
    ended = {stage: run.info.status for stage, run in runs_of(tmp_path).items()}
    assert ended == {"run": "KILLED", "survey": "FINISHED", "curated": "FINISHED", "trajectories": "KILLED"}
    again = head.submit(tmp_path, *job)
    assert again.process.returncode == 0, again.out.read_text()[-4000:] + again.log[-4000:]
    assert tools.contents(tmp_path) == tools.contents(tiny_run)
