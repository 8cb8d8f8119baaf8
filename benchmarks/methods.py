"""STM, MTT, distribution matching and random real images on real galaxies, at equal iterations, and MTT at equal time.

    RAYDISTILL_DATA=FOLDER python benchmarks/methods.py [network.width=32 ...] [--iterations 500] [--seeds 3] [--parallel 2] \
        [--output runs/methods]

`gz2_kaggle5` (Galaxy Zoo 2, five classes, 32 px, one image a class): the same experts, and for each method and seed a run of its preset in
`configs/methods`, which decides the window of start epochs, how far ahead the target lies, and the student's rates. What is no part of a
method is the same for all (`COMMON`; real images to begin with, as in the papers). MTT runs with the window of its paper for one image a
class (start epochs 0 and 1), and with all the start epochs that STM may reach; either also for as long as STM takes, whose iterations
cost more (`STM_COSTS`). STM moves on at 3 sigma, the paper's 5 being for 20000 iterations. Distribution matching has its seeds too;
random real images are drawn anew for every network. Fresh networks judge by balanced accuracy on test galaxies. A stopped run goes on
where it was. Rows go to `benchmarks/results/methods.json`, where those of other overrides stay.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

from running import ROOT, balanced_accuracy, distil, evaluated, share_of_cores, with_experts

RESULTS = ROOT / "benchmarks" / "results" / "methods.json"
LAST_START = 11  # of experts of 24 epochs
STM_COSTS = 1.25  # an STM iteration, in MTT's: 15 F and 12 F a student step (docs/benchmarks.md)

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
    given = parser.parse_intermixed_args()
    runs = [(method, seed) for seed in range(given.seeds) for method in METHODS]
    with_experts(_words(given, *runs[0]))
    for folder in distil([_words(given, *run) for run in runs], given.parallel):
        print(folder, flush=True)
    found: dict[str, list[float]] = {}
    for method, seed in runs:
        summary = evaluated([*_words(given, method, seed), *_judged(given, method, seed)])
        found.setdefault(method, []).append(balanced_accuracy(summary, "distilled"))
        print(f"{method}, seed {seed}: {found[method][-1]:.3f}", flush=True)
        if "dm" in summary:
            found.setdefault("dm", []).append(balanced_accuracy(summary, "dm"))
            found["random_real"] = [balanced_accuracy(summary, "random_real")]
        rows = [{"method": name, "mean": statistics.mean(values), "seeds": values} for name, values in found.items()]
        rows.sort(key=lambda row: -row["mean"])
        _write(given, rows)
    print(f"\n| gz2_kaggle5, {given.iterations} iterations | balanced accuracy | of each seed |\n|---|---|---|")
    for row in rows:
        print(f"| {row['method']} | {row['mean']:.3f} | {', '.join(f'{value:.3f}' for value in row['seeds'])} |")


def _words(given: argparse.Namespace, method: str, seed: int) -> list[str]:
    iterations = round(given.iterations * (STM_COSTS if method.endswith(AS_LONG) else 1))
    own = [f"distill.iterations={iterations}", f"distill.validate_every={iterations}", f"distill.seed={seed}"]
    given_words = [f"output={given.output}", share_of_cores(given.parallel), *given.overrides]
    return ["gz2_kaggle5", *METHODS[method], *COMMON, *own, *given_words]


def _judged(given: argparse.Namespace, method: str, seed: int) -> list[str]:
    """Distribution matching and random real images beside STM; they have nothing to do with the method."""
    if method != "stm":
        return ["evaluate.baselines=[]"]
    dm = [f"evaluate.dm.iterations={given.iterations}", f"evaluate.dm.seed={seed}"]
    return ["evaluate.baselines=[dm, random_real]", *dm]


def _write(given: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    kept: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept[" ".join(["gz2_kaggle5", *given.overrides])] = {"iterations": given.iterations, "rows": rows}
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
