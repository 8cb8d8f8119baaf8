"""Measure raydistill's speed and memory as ratios of two variants in one run.

    make bench            (or: python benchmarks/bench.py [NAME ...])            about eight minutes on two cores

Each case runs in its own process, with its own peak memory and caches. The variants of a time ratio alternate in one
process; the ratio is that of the medians, so the machine's speed cancels. Writes `benchmarks/results/latest.json`, rows of
{name, value, target, holds, detail}; `target` says whether the ratio must be below or above it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path(__file__).parent / "results" / "latest.json"
CLASSES, SIDE = 10, 32  # CIFAR-10's
PARAMETERS = 320_010  # of a ConvNet-D3-W128 with ten classes
ROUNDS = 3  # of each variant of a time ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *CASES], help="cases to run; default: all")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(MEASURED[args.measure]()))
        return
    earlier = json.loads(RESULTS.read_text())["rows"] if args.names and RESULTS.exists() else []
    rows = {row["name"]: row for row in earlier}
    for name in args.names or CASES:
        for result in CASES[name]():
            rows[result["name"]] = result
            show(result)
    here = machine()
    if not here["bfloat16"]:
        print("bfloat16 is no faster than float32 on this machine: cases that need it were skipped.")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"machine": here, "rows": [*rows.values()]}, indent=1) + "\n")
    print(RESULTS)


def machine() -> dict[str, Any]:
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpus": os.cpu_count(),
        "cpu": platform.machine(),
        "gpu": gpu,
        "torch": torch.__version__,
        "bfloat16": _bfloat16(),
    }


def show(result: dict[str, Any]) -> None:
    verdict = "holds " if result["holds"] else "MISSED"
    print(
        f"{verdict}  {result['name']:75s} {result['value']:8.3f}  {result['target']:8s} {result['detail']}", flush=True
    )


def row(name: str, value: float, target: str, detail: str) -> dict[str, Any]:
    limit = float(target[1:])
    holds = value <= limit if target[0] == "≤" else value >= limit
    return {"name": name, "value": round(value, 4), "target": target, "holds": holds, "detail": detail}


def _alone(name: str) -> Any:
    """Return the result of `MEASURED[name]`, run in its own process."""
    answer = subprocess.run([sys.executable, __file__, "--measure", name], capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SystemExit(f"{name} failed:\n{answer.stderr}")
    return json.loads(answer.stdout.splitlines()[-1])


# ---- memory of a matching iteration ----


MEMORY = {"exact": ("exact", None), "thrifty": ("exact", 0.0), "unrolled": ("unrolled", None)}


def memory() -> Iterator[dict[str, Any]]:
    runs = [(variant, steps) for variant in MEMORY for steps in (10, 50) if (variant, steps) != ("unrolled", 10)]
    result = {(variant, steps): _alone(f"memory {variant} {steps}") for variant, steps in runs}
    detail = "ConvNet-D3-W128, ten images: " + ", ".join(
        f"{variant} N={n} {mb:.0f} MB" for (variant, n), mb in result.items()
    )
    ratio = result["thrifty", 50] / result["thrifty", 10]
    yield row("peak memory of exact with the least memory, N = 50 against 10", ratio, "≤1.15", detail)
    # The exact gradient needs the parameters after each step; the least memory computes most of them again.
    grown = (result["exact", 50] - result["exact", 10]) / 40
    yield row(
        "memory of a further step of exact, against its parameters", grown / (4 * PARAMETERS / 2**20), "≤1.15", detail
    )
    ratio = result["exact", 50] / result["unrolled", 50]
    yield row("peak memory of exact against unrolled, N = 50", ratio, "≤0.1667", detail)


def _peak_of(variant: str, steps: int) -> float:
    """Return the peak memory in MB above that of imports, network and one loss."""
    engine, memory_mb = MEMORY[variant]
    match = _matching(engine, steps, SETTINGS["CIFAR-10, 1 a class"], memory_mb=memory_mb)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2):
        match()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


# ---- time of a matching iteration ----


class Setting(NamedTuple):
    """The synthetic images of a measurement, and its number of student steps.

    There are fewer steps than in a run: the time of a step does not depend on their number.
    """

    classes: int
    side: int
    ipc: int
    steps: int


SETTINGS = {
    "CIFAR-10, 1 a class": Setting(CLASSES, SIDE, 1, 15),
    "CIFAR-10, 10 a class": Setting(CLASSES, SIDE, 10, 3),
    "GZ2 64 px, 1 a class": Setting(5, 64, 1, 8),
}


def iteration() -> Iterator[dict[str, Any]]:
    for setting, (*_, steps) in SETTINGS.items():
        result = _alone(f"iteration {setting}")
        for variant, target in (("compiled", "≤0.9"), ("compiled bfloat16", "≤0.6"), ("exact, graphs kept", "≤1.2")):
            if variant not in result:
                continue
            detail = f"N = {steps}; {_seconds(result)}; once to compile {result['to compile']:.0f} s"
            if variant == "compiled bfloat16":
                detail += f"; cosine with float32 {result['cosine']:.4f}"
            yield row(
                f"an iteration, {variant} against unrolled, {setting}",
                result[variant] / result["unrolled"],
                target,
                detail,
            )
        if "cosine" in result:
            yield row(
                f"cosine of the bfloat16 gradient with float32, {setting}", result["cosine"], "≥0.995", f"N = {steps}"
            )


def _iteration(name: str) -> dict[str, float]:
    import torch

    setting = SETTINGS[name]
    variants = {
        "unrolled": _matching("unrolled", setting.steps, setting),
        "exact": _matching("exact", setting.steps, setting),
        "exact, graphs kept": _matching("exact", setting.steps, setting, memory_mb=1e5),
        "compiled": _matching("exact", setting.steps, setting, compile=True),
    }
    if _bfloat16():
        variants["compiled bfloat16"] = _matching("exact", setting.steps, setting, precision="bfloat16", compile=True)
    began = time.perf_counter()
    gradients = {variant: match().d_images_SCHW.flatten() for variant, match in variants.items()}  # warm up and compile
    compiling = time.perf_counter() - began
    result = _medians(variants, ROUNDS) | {"to compile": compiling}
    if "compiled bfloat16" in variants:
        result["cosine"] = float(torch.cosine_similarity(gradients["compiled bfloat16"], gradients["compiled"], dim=0))
    return result


def _matching(engine: Any, steps: int, setting: Setting, **options: Any) -> Callable[[], Any]:
    from workloads import matching

    classes, side, ipc, _ = setting
    return matching(engine, steps, classes=classes, side=side, ipc=ipc, **options)


# ---- training an expert ----


def training() -> Iterator[dict[str, Any]]:
    result = _alone("training")
    for variant, target in (("compiled", "≥1.5"), ("compiled bfloat16", "≥3.5")):
        if variant not in result:
            continue
        name = f"training an expert, {variant} against eager float32, images/s"
        yield row(
            name, result["eager"] / result[variant], target, f"ConvNet-D3-W128, batch 256; {_seconds(result)} a step"
        )


def _training() -> dict[str, float]:
    from workloads import training_step

    from raydistill.learning.options import Training

    recipes = {"eager": Training(batch_size=256), "compiled": Training(batch_size=256, compile=True)}
    if _bfloat16():
        recipes["compiled bfloat16"] = Training(batch_size=256, compile=True, precision="bfloat16")
    variants = {variant: training_step(recipe, classes=CLASSES, side=SIDE) for variant, recipe in recipes.items()}
    for run in variants.values():
        run()
    return _medians(variants, ROUNDS)


# ---- evaluating a small set ----


def evaluation() -> Iterator[dict[str, Any]]:
    result = _alone("evaluation")
    detail = f"ten images, one network of five, 40 of 1000 epochs; {_seconds(result)}"
    yield row("evaluation on ten images, compiled against eager", result["eager"] / result["compiled"], "≥1.4", detail)


def _evaluation() -> dict[str, float]:
    import torch

    from raydistill.learning.architectures import ConvNet
    from raydistill.learning.networks import build_network, initial_parameters
    from raydistill.learning.options import Training
    from raydistill.learning.training import train

    network = build_network(ConvNet(), CLASSES, SIDE)
    images, targets = torch.randn(CLASSES, 3, SIDE, SIDE), torch.eye(CLASSES)
    theta = initial_parameters(network, 0)
    variants: dict[str, Callable[[], Any]] = {}
    for variant in ("eager", "compiled"):
        recipe = Training(epochs=40, batch_size=CLASSES, momentum=0.9, weight_decay=5e-4, compile=variant == "compiled")
        variants[variant] = partial(train, network, theta, images, targets, recipe, 0)
        variants[variant]()
    return _medians(variants, ROUNDS)


# ---- the store ----


def store() -> Iterator[dict[str, Any]]:
    result = _alone("store")
    yield row("memory of reading 100 random snapshots, against their size", result["share"], "≤1.2", result["detail"])
    yield row("a random snapshot against copying as many bytes in memory", result["ratio"], "≤20", result["detail"])


def _store() -> dict[str, Any]:
    """Read 12 experts of 51 snapshots from sparse files, to exclude the disk's speed."""
    import numpy as np
    import torch

    from raydistill.artifacts.manifest import commit, identity_of
    from raydistill.learning.networks import Layout
    from raydistill.stages.experts.artifact import KIND, TrajectoryStore, record, shard, write_layout
    from raydistill.storage import Folder

    experts, epochs = 12, 50
    with tempfile.TemporaryDirectory() as scratch:
        folder = Folder(scratch)
        for expert in range(experts):
            path = Path(scratch) / shard(expert)
            rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(epochs + 1, PARAMETERS))
            rows[:, ::1024] = expert  # touches every page
            del rows
            folder.write(record(expert), b"{}")
        write_layout(folder, Layout(("theta",), ((PARAMETERS,),)), experts, range(epochs + 1))
        commit(folder, kind=KIND, identity=identity_of(KIND, {}, {}, 0), config={}, parents={}, seed=0, uris={})
        opened = TrajectoryStore.open(folder, verify=False)
        opened(0, 0)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        g = torch.Generator().manual_seed(0)
        pairs = torch.stack(
            [torch.randint(experts, (100,), generator=g), torch.randint(epochs, (100,), generator=g)], 1
        ).tolist()
        numbers = iter(pairs * 100)
        memory = torch.zeros(PARAMETERS)
        variants: dict[str, Callable[[], Any]] = {"read": lambda: opened(*next(numbers)), "copy": memory.clone}
        medians = _medians(variants, 100)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    snapshot = PARAMETERS * 4
    detail = f"{experts * (epochs + 1) * snapshot / 1e9:.1f} GB; a snapshot of {snapshot / 1e6:.1f} MB in {medians['read'] * 1e3:.2f} ms"
    return {"share": grown / (len(pairs) * snapshot), "ratio": medians["read"] / medians["copy"], "detail": detail}


