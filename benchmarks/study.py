r"""Compare variants of a recipe on the same experts, by validation accuracy.

    RAYDISTILL_DATA=FOLDER python benchmarks/study.py gz2_kaggle5 \
        --try 'early: distill.schedule={kind: fixed, max_start_epoch: 5}' --try 'soft: distill.labels=soft' \
        [--seeds 3] [--parallel 2] [--output runs/study]

The arguments after the config are overrides for all variants. Each `--try NAME: OVERRIDES` adds its
own. `@FILE` reads arguments from a file, one per line: `benchmarks/ablations.txt` changes one key
of gz2_kaggle5 at a time, and `benchmarks/schedules.txt` the schedule of any config. Every variant
and seed is one `raydistill distill`, so a stopped study resumes when the command is run again.
`--parallel` of them run at once, each on its share of the cores. The test images are not used. The
table has the balanced accuracy on validation images of the best and of the last iterate: mean and
standard deviation over the seeds. `config` is the unchanged recipe.
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
from running import deviation, prepare_experts, run_stage, share_of_cores


class Outcome(NamedTuple):
    """The result of one variant and seed."""

    variant: str
    seed: int
    best: float
    last: float
    loss: float  # median over the segments of the last 50 iterations, without stationary experts
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
    args = parser.parse_intermixed_args()
    variants: dict[str, list[str]] = {"config": []} | {
        name.strip(): _overrides(rest) for name, _, rest in (v.partition(":") for v in args.variants)
    }
    common = [args.config, f"output={args.output}", *args.overrides]
    for own in {tuple(o for o in arguments if not o.startswith("distill.")) for arguments in variants.values()}:
        prepare_experts([*common, *own])  # once for all variants with the same experts
    common += [share_of_cores(args.parallel)]
    with ThreadPoolExecutor(args.parallel) as pool:
        # Seed by seed, so that all variants have an early result.
        runs = [
            pool.submit(_distill, name, seed, [*common, *own])
            for seed in range(args.seeds)
            for name, own in variants.items()
        ]
        outcomes = [run.result() for run in runs]
    print("\n| variant | best, validation | last | loss | minutes |\n|---|---|---|---|---|")
    for name in variants:
        seeds = [outcome for outcome in outcomes if outcome.variant == name]
        cells = [
            _format_mean([o.best for o in seeds]),
            _format_mean([o.last for o in seeds]),
            _format_mean([o.loss for o in seeds]),
            f"{statistics.mean(o.minutes for o in seeds):.1f}",
        ]
        print(f"| {name} | {' | '.join(cells)} |")


def _overrides(arguments: str) -> list[str]:
    """Return a variant's overrides, split before KEY=: values may contain blanks."""
    return re.split(r"\s+(?=[\w.]+=)", arguments.strip())


def _distill(variant: str, seed: int, overrides: list[str]) -> Outcome:
    start = time.monotonic()
    folder = run_stage("distill", [*overrides, f"distill.seed={seed}"])
    accuracies = pq.read_table(folder / "validation.parquet")["balanced_accuracy"].to_pylist()
    rows = pq.read_table(folder / "history.parquet", columns=["iteration", "loss"]).to_pylist()
    late = [row["loss"] for row in rows if row["iteration"] > rows[-1]["iteration"] - 50 and math.isfinite(row["loss"])]
    minutes = (time.monotonic() - start) / 60
    outcome = Outcome(variant, seed, max(accuracies), accuracies[-1], statistics.median(late or [math.nan]), minutes)
    curve = " ".join(f"{value:.3f}" for value in accuracies)
    print(f"{variant}, seed {seed}: {curve}  (loss {outcome.loss:.2f}, {minutes:.1f} min, {folder.name})", flush=True)
    return outcome


def _format_mean(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ± {deviation(values):.3f}"


if __name__ == "__main__":
    main()
