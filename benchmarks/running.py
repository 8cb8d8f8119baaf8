"""raydistill's own commands, run by a benchmark."""

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

from raydistill.config import load
from raydistill.pipeline.run import stages_of

ROOT = Path(__file__).parents[1]


class Ended(NamedTuple):
    """folder: of the artifact, which the command prints last; None where it failed. said: its stderr."""

    folder: Path | None
    code: int
    said: str


def raydistill(stage: str, words: list[str]) -> Ended:
    """One command, to its end; what it says of its progress is passed on."""
    command, said = [sys.executable, "-m", "raydistill.cli", stage, *words], []
    with (
        tempfile.TemporaryFile("w+") as answer,
        subprocess.Popen(command, stdout=answer, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process,
    ):
        for line in process.stderr or ():
            print(line, end="", file=sys.stderr, flush=True)
            said.append(line)
        code = process.wait()
        answer.seek(0)
        folder = None if code else Path(answer.read().splitlines()[-1])
    return Ended(folder, code, "".join(said))


def made(stage: str, words: list[str]) -> Path:
    """The folder of an artifact that has to come out; SystemExit with what was said if not."""
    ended = raydistill(stage, words)
    if ended.folder is None:
        raise SystemExit(f"raydistill {stage} {shlex.join(words)} failed:\n{ended.said[-2000:]}")
    return ended.folder


def with_experts(words: list[str]) -> None:
    """Everything up to a config's experts, where it does not exist yet."""
    for stage in stages_of(load(words[0], words[1:])):
        made(stage, words)
        if stage == "experts":
            return


def distil(sets: Sequence[list[str]], parallel: int) -> Iterator[Path]:
    """The folders of distilled sets, given their commands' words, in this order; so many are made at once."""
    with ThreadPoolExecutor(parallel) as pool:
        yield from pool.map(lambda words: made("distill", words), sets)


def share_of_cores(parallel: int) -> str:
    """The override that gives each of so many distilling processes its share of the machine."""
    return f"resources.distill_cpus={max(1, (os.cpu_count() or 1) // parallel)}"


def evaluated(words: list[str]) -> dict[str, Any]:
    """evaluation.json of a whole run."""
    summary: dict[str, Any] = json.loads((made("run", words) / "evaluation.json").read_text())
    return summary


def balanced_accuracy(summary: dict[str, Any], subject: str) -> float:
    """The headline figure of a subject of evaluation.json."""
    return float(summary[subject]["balanced_accuracy"]["mean"])


def deviation(values: Sequence[float]) -> float:
    """Standard deviation over the seeds; of one seed 0."""
    return statistics.stdev(values) if len(values) > 1 else 0.0
