"""Name the limits that keep a private Ray from starting.

The rows of `tests/e2e/bad_inputs.py` run the command.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from raydistill.runtime.private_ray import find_cause

FEW_PROCESSES = """
import os, resource
from raydistill.runtime.private_ray import check_limits
resource.setrlimit(resource.RLIMIT_NPROC, (100, 100))
os.geteuid() or os.setuid(65534)
check_limits(1, None)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of other systems differ")
def test_few_processes_are_named() -> None:
    """Root has no such limit."""
    done = subprocess.run([sys.executable, "-c", FEW_PROCESSES], capture_output=True, text=True)
    assert "cannot start: a user may have 100 threads, " in done.stderr
    assert "raise the limit (ulimit -u), and run the same command again" in done.stderr


def test_cause_is_the_last_line_of_the_logs_that_names_a_lack(tmp_path: Path) -> None:
    logs = tmp_path / f"session_2026-01-01_{os.getpid()}" / "logs"
    logs.mkdir(parents=True)
    assert find_cause(str(tmp_path)) is None
    (logs / "raylet.err").write_text("start\nopen: No space left on device\nend\n")
    assert find_cause(str(tmp_path)) == "open: No space left on device"
