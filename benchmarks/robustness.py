r"""Draw random hyper-parameters and check that each run learns or reports why not.

    RAYDISTILL_DATA=FOLDER python benchmarks/robustness.py gz2_kaggle5 network.width=32 \
        [--draws 20] [--iterations 150]

Each draw takes a value of every key of `RANGES`, far around the sensible ones, and distils on the
same experts (one minute at `network.width=32`). A draw has one of three outcomes:

- learned: an iterate is better than the initial images on validation images;
- reported: the command failed with exit code 4 and a message, or warned that it publishes its
  initial images;
- silent: anything else; the benchmark then exits with 1.

Prints one row per draw with the warnings of the run, and writes
`benchmarks/results/robustness.json`.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow.parquet as pq
from running import ROOT, CommandResult, prepare_experts, raydistill

from raydistill.config import load
from raydistill.stages.distill.trainer import NOTHING_LEARNED

RESULTS = ROOT / "benchmarks" / "results" / "robustness.json"
WARNINGS = {"stays above 1": "loss above 1", "learning rate fell": "rate fell", "were skipped": "skipped"}


def _log(low: float, high: float) -> Callable[[random.Random], str]:
    return lambda draw: f"{low * (high / low) ** draw.random():.3g}"


def _one_of(*values: Any) -> Callable[[random.Random], str]:
    return lambda draw: str(draw.choice(values))


RANGES: dict[str, Callable[[random.Random], str]] = {
    "student_steps": lambda draw: str(draw.randint(5, 40)),
    "expert_epochs": _one_of(1, 2, 3),
    "student_lr": lambda draw: "auto" if draw.random() < 0.25 else _log(0.001, 0.05)(draw),
    "image_step": lambda draw: draw.choice(
        [
            f"{{kind: adam, lr: {_log(0.003, 0.2)(draw)}}}",
            f"{{kind: sgd, lr: {_log(10, 1e5)(draw)}}}",
            "{kind: sgd, lr: auto}",
        ]
    ),
    "lr_step": lambda draw: f"{{kind: adam, lr: {_log(0.001, 0.03)(draw)}}}",
    "ema": _one_of(0, 0.9, 0.98),
    "init": _one_of("real", "noise", "mean", "correct"),
    "labels": _one_of("hard", "soft"),
    "augmentation": _one_of("{operations: []}", "{operations: [SYMMETRY]}", "{operations: [SYMMETRY, scale, crop]}"),
    "schedule": lambda draw: draw.choice(
        [
            f"{{kind: fixed, max_start_epoch: {draw.randint(0, 15)}}}",
            f"{{kind: clocked, every: {draw.randint(5, 50)}, max_start_epoch: {draw.randint(1, 15)}}}",
            f"{{kind: self-adaptive, significance: {draw.uniform(1, 5):.1f}, min_duration: {draw.randint(5, 50)}}}",
        ]
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--iterations", type=int, default=150)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--output", default="runs/robustness")
    args = parser.parse_intermixed_args()
    common = [
        args.config, f"output={args.output}", f"distill.iterations={args.iterations}", "distill.precision=auto",
        "distill.validate_every=25", "resources.distill_cpus=1", *args.overrides,
    ]  # fmt: skip
    prepare_experts(common)
    augmentation = load(args.config, args.overrides).distill.augmentation
    (symmetry,) = augmentation.operations  # dihedral, or mirror of aligned galaxies
    drawn = [_draw(seed, symmetry) for seed in range(args.draws)]
    with ThreadPoolExecutor(args.parallel) as pool:
        ends = pool.map(
            lambda values: raydistill("distill", [*common, *(f"distill.{k}={v}" for k, v in values.items())]), drawn
        )
        rows = [_row(number, *both) for number, both in enumerate(zip(drawn, ends, strict=True))]
    results = {"config": " ".join([args.config, *args.overrides]), "iterations": args.iterations, "draws": rows}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(
        "\n" + ", ".join(f"{outcome} {count}" for outcome, count in Counter(r["outcome"] for r in rows).most_common())
    )
    if any(row["outcome"] == "silent" for row in rows):
        sys.exit(1)


def _draw(seed: int, symmetry: str) -> dict[str, str]:
    draw = random.Random(seed)
    return {key: value(draw).replace("SYMMETRY", symmetry) for key, value in RANGES.items()}


def _row(number: int, values: dict[str, str], result: CommandResult) -> dict[str, Any]:
    warnings = [short for sentence, short in WARNINGS.items() if sentence in result.log]
    if result.folder is None:
        message = result.log.strip().splitlines()[-1]
        outcome = "reported" if result.code == 4 and message.startswith("raydistill: ") else "silent"
        row: dict[str, Any] = {"outcome": outcome, "first": None, "best": None, "message": message}
    else:
        validation = pq.read_table(result.folder / "validation.parquet")["balanced_accuracy"].to_pylist()
        first, best = validation[0], max(validation)
        reported = NOTHING_LEARNED in result.log
        outcome = "learned" if best > first else "reported" if reported else "silent"
        row = {"outcome": outcome, "first": round(first, 3), "best": round(best, 3), "message": ""}
    row = {"draw": number, **row, "warnings": warnings, "values": values}
    print(
        f"{number:3} {row['outcome']}: {row['first']} -> {row['best']} {warnings} {values} {row['message']}", flush=True
    )
    return row


if __name__ == "__main__":
    main()
