"""Run raydistill's commands from a benchmark."""

from __future__ import annotations

import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from raydistill.statistics.intervals import Interval

ROOT = Path(__file__).parents[1]


class CommandResult(NamedTuple):
    """The result of a command. `log` is its stderr.

    `folder` is that of its artifact, None if the command failed.
    """

    folder: Path | None
    code: int
    log: str


def raydistill(stage: str, arguments: list[str]) -> CommandResult:
    """Run one command to its end and copy its log to stderr."""
    command, log = [sys.executable, "-m", "raydistill.cli", stage, *arguments], []
    with (
        tempfile.TemporaryFile("w+") as answer,
        subprocess.Popen(command, stdout=answer, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process,
    ):
        for line in process.stderr or ():
            print(line, end="", file=sys.stderr, flush=True)
            log.append(line)
        code = process.wait()
        answer.seek(0)
        folder = None if code else Path(answer.read().splitlines()[-1])
    return CommandResult(folder, code, "".join(log))


def shown(of: Interval, sign: str = "") -> str:
    """Return a symmetric interval as text, such as 0.620 ± 0.070."""
    return f"{of.value:{sign}.3f} ± {of.high - of.value:.3f}"


def run_stage(stage: str, arguments: list[str]) -> Path:
    """Run a command and return its artifact's folder; SystemExit with log if it fails."""
    result = raydistill(stage, arguments)
    if result.folder is None:
        raise SystemExit(f"raydistill {stage} {shlex.join(arguments)} failed:\n{result.log[-2000:]}")
    return result.folder


def prepare_experts(arguments: list[str]) -> None:
    """Run all stages of a config up to the experts; finished ones are skipped."""
    run_stage("run", [*arguments, "--to", "experts"])


def distill_sets(sets: Sequence[list[str]], parallel: int) -> Iterator[Path]:
    """Run these distillations, `parallel` at once, and yield their folders in order."""
    with ThreadPoolExecutor(parallel) as pool:
        yield from pool.map(lambda arguments: run_stage("distill", arguments), sets)


def share_of_cores(parallel: int) -> str:
    """Return the override that gives `parallel` processes an equal share of the cores."""
    return f"resources.distill_cpus={max(1, (os.cpu_count() or 1) // parallel)}"


def run_all_stages(arguments: list[str]) -> dict[str, Any]:
    """Run all stages and return the contents of evaluation.json."""
    summary: dict[str, Any] = json.loads((run_stage("run", arguments) / "evaluation.json").read_text())
    return summary


def balanced_accuracy(summary: dict[str, Any], training_set: str) -> float:
    """Return the mean balanced accuracy of one training set of evaluation.json."""
    return float(summary[training_set]["balanced_accuracy"]["mean"])


def deviation(values: Sequence[float]) -> float:
    """Return the standard deviation over the seeds; 0 for one seed."""
    return statistics.stdev(values) if len(values) > 1 else 0.0