# ---- tools ----


def _bfloat16() -> bool:
    """Return whether bfloat16 is faster than float32 on this machine."""
    import torch

    from raydistill.distillation.cost_model import Hardware

    return Hardware.of_workers(gpus=torch.cuda.device_count()).bfloat16


def _medians(variants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each variant; the variants alternate."""
    seconds: dict[str, list[float]] = {variant: [] for variant in variants}
    for _ in range(rounds):
        for variant, run in variants.items():
            began = time.perf_counter()
            run()
            seconds[variant].append(time.perf_counter() - began)
    return {variant: statistics.median(result) for variant, result in seconds.items()}


def _seconds(result: dict[str, float]) -> str:
    return ", ".join(
        f"{variant} {value:.2f} s" for variant, value in result.items() if variant not in ("cosine", "to compile")
    )


CASES: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
    "memory": memory, "iteration": iteration, "training": training, "evaluation": evaluation, "store": store
}  # fmt: skip
MEASURED: dict[str, Callable[[], Any]] = {
    **{f"memory {variant} {steps}": partial(_peak_of, variant, steps) for variant in MEMORY for steps in (10, 50)},
    **{f"iteration {setting}": partial(_iteration, setting) for setting in SETTINGS},
    "training": _training,
    "evaluation": _evaluation,
    "store": _store,
}

if __name__ == "__main__":
    main()
