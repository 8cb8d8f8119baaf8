"""Compare the unchanged public MTT and STM code with raydistill on one CPU.

Both have the same experts, images, rates and window.

    python benchmarks/side_by_side.py --mtt FOLDER --stm FOLDER [OPTIONS]

    no options       accuracy of networks trained on both, after K iterations
    --agreement      loss and gradients of one iteration from the same state
    --speed          seconds and memory of an STM iteration with 50 student steps
    --speed --gpu    the same on a GPU, with its memory

The folders are git checkouts; nothing is written to them:
    MTT  https://github.com/GeorgeCazenavette/mtt-distillation
         at 50dccea47ba48b9cfb3b9c59375d7da92e4e603b
    STM  https://github.com/HaowenGuan/Galaxy-Dataset-Distillation
         at 139e3800e305c2ed7cfa8647f8e053f3cd140b80
RAYDISTILL_DATA has `cifar10_jpeg.parquet` (split, label, name, jpeg) and `gz2_kaggle/`, as in
configs/gz2_kaggle5.yaml.

`runpy` runs their `distill.py` with their own options. Only these parts are replaced, from outside:
  - `utils.get_dataset` returns the initial images as the data set, so that its "random real images"
    are ours. Experts come from `replay_buffer_0.pt` in their format, written from raydistill's
    trajectories.
  - `wandb` is a recorder: when a loss is logged it stops the clock and lets the other side run. It
    saves images and rates every few iterations and ends the process after K iterations.
  - `kornia`, `torchvision`, `cv2` and `seaborn`, if not installed, and
    `scipy.ndimage.interpolation`, which newer SciPy lacks, are empty modules: both programs import
    them, but the code that runs here does not use them.
  - `--eval_it=-1` skips their evaluation (a thousand epochs, then `.cuda()`); raydistill's
    evaluates both.
  - with --agreement `torch.float` is float64 in one of two comparisons.
Their augmentation (DSA, one operation per step) and optimisers are unchanged. Their random numbers
come from the clock, so their images differ from run to run.

The two sides alternate, iteration by iteration, each in its own process with all threads: the
machine's speed cancels. The first iteration warms up or compiles and is left out of the median.
`beyond_start_mb` is the peak memory of a process minus that before its first iteration. Writes
`benchmarks/results/side_by_side.json`, one section per command.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from side_by_side_tools import Bench, arguments, prepare, recipe, run_alternately, start_sides

RESULTS = Path(__file__).parent / "results" / "side_by_side.json"
METHODS = ("mtt", "stm")
DATA = ("cifar10", "gz2")
NETWORKS = 5  # evaluated per set of images


def main() -> None:
    given = _arguments()
    bench = Bench(given)
    measure = speed if given.speed else agreement if given.agreement else runs
    settings = {name: value for name, value in vars(given).items() if not isinstance(value, Path)}
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    rows: list[dict[str, Any]] = []
    section = measure.__name__ + " on a GPU" * given.gpu
    results[section] = {"machine": bench.machine, "code": bench.commits, "settings": settings, "rows": rows}
    RESULTS.parent.mkdir(exist_ok=True)
    for row in measure(bench):
        rows.append(row)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    _table(rows)
    if not bench.machine["bfloat16"]:
        print("bfloat16 is no faster than float32 on this machine: cases that need it were skipped.")
    print(f"\n{RESULTS}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mtt", type=Path, required=True, metavar="FOLDER", help="checkout of the MTT code")
    parser.add_argument("--stm", type=Path, required=True, metavar="FOLDER", help="checkout of the STM code")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--agreement", action="store_true", help="compare one iteration, number by number")
    mode.add_argument("--speed", action="store_true", help="seconds and memory of an iteration, nothing else")
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--iterations", type=int, help="number of iterations K; default: 200, with --speed 10")
    parser.add_argument("--student-steps", type=int, help="student steps N; default: 10, with --speed 50")
    parser.add_argument("--epochs", type=int, default=300, help="epochs of the networks trained on the images")
    parser.add_argument("--experts", type=int, default=3, help="number of experts")
    parser.add_argument("--expert-epochs", type=int, default=10, help="epochs of each expert")
    parser.add_argument("--per-class", type=int, default=700, help="CIFAR-10 images per class; 5/7 are for training")
    parser.add_argument("--gpu", action="store_true", help="with --speed: both sides on a GPU, and its memory")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of each side; default: all cores")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/side_by_side"), help="folder for data, experts and images"
    )
    given = parser.parse_args()
    if given.expert_epochs < 3:
        parser.error("--expert-epochs: the window of start epochs needs experts of at least 3")
    if "RAYDISTILL_DATA" not in os.environ:
        parser.error("RAYDISTILL_DATA is not set: the folder with cifar10_jpeg.parquet and gz2_kaggle/")
    given.iterations = given.iterations or (10 if given.speed else 200)
    given.student_steps = given.student_steps or (50 if given.speed else 10)
    return given


# ---- measurements ----


def runs(bench: Bench) -> Iterator[dict[str, Any]]:
    """Run both sides for K iterations; evaluate at equal iterations and at equal time."""
    for data in bench.given.data:
        spec = prepare(bench, data)
        for method in bench.given.methods:
            yield from _run(bench, spec, data, method)


def _run(bench: Bench, spec: dict[str, Any], data: str, method: str) -> Iterator[dict[str, Any]]:
    given = bench.given
    every = max(1, given.iterations // 20)
    total = given.iterations - given.iterations % every  # the last iteration is kept
    sides = run_alternately(start_sides(bench, spec, method, {"ours": {"compile": True}}, every), total)
    limit = total * min(side.median for side in sides.values())
    files = {side: (result.out / f"{total:06d}.pt", result.file_within(limit)) for side, result in sides.items()}
    initial = f"{spec['data']}/start.pt"
    image_files = sorted({initial, *(str(file) for pair in files.values() for file in pair if file)})
    spec = spec | {
        "files": image_files, "epochs": given.epochs, "networks": NETWORKS, "student_lr": recipe(given, method)["student_lr"],
    }  # fmt: skip
    scores = bench.ask("evaluate", spec)
    for side, result in sides.items():
        at_end, in_time = files[side]
        yield {
            "data": data, "method": method, "side": side, "iterations": total, "seconds": round(result.median, 4),
            "peak_mb": round(result.peak_mb), "beyond_start_mb": round(result.peak_mb - result.start_mb),
            "accuracy": scores[str(at_end)], "accuracy_equal_time": scores[str(in_time or initial)],
            "equal_time_iteration": int(in_time.stem) if in_time else 0, "accuracy_initial": scores[initial],
            "last_loss": statistics.fmean(answer["loss"] for answer in result.answers[-every:]),
            "images": f"{spec['train']} train, {spec['test']} test",
        }  # fmt: skip


def agreement(bench: Bench) -> Iterator[dict[str, Any]]:
    """Compare one iteration without augmentation by |ours - theirs| / |theirs|."""
    for data in bench.given.data:
        spec = prepare(bench, data)
        for method in bench.given.methods:
            base = recipe(bench.given, method)
            for precision in ("float64", "float32"):
                spec = spec | {key: base[key] for key in ("student_steps", "expert_epochs", "student_lr")} | {
                    "code": str(bench.code[method]), "precision": precision,
                    "arguments": [*arguments(method, base), "--no_aug=True"],
                }  # fmt: skip
                name = f"agreement-{data}-{method}-{precision}"
                bench.do("their_iteration", spec, name)
                yield {"data": data, "method": method, "precision": precision} | bench.ask("compare", spec, name)


FAST: dict[str, Any] = {"compile": True, "precision": "bfloat16"}
# The default schedule needs no next-epoch loss, so it runs the student once.
ADAPTIVE: dict[str, Any] = {"schedule": {"kind": "loss-weighted"}}
VARIANTS: dict[str, dict[str, Any]] = {
    "ours": {}, "ours compiled": {"compile": True}, "ours compiled bfloat16": FAST,
    "ours loss-weighted compiled": {"compile": True} | ADAPTIVE, "ours loss-weighted compiled bfloat16": FAST | ADAPTIVE,
}  # fmt: skip
TARGETS = {
    "ours": ("memory_ratio", 1 / 6), "ours compiled": ("time_ratio", 0.85), "ours compiled bfloat16": ("time_ratio", 0.55),
    "ours loss-weighted compiled": ("time_ratio", 0.75), "ours loss-weighted compiled bfloat16": ("time_ratio", 0.5),
}  # fmt: skip


def speed(bench: Bench) -> Iterator[dict[str, Any]]:
    """Time an STM iteration on CIFAR-10, one image per class.

    Theirs and ours compute the next-epoch loss, except for ours with the loss-weighted schedule.
    """
    variants = {
        name: change for name, change in VARIANTS.items() if bench.machine["bfloat16"] or "bfloat16" not in name
    }
    sides = run_alternately(
        start_sides(bench, prepare(bench, "cifar10"), "stm", variants, 10**9), bench.given.iterations
    )
    theirs = sides["theirs"]
    for side, result in sides.items():
        beyond = result.peak_mb - result.start_mb
        row: dict[str, Any] = {
            "side": side, "seconds": round(result.median, 4), "first_seconds": round(result.seconds[0], 2),
            "time_ratio": round(result.median / theirs.median, 4), "peak_mb": round(result.peak_mb),
            "beyond_start_mb": round(beyond), "memory_ratio": round(beyond / (theirs.peak_mb - theirs.start_mb), 4),
        }  # fmt: skip
        if side in TARGETS:
            name, target = TARGETS[side]
            row["target"] = f"{name} ≤{target:.3g}: {'holds' if row[name] <= target else 'MISSED'}"
        yield row


# ---- tables ----


def _table(rows: list[dict[str, Any]]) -> None:
    """Print the rows as a Markdown table."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    for line in (names, ["---"] * len(names), *([_cell(row.get(name, "")) for name in names] for row in rows)):
        print("| " + " | ".join(line) + " |")


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['mean']:.3f} ± {value['ci95']:.3f}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
