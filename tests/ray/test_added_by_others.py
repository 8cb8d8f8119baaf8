"""A stage, a network, a schedule and a baseline of another package are found."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ray_tools import copy_of

SOURCES = Path(__file__).parents[1] / "data" / "outside"
ENTRY_POINTS = """
[raydistill.stages]
brightness = brightness:STAGE
[raydistill.networks]
tiny = added_network:Tiny
[raydistill.schedules]
growing = added_schedule:Growing
[raydistill.baselines]
medoid = added_baseline:medoid
"""
CALLS = """
import json, sys
from typer.testing import CliRunner
from raydistill.cli import app
print(json.dumps([CliRunner().invoke(app, words).stdout for words in json.loads(sys.argv[1])]))
"""
RUNS = """
import json, sys
from typer.testing import CliRunner
import raydistill as rd
from raydistill.cli import app
from tests.private_ray import private_ray

config, words = "tests/configs/tiny.yaml", sys.argv[1:]
with private_ray(100):
    run = CliRunner().invoke(app, ["run", config, "--to", "brightness", *words])
    report = rd.brightness(config, *words)
    evaluation = CliRunner().invoke(app, ["evaluate", config, "evaluate.baselines=[medoid]", *words])
again = rd.open(report.folder.uri)
listed = [type(again).__name__, again.means == report.means, repr(report), "brightness" in dir(rd)]
print(json.dumps([[run.stdout, run.stderr], listed, [evaluation.stdout, evaluation.stderr]]))
"""


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the environment of a process in which the package is installed."""
    return installed(tmp_path_factory.mktemp("site"), "outside", ENTRY_POINTS)


def installed(site: Path, package: str, entry_points: str) -> dict[str, str]:
    """Write a package's metadata; return the environment that finds it."""
    metadata = site / f"{package}-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(entry_points)
    here = os.pathsep.join([str(SOURCES), str(site), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": here}


def call(env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *words], env=env, capture_output=True, text=True, check=False, cwd=SOURCES.parents[2]
    )
    assert done.returncode == 0, done.stderr
    return done


def test_each_is_one_short_file() -> None:
    assert all(len(path.read_text().splitlines()) <= 60 for path in SOURCES.glob("*.py"))


def test_page_of_commands_lists_the_stage(env: dict[str, str]) -> None:
    page = call(env, "-c", "from tests.unit.test_commands_reference import document; print(document())").stdout
    assert "| [`brightness`](#brightness) | Measure the brightness of each class. | `raydistill brightness " in page


def test_help_plan_and_config_know_what_was_added(env: dict[str, str], tmp_path: Path) -> None:
    demo, kinds = ("run", "demo", f"output={tmp_path}", "--dry-run"), "network={kind: tiny, width: 4}"
    calls = (
        ("--help",), ("brightness", "--help"), (*demo, "--to", "brightness", "brightness.split=train"),
        (*demo, kinds, "distill.schedule={kind: growing, every: 3}", "--json"),
    )  # fmt: skip
    commands, stage, planned, config = json.loads(call(env, "-c", CALLS, json.dumps(calls)).stdout)
    assert "  brightness " in commands
    assert "Measure the brightness of each class." in stage
    steps = [line.split()[0] for line in planned.splitlines() if "to build" in line]
    assert steps == ["simulate", "curate", "brightness"]
    read = json.loads(config)["config"]
    assert read["network"] == {"kind": "tiny", "width": 4}
    assert read["distill"]["schedule"] == {"kind": "growing", "every": 3}


@pytest.mark.parametrize(
    ("group", "value", "sentence"),
    [
        pytest.param(
            "stages",
            "nowhere:STAGE",
            "cannot be loaded (ModuleNotFoundError: No module named 'nowhere')",
            marks=pytest.mark.long,
        ),
        (
            "stages",
            "brightness:KIND",
            "is no Stage, or its group is none of Distil, Generate and search, Survey and data",
        ),
        ("schedules", "added_network:Tiny", "does not derive from ScheduleBase"),
        pytest.param(
            "networks",
            "fractions:Fraction",
            "is no frozen dataclass with a field `kind: Literal[NAME] = NAME`",
            marks=pytest.mark.long,
        ),
    ],
)
def test_bad_entry_point_is_named(tmp_path: Path, group: str, value: str, sentence: str) -> None:
    there = installed(tmp_path, "bad", f"[raydistill.{group}]\nbad = {value}\n")
    command = [sys.executable, "-m", "raydistill.cli", "run", "demo", "--dry-run"]
    ended = subprocess.run(command, env=there, capture_output=True, text=True, check=False, cwd=SOURCES.parents[2])
    assert ended.returncode == 2, ended.stderr
    assert f"raydistill: raydistill.{group}: 'bad = {value}' of bad {sentence}" in ended.stderr
    assert ended.stderr.endswith("; correct or uninstall it\n")


@pytest.fixture(scope="module")
def runs(env: dict[str, str], tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what the stage, `rd.brightness` and an evaluation print."""
    root = copy_of(tiny_root, tmp_path_factory.mktemp("outside"), "survey", "curated", "trajectories", "distilled")
    words = (f"output={root}", "evaluate.full_data_networks=0")
    return json.loads(call(env, "-c", RUNS, *words).stdout.splitlines()[-1])


def test_stage_runs_from_the_command_line_and_from_python(runs: Any) -> None:
    (stdout, stderr), (name, same, shown, listed), _ = runs
    assert "stage 1 of 1, brightness: Measure the brightness of each class." in stderr
    assert "5 classes" in stderr
    assert re.search(r"/tiny/brightness-\w+$", stdout.strip())
    assert (name, same, listed) == ("BrightnessReport", True, True)
    assert shown.startswith("<BrightnessReport")


def test_baseline_is_compared_with_the_distilled_set(runs: Any) -> None:
    _, _, (stdout, stderr) = runs
    summary = json.loads((Path(stdout.strip()) / "evaluation.json").read_text())
    assert list(summary)[-2:] == ["experts", "medoid"]
    assert summary["medoid"]["accuracy"]["n"] == summary["distilled"]["accuracy"]["n"] == 2
    assert "medoid" in stderr
