"""What raydistill promises of its speed and memory, as ratios of two ways measured side by side in one run.

    make bench            (or: python benchmarks/bench.py [NAME ...])            under ten minutes on two cores

Each case runs in a process of its own, so that its peak of memory and its caches are its own. The two ways of a ratio of times take turns
in one process, and the ratio is that of the medians: the machine's speed cancels. Writes `benchmarks/results/latest.json`, rows of
{name, value, target, holds, detail}; a ratio is below its target or above it, as `target` says.
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *CASES], help="which ones; all where none is named")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(MEASURED[given.measure]()))
        return
    earlier = json.loads(RESULTS.read_text())["rows"] if given.names and RESULTS.exists() else []
    rows = {row["name"]: row for row in earlier}
    for name in given.names or CASES:
        for found in CASES[name]():
            rows[found["name"]] = found
            show(found)
    here = machine()
    if not here["bfloat16"]:
        print("This machine has no bfloat16 instructions: what needs them was left out.")
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


def show(found: dict[str, Any]) -> None:
    verdict = "holds " if found["holds"] else "MISSED"
    print(f"{verdict}  {found['name']:75s} {found['value']:8.3f}  {found['target']:8s} {found['detail']}", flush=True)


def row(name: str, value: float, target: str, detail: str) -> dict[str, Any]:
    limit = float(target[1:])
    holds = value <= limit if target[0] == "≤" else value >= limit
    return {"name": name, "value": round(value, 4), "target": target, "holds": holds, "detail": detail}


def _alone(name: str) -> Any:
    """What `MEASURED[name]` finds in a process of its own."""
    answer = subprocess.run([sys.executable, __file__, "--measure", name], capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SystemExit(f"{name} failed:\n{answer.stderr}")
    return json.loads(answer.stdout.splitlines()[-1])


# ---- memory of a matching iteration ----


MEMORY = {"exact": ("exact", None), "thrifty": ("exact", 0.0), "unrolled": ("unrolled", None)}


def memory() -> Iterator[dict[str, Any]]:
    wanted = [(way, steps) for way in MEMORY for steps in (10, 50) if (way, steps) != ("unrolled", 10)]
    found = {(way, steps): _alone(f"memory {way} {steps}") for way, steps in wanted}
    detail = "ConvNet-D3-W128, ten images: " + ", ".join(f"{way} N={n} {mb:.0f} MB" for (way, n), mb in found.items())
    for way, name in (("exact", "exact"), ("thrifty", "exact with the least memory")):
        ratio = found[way, 50] / found[way, 10]
        yield row(f"peak memory of {name}, N = 50 against 10", ratio, "≤1.15", detail)
    ratio = found["exact", 50] / found["unrolled", 50]
    yield row("peak memory of exact against unrolled, N = 50", ratio, "≤0.1667", detail)


def _peak_of(way: str, steps: int) -> float:
    """MB beyond what any engine needs (imports, network, one loss)."""
    engine, memory_mb = MEMORY[way]
    match = _matching(engine, steps, SETTINGS["CIFAR-10, 1 a class"], memory_mb=memory_mb)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2):
        match()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


# ---- time of a matching iteration ----


class Setting(NamedTuple):
    """Synthetic images of a step. steps: fewer than in a run, for a step's time does not depend on their number."""

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
        found = _alone(f"iteration {setting}")
        for way, target in (("compiled", "≤0.9"), ("compiled bfloat16", "≤0.6"), ("exact, graphs kept", "≤1.2")):
            if way not in found:
                continue
            detail = f"N = {steps}; {_seconds(found)}; once to compile {found['to compile']:.0f} s"
            if way == "compiled bfloat16":
                detail += f"; cosine with float32 {found['cosine']:.4f}"
            yield row(
                f"an iteration, {way} against unrolled, {setting}", found[way] / found["unrolled"], target, detail
            )
        if "cosine" in found:
            yield row(
                f"cosine of the bfloat16 gradient with float32, {setting}", found["cosine"], "≥0.995", f"N = {steps}"
            )


