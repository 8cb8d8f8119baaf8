"""Measure distilling and training on a GPU: time, memory, use of its arithmetic.

    python benchmarks/gpu.py [NAME ...]         NAME: see `SETTINGS`; default: all
    python benchmarks/gpu.py --show             print the tables of the last results

Each variant runs in its own process, with its own peak memory. A finished row is kept, so that the
next run goes on where one was stopped, in pieces of any length; `--again` measures anew. Images and
parameters are random numbers in the shapes of a setting; 50 student steps, ConvNet-D3-W128, no
augmentation.

`unrolled` is how the published codes differentiate: autograd through all student steps. `exact` is
raydistill's engine; both give the same gradients. float32 is float32, without TF32. The arithmetic
of an iteration is that of `distillation.cost_model`, 12 forward passes per image and student step; of a
training step it is 3 per image. Its share is relative to a matrix product of 8,192 by 8,192 in the
same precision, measured in the same process.

Writes `benchmarks/results/gpu.json`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from workloads import matching, training_step

from raydistill.distillation.cost_model import forward_flops
from raydistill.learning.architectures import ConvNet
from raydistill.learning.networks import build_network
from raydistill.learning.options import Training
from raydistill.runtime.resources import device_of

RESULTS = Path(__file__).parent / "results" / "gpu.json"
STUDENT_STEPS = 50
BATCH_SIZE = 256  # of an expert
MEASURED_SECONDS = 5.0  # of a row, after the first iteration


class Setting(NamedTuple):
    """The shape of a set of synthetic images, or of an expert's batches (ipc 0)."""

    classes: int
    side: int
    ipc: int

    @property
    def num_images(self) -> int:
        return self.classes * self.ipc or BATCH_SIZE


class Variant(NamedTuple):
    engine: Literal["exact", "unrolled"]
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False


SETTINGS = {
    "GZ2 128 px, 1 a class": Setting(9, 128, 1),
    "GZ2 128 px, 10 a class": Setting(9, 128, 10),
    "GZ2 128 px, 50 a class": Setting(9, 128, 50),
    "CIFAR-10, 1 a class": Setting(10, 32, 1),
    "CIFAR-10, 50 a class": Setting(10, 32, 50),
    "GZ2 128 px, experts": Setting(9, 128, 0),
    "CIFAR-10, experts": Setting(10, 32, 0),
}
VARIANTS = {
    "unrolled": Variant("unrolled"),
    "exact": Variant("exact"),
    "exact, compiled": Variant("exact", compile=True),
    "exact, compiled, bfloat16": Variant("exact", "bfloat16", compile=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *SETTINGS], help="settings to measure; default: all")
    parser.add_argument("--again", action="store_true", help="measure rows that are there too")
    parser.add_argument("--show", action="store_true", help="print the results, measure nothing")
    parser.add_argument("--row", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.row:
        print(json.dumps(measure(*args.row)))
        return
    rows: dict[str, dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if not args.show:
        here = torch.cuda.is_available()
        if not here:
            print("This machine has no CUDA GPU: nothing was measured. The last results:")
        for setting in (args.names or SETTINGS) if here else []:
            for variant in _variants(setting):
                name = f"{setting}: {variant}"
                if args.again or name not in rows:
                    rows[name] = _alone(setting, variant)
                    RESULTS.parent.mkdir(exist_ok=True)
                    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
                    print(name, rows[name], flush=True)
    show(rows)


def _variants(setting: str) -> list[str]:
    """Return the variants of a setting; `unrolled` training is eager training.

    Training has no engine.
    """
    return [variant for variant in VARIANTS if SETTINGS[setting].ipc or variant != "exact"]


def _alone(setting: str, variant: str) -> dict[str, Any]:
    """Measure a row in its own process."""
    command = [sys.executable, __file__, "--row", setting, variant]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SystemExit(f"{setting}, {variant} failed:\n{answer.stderr}")
    result: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return result


def measure(setting: str, variant: str) -> dict[str, Any]:
    """Return the figures of a variant, or `out_of_memory`.

    They are median seconds, images/s, peak memory [GiB] and the share of the card's arithmetic.
    """
    shape, how, device = SETTINGS[setting], VARIANTS[variant], device_of(1)
    card = torch.cuda.get_device_properties(device)
    machine = {"gpu": card.name, "torch": torch.__version__}
    if shape.ipc:
        run, passes = matching(
            how.engine, STUDENT_STEPS, classes=shape.classes, side=shape.side, ipc=shape.ipc,
            precision=how.precision, compile=how.compile, device=device,
        ), 12 * STUDENT_STEPS  # fmt: skip
    else:
        recipe = Training(batch_size=BATCH_SIZE, compile=how.compile, precision=how.precision)
        run, passes = training_step(recipe, classes=shape.classes, side=shape.side, device=device), 3
    rate = _matrix_rate(getattr(torch, how.precision), device)
    torch.cuda.reset_peak_memory_stats()
    try:
        first = _seconds(run)
        one = _seconds(run)
        seconds = [_seconds(run) for _ in range(max(2, min(50, int(MEASURED_SECONDS / one))))]
    except torch.cuda.OutOfMemoryError:
        return machine | {"out_of_memory": True, "memory_gib": round(card.total_memory / 2**30, 1)}
    network = build_network(ConvNet(), shape.classes, shape.side)
    flops = passes * shape.num_images * forward_flops(network, 3, shape.side)
    return machine | {
        "seconds": round(statistics.median(seconds), 5),
        "first_seconds": round(first, 2),
        "images_per_second": round(shape.num_images * (STUDENT_STEPS if shape.ipc else 1) / statistics.median(seconds)),
        "memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 3),
        "tflops": round(flops / statistics.median(seconds) / 1e12, 2),
        "share": round(flops / statistics.median(seconds) / rate, 4),
    }


def _matrix_rate(dtype: torch.dtype, device: str) -> float:
    """Return the operations per second of a large matrix product."""
    a, b = (torch.randn(8192, 8192, device=device).to(dtype) for _ in range(2))
    _seconds(lambda: a @ b)
    return float(2 * 8192**3 / statistics.median(_seconds(lambda: a @ b) for _ in range(5)))


def _seconds(run: Callable[[], Any]) -> float:
    torch.cuda.synchronize()
    began = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def show(rows: dict[str, dict[str, Any]]) -> None:
    """Print a Markdown table per setting."""
    for setting in SETTINGS:
        given = {variant: rows[f"{setting}: {variant}"] for variant in VARIANTS if f"{setting}: {variant}" in rows}
        if not given:
            continue
        baseline = given.get("unrolled", {}).get("seconds")
        print(f"\n{setting} ({next(iter(given.values()))['gpu']})\n")
        print(
            "| | seconds | of unrolled | peak memory [GiB] | TFLOP/s | share of a matrix product |\n|---|---|---|---|---|---|"
        )
        for variant, row in given.items():
            if row.get("out_of_memory"):
                print(f"| {variant} | more memory than {row['memory_gib']} GiB | | | | |")
                continue
            ratio = f"{row['seconds'] / baseline:.2f}" if baseline else ""
            cells = (
                f"{row['seconds']:.4f} | {ratio} | {row['memory_gib']:.2f} | {row['tflops']:.1f} | {row['share']:.2f}"
            )
            print(f"| {variant} | {cells} |")


if __name__ == "__main__":
    main()
