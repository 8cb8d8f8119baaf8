"""raydistill's own commands, run by a benchmark."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Ended(NamedTuple):
    """folder: of the artifact, which the command prints last; None where it failed. said: its stderr."""

    folder: Path | None
    code: int
    said: str


def raydistill(stage: str, words: list[str]) -> Ended:
    """One command, to its end."""
    command = [sys.executable, "-m", "raydistill.cli", stage, *words]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    folder = None if answer.returncode else Path(answer.stdout.splitlines()[-1])
    return Ended(folder, answer.returncode, answer.stderr)


def made(stage: str, words: list[str]) -> Path:
    """The folder of an artifact that has to come out; SystemExit with what was said if not."""
    ended = raydistill(stage, words)
    if ended.folder is None:
        raise SystemExit(f"raydistill {stage} {shlex.join(words)} failed:\n{ended.said[-2000:]}")
    return ended.folder