def _iteration(name: str) -> dict[str, float]:
    import torch

    setting = SETTINGS[name]
    ways = {
        "unrolled": _matching("unrolled", setting.steps, setting),
        "exact": _matching("exact", setting.steps, setting),
        "exact, least memory": _matching("exact", setting.steps, setting, memory_mb=0.0),
        "exact, graphs kept": _matching("exact", setting.steps, setting, memory_mb=1e5),
        "compiled": _matching("exact", setting.steps, setting, compile=True),
    }
    if _bfloat16():
        ways["compiled bfloat16"] = _matching("exact", setting.steps, setting, precision="bfloat16", compile=True)
    began = time.perf_counter()
    gradients = {way: match().d_images_SCHW.flatten() for way, match in ways.items()}  # warm, and compiled
    compiling = time.perf_counter() - began
    found = _medians(ways, 5) | {"to compile": compiling}
    if "compiled bfloat16" in ways:
        found["cosine"] = float(torch.cosine_similarity(gradients["compiled bfloat16"], gradients["compiled"], dim=0))
    return found


def _matching(
    engine: Any,
    steps: int,
    setting: Setting,
    precision: Any = "float32",
    compile: bool = False,
    memory_mb: float | None = None,
) -> Callable[[], Any]:
    import torch

    from raydistill.core.architectures import ConvNet
    from raydistill.core.augment import Augmentation
    from raydistill.core.engines import engine_options
    from raydistill.core.matching import Batch, Matcher, student_loss
    from raydistill.core.networks import build_network, initial_parameters

    classes, side, ipc, _ = setting
    network = build_network(ConvNet(), classes, side)
    start = initial_parameters(network, 0)
    target = start + 0.001 * torch.randn(start.shape, generator=torch.Generator().manual_seed(0))
    images = torch.randn(classes * ipc, 3, side, side, generator=torch.Generator().manual_seed(1))
    targets = torch.eye(classes).repeat_interleave(ipc, dim=0)
    loss = student_loss(network, Augmentation(), precision)
    loss(start, images, targets, {})
    matcher = Matcher(loss, engine_options(engine, compile=compile, memory_mb=memory_mb))
    return partial(matcher.match, start, target, images, targets, torch.tensor(0.01), [Batch(None, {})] * steps)


# ---- training an expert ----


def training() -> Iterator[dict[str, Any]]:
    found = _alone("training")
    for way, target in (("compiled", "≥1.5"), ("compiled bfloat16", "≥3.5")):
        if way not in found:
            continue
        name = f"training an expert, {way} against eager float32, images/s"
        yield row(name, found["eager"] / found[way], target, f"ConvNet-D3-W128, batch 256; {_seconds(found)} a step")


