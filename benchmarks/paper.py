"""Repeat the experiment of arXiv:2311.17967 by its protocol, in pieces.

    RAYDISTILL_DATA=FOLDER python benchmarks/paper.py [--minutes 10] [--small] [key=value ...]

On a GPU: 128 px, 100 experts of 50 epochs, 20,000 iterations. Without one, or with `--small`: 64 px,
20 narrow experts and 2,000 iterations, a night of two cores. The surveys are a simulated one of nine
classes, and with RAYDISTILL_DATA the five classes of Kaggle's galaxies. A run stops after
`--minutes`, and goes on when the command is run again. At the end it prints accuracies beside those
of the authors' logs, with the interval of the evaluation (networks and galaxies).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from raydistill.stages.evaluate.report.text import format_figure
from raydistill.text import text_table

AUTHORS = {  # the shares are of the experts
    "distilled": ".541 (77 %), with turned galaxies .546 (62 %), ten a class .669 (76 %)",
    "random_real": ".273", "class_mean": ".412", "experts": ".699, with turned galaxies .880", "full_data": "",
}  # fmt: skip
SMALL = "extends=parts/paper_two_cores"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, help="stop after them; without it run to the end")
    parser.add_argument("--small", action="store_true")
    options, overrides = parser.parse_known_args()
    small = [SMALL] if options.small or not torch.cuda.is_available() else []
    ends = time.monotonic() + 60 * options.minutes if options.minutes else None
    for config in ("paper_simulated", "paper_kaggle5"):
        if config == "paper_simulated" or "RAYDISTILL_DATA" in os.environ:
            folder = run(["run", config, *small, *overrides], ends)
            print(table(f"{config}{', small' if small else ''}", json.loads((folder / "evaluation.json").read_text())))


def run(words: list[str], ends: float | None) -> Path:
    """Run a command and return the folder of its artifact; stop it at this time."""
    command = [sys.executable, "-m", "raydistill.cli", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            stdout, _ = process.communicate(timeout=None if ends is None else max(0, ends - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            process.wait()
            raise SystemExit("The time is over; run the same command again to go on.") from None
    if process.returncode:
        raise SystemExit(process.returncode)
    return Path(stdout.splitlines()[-1])


def table(title: str, summary: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Return accuracies, their shares of two whole ones, and the authors'."""
    accuracies = {name: summary[name]["accuracy"] for name in AUTHORS if name in summary}
    rows: list[tuple[str, ...]] = [
        ("trained on", "accuracy", "of experts", "of full data", "authors, nine classes of GZ2")
    ]
    for name, of in accuracies.items():
        shares = (f"{of['mean'] / accuracies[whole]['mean']:.0%}" for whole in ("experts", "full_data"))
        rows.append((name, format_figure(of), *shares, AUTHORS[name]))
    return text_table(title, rows)


if __name__ == "__main__":
    main()
