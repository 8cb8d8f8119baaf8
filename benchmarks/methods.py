"""Compare STM, MTT, distribution matching and random real images on real galaxies.

    RAYDISTILL_DATA=FOLDER python benchmarks/methods.py [network.width=32 ...] [--iterations 500] [--seeds 3] [--parallel 2] \
        [--output runs/methods]

Data: `gz2_kaggle5` (Galaxy Zoo 2, five classes, 32 px, one image per class), with the same experts for all methods.
Each method and seed is a run of its preset in `configs/methods`; options outside a method are the same for all (`COMMON`).

- MTT runs with the window of its paper (start epochs 0 and 1) and with all start epochs that STM may reach.
- Both also run for as long as STM takes, whose iterations cost more (`STM_COSTS`).
- STM advances at 3 sigma; the 5 sigma of its paper are for 20000 iterations.
- Random real images are drawn again for every network.

Fresh networks are evaluated by balanced accuracy on test galaxies. A stopped run resumes when the command is run again.
The rows of `benchmarks/results/methods.json` are updated; those of other overrides stay.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

from running import ROOT, balanced_accuracy, distill_sets, prepare_experts, run_all_stages, share_of_cores

RESULTS = ROOT / "benchmarks" / "results" / "methods.json"
LAST_START = 11  # the experts have 24 epochs
STM_COSTS = 1.25  # cost of an STM iteration in MTT iterations: 15 F against 12 F per student step (docs/benchmarks.md)

COMMON = [
    "distill.student_steps=20", "distill.student_lr=0.006", "distill.init=real", "distill.ema=0.98",
    "distill.image_step={kind: adam, lr: 0.03}", "distill.lr_step={kind: adam, lr: 0.005}",
    "distill.augmentation={operations: [mirror]}", "distill.precision=auto",
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
AS_LONG = ", as long as stm"
METHODS |= {name + AS_LONG: overrides for name, overrides in METHODS.items() if name != "stm"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--iterations", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--output", default="runs/methods")
    args = parser.parse_intermixed_args()
    runs = [(method, seed) for seed in range(args.seeds) for method in METHODS]
    prepare_experts(_arguments(args, *runs[0]))
    for folder in distill_sets([_arguments(args, *run) for run in runs], args.parallel):
        print(folder, flush=True)
    accuracies: dict[str, list[float]] = {}
    for method, seed in runs:
        summary = run_all_stages([*_arguments(args, method, seed), *_evaluation(args, method, seed)])
        accuracies.setdefault(method, []).append(balanced_accuracy(summary, "distilled"))
        print(f"{method}, seed {seed}: {accuracies[method][-1]:.3f}", flush=True)
        if "dm" in summary:
            accuracies.setdefault("dm", []).append(balanced_accuracy(summary, "dm"))
            accuracies["random_real"] = [balanced_accuracy(summary, "random_real")]
        rows: list[dict[str, Any]] = [
            {"method": name, "mean": statistics.mean(values), "seeds": values} for name, values in accuracies.items()
        ]
        rows.sort(key=lambda row: -row["mean"])
        _write(args, rows)
    print(f"\n| gz2_kaggle5, {args.iterations} iterations | balanced accuracy | of each seed |\n|---|---|---|")
    for row in rows:
        print(f"| {row['method']} | {row['mean']:.3f} | {', '.join(f'{value:.3f}' for value in row['seeds'])} |")


def _arguments(args: argparse.Namespace, method: str, seed: int) -> list[str]:
    iterations = round(args.iterations * (STM_COSTS if method.endswith(AS_LONG) else 1))
    own = [f"distill.iterations={iterations}", f"distill.validate_every={iterations}", f"distill.seed={seed}"]
    common = [f"output={args.output}", share_of_cores(args.parallel), *args.overrides]
    return ["gz2_kaggle5", *METHODS[method], *COMMON, *own, *common]


def _evaluation(args: argparse.Namespace, method: str, seed: int) -> list[str]:
    """Return the overrides that evaluate the other baselines once, beside STM."""
    if method != "stm":
        return ["evaluate.baselines=[]"]
    dm = [f"evaluate.dm.iterations={args.iterations}", f"evaluate.dm.seed={seed}"]
    return ["evaluate.baselines=[dm, random_real]", *dm]


def _write(args: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[" ".join(["gz2_kaggle5", *args.overrides])] = {"iterations": args.iterations, "rows": rows}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