def _training() -> dict[str, float]:
    import torch

    from raydistill.core.architectures import ConvNet
    from raydistill.core.networks import build_network, initial_parameters
    from raydistill.core.training import Training, _gradient

    network = build_network(ConvNet(), CLASSES, SIDE)
    theta = initial_parameters(network, 0)
    images = torch.randn(256, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    targets = torch.eye(CLASSES)[torch.arange(256) % CLASSES]
    recipes = {
        "eager": Training(),
        "compiled": Training(compile=True),
    }
    if _bfloat16():
        recipes["compiled bfloat16"] = Training(compile=True, precision="bfloat16")
    ways = {
        way: partial(_gradient(network, recipe.resolved()), theta, images, targets, {})
        for way, recipe in recipes.items()
    }
    for way in ways.values():
        way()
    return _medians(ways, 5)


# ---- evaluating a small set ----


def evaluation() -> Iterator[dict[str, Any]]:
    found = _alone("evaluation")
    detail = f"ten images, one network of five, 40 of 1000 epochs; {_seconds(found)}"
    yield row("evaluation on ten images, compiled against eager", found["eager"] / found["compiled"], "≥1.4", detail)


def _evaluation() -> dict[str, float]:
    import torch

    from raydistill.core.architectures import ConvNet
    from raydistill.core.networks import build_network, initial_parameters
    from raydistill.core.training import Training, train

    network = build_network(ConvNet(), CLASSES, SIDE)
    images, targets = torch.randn(CLASSES, 3, SIDE, SIDE), torch.eye(CLASSES)
    theta = initial_parameters(network, 0)
    ways: dict[str, Callable[[], Any]] = {}
    for way in ("eager", "compiled"):
        recipe = Training(epochs=40, batch_size=CLASSES, momentum=0.9, weight_decay=5e-4, compile=way == "compiled")
        ways[way] = partial(train, network, theta, images, targets, recipe, 0)
        ways[way]()
    return _medians(ways, 5)


# ---- the store ----


def store() -> Iterator[dict[str, Any]]:
    found = _alone("store")
    yield row("memory of reading 100 random snapshots, against their size", found["share"], "≤1.2", found["detail"])
    yield row("a random snapshot against copying as many bytes in memory", found["ratio"], "≤20", found["detail"])


def _store() -> dict[str, Any]:
    """12 experts of 51 snapshots; the files are sparse, so that the disk's speed is not what is measured."""
    import numpy as np
    import torch

    from raydistill.artifacts.manifest import commit, identity_of
    from raydistill.artifacts.trajectories import KIND, TrajectoryStore, record, shard, write_layout
    from raydistill.core.networks import Layout
    from raydistill.storage import Folder

    experts, epochs, parameters = 12, 50, 320_010
    with tempfile.TemporaryDirectory() as scratch:
        folder = Folder(scratch)
        for expert in range(experts):
            path = Path(scratch) / shard(expert)
            rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(epochs + 1, parameters))
            rows[:, ::1024] = expert  # touches every page
            del rows
            folder.write(record(expert), b"{}")
        write_layout(folder, Layout(("theta",), ((parameters,),)), experts, epochs)
        commit(folder, kind=KIND, identity=identity_of(KIND, {}, {}, 0), config={}, parents={}, seed=0, uris={})
        opened = TrajectoryStore.open(folder, verify=False)
        opened(0, 0)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        g = torch.Generator().manual_seed(0)
        pairs = torch.stack(
            [torch.randint(experts, (100,), generator=g), torch.randint(epochs, (100,), generator=g)], 1
        ).tolist()
        numbers = iter(pairs * 100)
        memory = torch.zeros(parameters)
        ways: dict[str, Callable[[], Any]] = {"read": lambda: opened(*next(numbers)), "copy": memory.clone}
        medians = _medians(ways, 100)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    snapshot = parameters * 4
    detail = f"{experts * (epochs + 1) * snapshot / 1e9:.1f} GB; a snapshot of {snapshot / 1e6:.1f} MB in {medians['read'] * 1e3:.2f} ms"
    return {"share": grown / (len(pairs) * snapshot), "ratio": medians["read"] / medians["copy"], "detail": detail}


# ---- tools ----


def _bfloat16() -> bool:
    """Whether this machine has instructions for it. Without them it is emulated, many times slower, and nobody would choose it."""
    import torch

    from raydistill.core.cost_model import Hardware

    return Hardware.of_workers(gpus=torch.cuda.device_count()).bfloat16


def _medians(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each way; the ways take turns."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in ways.items():
            began = time.perf_counter()
            run()
            seconds[way].append(time.perf_counter() - began)
    return {way: statistics.median(found) for way, found in seconds.items()}


def _seconds(found: dict[str, float]) -> str:
    return ", ".join(f"{way} {value:.2f} s" for way, value in found.items() if way not in ("cosine", "to compile"))


CASES: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
    "memory": memory, "iteration": iteration, "training": training, "evaluation": evaluation, "store": store
}  # fmt: skip
MEASURED: dict[str, Callable[[], Any]] = {
    **{f"memory {way} {steps}": partial(_peak_of, way, steps) for way in MEMORY for steps in (10, 50)},
    **{f"iteration {setting}": partial(_iteration, setting) for setting in SETTINGS},
    "training": _training,
    "evaluation": _evaluation,
    "store": _store,
}

if __name__ == "__main__":
    main()
