"""The same run as a job on a cluster that was there before: `ray start`, `ray job submit`, and what its log says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import tools
from tests.e2e.nodes import Head, head_node

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def head(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    with head_node(tmp_path_factory.mktemp("head"), env) as started:
        yield started


def log_of(submitted: tools.Command) -> list[str]:
    """The job's own lines of what `ray job submit` printed: from where it follows the log to its next word of its own."""
    lines = [line.rstrip() for line in submitted.out.read_text().splitlines() if line.strip()]
    first = 1 + next((i for i, line in enumerate(lines) if "Tailing logs" in line), len(lines))
    words = (i for i, line in enumerate(lines[first:], first) if re.search(r" cli\.py:\d+ -- ", line))
    assert first <= len(lines), f"no log: {lines} {submitted.said[-2000:]}"
    return lines[first : next(words, len(lines))]


@pytest.mark.long
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
