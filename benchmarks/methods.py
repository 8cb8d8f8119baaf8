"""STM, MTT, distribution matching and random real images on real galaxies, at equal iterations.

    RAYDISTILL_DATA=FOLDER python benchmarks/methods.py [--iterations 500] [--seeds 3] [--output runs/methods]

`gz2_kaggle5` (Galaxy Zoo 2, five classes, 32 px, one image a class): the same experts, and for each method and seed a run of its preset in
`configs/methods`, which decides the window of start epochs, how far ahead the target lies, and the student's rates. What is no part of a
method is the same for all (`COMMON`). MTT runs twice: with the window of its paper for one image a class (start epochs 0 and 1), and with
all the start epochs that STM may reach. STM moves on at 3 sigma, the paper's 5 being for 20000 iterations.
Distribution matching has its seeds too; random real images are drawn anew for every network. Fresh networks judge by balanced accuracy
on test galaxies. A stopped run goes on where it was. Writes `benchmarks/results/methods.json`.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

from running import ROOT, balanced_accuracy, evaluated

RESULTS = ROOT / "benchmarks" / "results" / "methods.json"
LAST_START = 11  # of experts of 24 epochs

COMMON = [
    "distill.student_steps=20", "distill.student_lr=0.006", "distill.init=real", "distill.ema=0.98",
    "distill.image_step={kind: adam, lr: 0.03}", "distill.lr_step={kind: adam, lr: 0.005}",
    "distill.augmentation={operations: [dihedral]}", "distill.precision=auto",
    "evaluate.full_data_networks=0", "evaluate.other_networks=[]",
]  # fmt: skip
METHODS = {
    "stm": [
        "extends=methods/stm",
        f"distill.schedule.max_start_epoch={LAST_START}",
        "distill.schedule.min_duration=10",
        "distill.schedule.significance=3",
    ],
    "mtt": ["extends=methods/mtt"],
    "mtt, wide window": ["extends=methods/mtt", f"distill.schedule.max_start_epoch={LAST_START}"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", default="runs/methods")
    given = parser.parse_args()
    found: dict[str, list[float]] = {}
    for method, overrides in METHODS.items():
        baselines = ["dm", "random_real"] if method == "stm" else []
        for seed in range(given.seeds):
            summary = _run(given, [*overrides, f"evaluate.baselines=[{', '.join(baselines)}]"], seed)
            found.setdefault(method, []).append(balanced_accuracy(summary, "distilled"))
            if baselines:
                found.setdefault("dm", []).append(balanced_accuracy(summary, "dm"))
                found["random_real"] = [balanced_accuracy(summary, "random_real")]
            print(f"{method}, seed {seed}: {found[method][-1]:.3f}", flush=True)
            rows = [
                {"method": name, "mean": statistics.mean(values), "seeds": values} for name, values in found.items()
            ]
            rows.sort(key=lambda row: -row["mean"])
            RESULTS.write_text(json.dumps({"iterations": given.iterations, "rows": rows}, indent=1) + "\n")
    print(f"\n| gz2_kaggle5, {given.iterations} iterations | balanced accuracy | of each seed |\n|---|---|---|")
    for row in rows:
        print(f"| {row['method']} | {row['mean']:.3f} | {', '.join(f'{value:.3f}' for value in row['seeds'])} |")


def _run(given: argparse.Namespace, overrides: list[str], seed: int) -> dict[str, Any]:
    every = f"distill.validate_every={given.iterations}"
    own = [f"distill.iterations={given.iterations}", every, f"distill.seed={seed}", f"output={given.output}"]
    own += [f"evaluate.dm.iterations={given.iterations}", f"evaluate.dm.seed={seed}"]
    return evaluated(["gz2_kaggle5", *overrides, *COMMON, *own])


if __name__ == "__main__":
    main()
