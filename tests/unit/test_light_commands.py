"""Commands that compute nothing import nothing heavy.

They are help, a dry run, and a stage whose artifact exists.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from raydistill.config import load
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.run import spec_of
from raydistill.stages.curate.summary import ClassSummary, Summary

HEAVY = ("torch", "scipy", "pandas", "ray", "mlflow", "matplotlib", "diffusers", "sklearn")
DONE = ("simulate", "curate", "experts", "distill", "generate", "sample")
# Modules are compiled once, as they are for users.
CACHED = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
# Runs commands in one process; prints their exit codes and what they imported.
SCRIPT = f"""
import json, sys
from typer.testing import CliRunner
from raydistill.cli import app
codes = [CliRunner().invoke(app, command).exit_code for command in json.loads(sys.argv[1])]
print(json.dumps([codes, [name for name in {HEAVY} if name in sys.modules]]))
"""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an output folder with finished artifacts of some stages of `demo`."""
    folder = tmp_path_factory.mktemp("runs")
    plan = Plan(load("demo", [f"output={folder}"]))
    for name in DONE:
        spec = spec_of(plan, name)
        assert spec is not None
        summary = Summary("demo", True, 32, 0.5, (0.1,), (0.2,), (ClassSummary("round", 3, 3, 1, 1, 1, 0.9),), {})
        spec.folder.write("summary.json", summary.to_json())
        spec.commit()
    return folder


def _run(*commands: list[str]) -> tuple[list[int], list[str], float]:
    """Return the exit codes, the heavy imports and the CPU seconds of commands."""
    before = os.times()
    arguments = [sys.executable, "-c", SCRIPT, json.dumps(commands)]
    done = subprocess.run(arguments, env=CACHED, capture_output=True, text=True, check=True)
    after = os.times()
    codes, heavy = json.loads(done.stdout)
    return codes, heavy, sum(after[2:4]) - sum(before[2:4])


def test_finished_stages_are_found_without_heavy_imports(output: Path) -> None:
    commands = [[name, "demo", f"output={output}"] for name in DONE]
    assert _run(*commands, ["run", "demo", "--to", "sample", f"output={output}"])[:2] == ([0] * 7, [])


def test_finished_stage_takes_little_time(output: Path) -> None:
    codes, _, seconds = _run(["curate", "demo", f"output={output}"])
    assert codes == [0]
    assert seconds < 2  # 0.8 where it was measured, and 5 with torch


def test_dry_runs_and_help_import_nothing_heavy() -> None:
    dry = [["run", "demo", "--to", last, "--dry-run"] for last in ("evaluate", "audit", "hunt", "analyse")]
    dry += [[name, "demo", "--dry-run"] for name in ("tune", "augment", "detect")]
    helps = [["--help"], ["run", "--help"], ["fetch", "--help"]]
    assert _run(*dry, *helps)[:2] == ([0] * 10, [])


def test_dry_run_takes_little_time() -> None:
    codes, _, seconds = _run(["run", "demo", "--dry-run"])
    assert codes == [0]
    assert seconds < 1.5


def test_damaged_file_of_a_finished_stage_is_reported(output: Path) -> None:
    spec = Plan(load("demo", [f"output={output}", "seed=5"])).survey
    assert spec is not None
    spec.folder.write("data.bin", b"42")
    spec.commit()
    spec.folder.write("data.bin", b"43")
    assert _run(["simulate", "demo", f"output={output}", "seed=5"])[0] == [3]
