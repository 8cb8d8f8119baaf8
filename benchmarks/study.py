"""Variants of a recipe, side by side, on the same experts: what each is worth on validation images.

    RAYDISTILL_DATA=FOLDER python benchmarks/study.py gz2_kaggle5 --try 'early: distill.schedule.max_start_epoch=5' \
        --try 'soft: distill.labels=soft' [--seeds 3] [--parallel 2] [--output runs/study]

The words after the config are overrides for all variants; each `--try NAME: OVERRIDES` adds its own, and `@FILE` stands for the words in a
file, one a line (`benchmarks/levers.txt`: every lever of gz2_kaggle5, one at a time). Every variant and seed is one
`raydistill distill` (so a stopped study goes on where it was), of which `--parallel` run at once, each on its share of the cores. The test
images are not touched. Prints balanced accuracy on validation images: of the best iterate and of the last one, mean and standard
deviation over the seeds; `config` is the recipe as it is.
"""

from __future__ import annotations

import argparse
import math
import re
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pyarrow.parquet as pq
from running import deviation, made, share_of_cores, with_experts


class Outcome(NamedTuple):
    """One variant and seed."""

    variant: str
    seed: int
    best: float
    last: float
    loss: float  # median of the last 50 iterations' pieces, but for those of experts that stand still
    minutes: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, fromfile_prefix_chars="@"
    )
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--try", dest="variants", action="append", default=[], metavar="NAME: OVERRIDES")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--output", default="runs/study")
    given = parser.parse_intermixed_args()
    variants = {"config": []} | {
        name.strip(): _overrides(rest) for name, _, rest in (v.partition(":") for v in given.variants)
    }
    common = [given.config, f"output={given.output}", *given.overrides]
    for own in {tuple(o for o in words if not o.startswith("distill.")) for words in variants.values()}:
        with_experts([*common, *own])  # once for all variants that share them
    common += [share_of_cores(given.parallel)]
    with ThreadPoolExecutor(given.parallel) as pool:
        # Seed by seed, so that a first look at all variants comes early.
        runs = [
            pool.submit(_distill, name, seed, [*common, *own])
            for seed in range(given.seeds)
            for name, own in variants.items()
        ]
        outcomes = [run.result() for run in runs]
    print("\n| variant | best, validation | last | loss | minutes |\n|---|---|---|---|---|")
    for name in variants:
        mine = [outcome for outcome in outcomes if outcome.variant == name]
        cells = [
            _spread([o.best for o in mine]),
            _spread([o.last for o in mine]),
            _spread([o.loss for o in mine]),
            f"{statistics.mean(o.minutes for o in mine):.1f}",
        ]
        print(f"| {name} | {' | '.join(cells)} |")


def _overrides(words: str) -> list[str]:
    """At the blanks before a KEY=; a value may have blanks of its own."""
    return re.split(r"\s+(?=[\w.]+=)", words.strip())


def _distill(variant: str, seed: int, overrides: list[str]) -> Outcome:
    began = time.monotonic()
    folder = made("distill", [*overrides, f"distill.seed={seed}"])
    accuracies = pq.read_table(folder / "validation.parquet")["balanced_accuracy"].to_pylist()
    pieces = pq.read_table(folder / "history.parquet", columns=["iteration", "loss"]).to_pylist()
    late = [
        row["loss"] for row in pieces if row["iteration"] > pieces[-1]["iteration"] - 50 and math.isfinite(row["loss"])
    ]
    minutes = (time.monotonic() - began) / 60
    outcome = Outcome(variant, seed, max(accuracies), accuracies[-1], statistics.median(late or [math.nan]), minutes)
    curve = " ".join(f"{value:.3f}" for value in accuracies)
    print(f"{variant}, seed {seed}: {curve}  (loss {outcome.loss:.2f}, {minutes:.1f} min, {folder.name})", flush=True)
    return outcome


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ± {deviation(values):.3f}"


if __name__ == "__main__":
    main()
