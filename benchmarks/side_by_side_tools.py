"""Helpers of `side_by_side.py`: processes, data, experts and both option formats.

No large library is imported here: on Linux the peak memory of a child starts at that of its parent.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
IMAGES_PER_CLASS = 1


# ---- processes ----


class Bench:
    """Hold the command's arguments, and run the tasks of `side_by_side_work.py`."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.work = given.work.resolve()
        self.work.mkdir(parents=True, exist_ok=True)
        self.code = {"mtt": given.mtt.resolve(), "stm": given.stm.resolve()}
        self.commits = {method: _commit(folder) for method, folder in self.code.items()}
        self.environment = {
            **os.environ, "OMP_NUM_THREADS": str(given.threads),
            "PYTHONPATH": _python_path(),
        } | ({} if given.gpu else {"CUDA_VISIBLE_DEVICES": ""})  # fmt: skip
        self.machine = self.ask("machine", {})

    def start(self, task: str, spec: dict[str, Any], out: Path) -> Process:
        out.mkdir(parents=True, exist_ok=True)
        spec = spec | {"out": str(out)}
        (out / "spec.json").write_text(json.dumps(spec))
        return Process(task, out, self.environment)

    def ask(self, task: str, spec: dict[str, Any], name: str = "") -> Any:
        """Run a task that takes no turns, and return its answer."""
        process = self.start(task, spec, self.work / "tasks" / (name or task))
        answer = process.answer()
        process.end()
        return answer

    def do(self, task: str, spec: dict[str, Any], name: str) -> Path:
        """Run a task that writes files and return their folder."""
        out = self.work / "tasks" / name
        self.start(task, spec, out).end()
        return out


class Process:
    """A task in its own process. SystemExit with the end of its log if it fails."""

    def __init__(self, task: str, out: Path, environment: dict[str, str]) -> None:
        self._log = out / "log.txt"
        command = [sys.executable, str(HERE / "side_by_side_work.py"), task, str(out / "spec.json")]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log.open("w"), text=True, bufsize=1, env=environment
        )  # fmt: skip
        self._name = f"{task} ({out})"

    def answer(self) -> Any:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            self._process.wait()
            self._fail()
        return json.loads(line)

    def iterate(self) -> Any:
        assert self._process.stdin
        self._process.stdin.write("go\n")
        return self.answer()

    def end(self) -> None:
        """End the input and wait for the process."""
        self._process.communicate()
        if self._process.returncode:
            self._fail()

    def _fail(self) -> None:
        raise SystemExit(f"{self._name} failed; the end of {self._log}:\n{self._log.read_text()[-3000:]}")


@dataclass(frozen=True)
class SideResult:
    """The iterations of one side, and the folder of its images."""

    start_mb: float
    answers: list[dict[str, float]]
    out: Path

    @property
    def seconds(self) -> list[float]:
        return [answer["seconds"] for answer in self.answers]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds[1:] or self.seconds)

    @property
    def peak_mb(self) -> float:
        return self.answers[-1]["peak_mb"]

    def file_within(self, seconds: float) -> Path | None:
        """Return the last images saved within this time, in iterations of median length."""
        files = sorted(self.out.glob("*.pt"))
        in_time = [file for file in files if int(file.stem) * self.median <= seconds * (1 + 1e-9)]
        return in_time[-1] if in_time else None


def run_alternately(processes: dict[str, tuple[Process, Path]], iterations: int) -> dict[str, SideResult]:
    """Run all sides in turn, one iteration at a time, and return their results."""
    start = {side: process.answer()["peak_mb"] for side, (process, _) in processes.items()}
    answers: dict[str, list[dict[str, float]]] = {side: [] for side in processes}
    for _ in range(iterations):
        for side, (process, _) in processes.items():
            answers[side].append(process.iterate())
    for process, _ in processes.values():
        process.end()
    return {side: SideResult(start[side], answers[side], out) for side, (_, out) in processes.items()}


def _python_path() -> str:
    """Return the path of this checkout's packages, before the path that is set."""
    return os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))


def _commit(folder: Path) -> str:
    """Return the commit of a checkout; SystemExit if its Python files were changed."""

    def git(*arguments: str) -> str:
        answer = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
        if answer.returncode:
            raise SystemExit(f"{folder} is not a git checkout with distill.py: {answer.stderr.strip()}")
        return answer.stdout.strip()

    for name in ("distill.py", "networks.py", "reparam_module.py", "utils.py"):
        if git("rev-parse", f"HEAD:{name}") != git("hash-object", name):
            raise SystemExit(f"{folder}/{name} was changed; restore it: git -C {folder} checkout HEAD -- {name}")
    return git("rev-parse", "HEAD")


# ---- data and experts from raydistill's stages ----


def prepare(bench: Bench, data: str) -> dict[str, Any]:
    """Build the curated set, experts and initial images if needed; return their paths."""
    given = bench.given
    training = {"epochs": given.expert_epochs, "lr": 0.01, "lr_decay_at": 1.0}
    common = {"output": str(bench.work), "tracking": {"enabled": False}, "resources": {"worker_threads": 1}}
    if data == "gz2":
        config = {"extends": "gz2_kaggle5", "experts": {"num_experts": given.experts, "training": training}}
    else:
        config = _cifar10(bench, training)
    path = bench.work / f"{data}.yaml"
    path.write_text(yaml.safe_dump(common | config | {"name": data}))
    curated, trajectories = (_stage(stage, path) for stage in ("curate", "experts"))
    spec = {
        "curated": curated,
        "trajectories": trajectories,
        "data": str(bench.work / data / "start"),
        "images_per_class": IMAGES_PER_CLASS,
        "gpus": int(given.gpu),
    }
    return spec | bench.ask("export", spec)


def _cifar10(bench: Bench, training: dict[str, Any]) -> dict[str, Any]:
    """Return a config on CIFAR-10's training images, some held out as a test set."""
    augmentation = {"operations": ["color", "crop", "cutout", "flip", "scale", "rotate"], "mode": "single"}
    training |= {"batch_size": 128, "sampling": "shuffle", "augmentation": augmentation}
    return {
        "survey": {
            "kind": "image-parquet", "root": str(Path(os.environ["RAYDISTILL_DATA"]) / "cifar10_jpeg.parquet"),
            "image_column": "jpeg", "splits": {"test": None},
        },
        "curate": {
            "classes": "all", "image_size": 32, "crop_fraction": 1.0, "per_class": bench.given.per_class,
            "split": [5 / 7, 0.5 / 7, 1.5 / 7],
        },
        "network": {"kind": "convnet", "depth": 3, "width": 128},
        "experts": {"num_experts": bench.given.experts, "training": training},
    }  # fmt: skip


def _stage(name: str, config: Path) -> str:
    """Run a stage and return its artifact's path."""
    command = [sys.executable, str(HERE.parent / "jobs" / f"{name}.py"), str(config)]
    environment = {**os.environ, "PYTHONPATH": _python_path()}
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=environment)
    if answer.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return answer.stdout.splitlines()[-1]


# ---- the recipe in both option formats ----


def recipe(given: argparse.Namespace, method: str) -> dict[str, Any]:
    """Return the method's preset with N, initial images and window of this comparison."""
    preset = yaml.safe_load((HERE.parent / "configs" / "methods" / f"{method}.yaml").read_text())["distill"]
    last = given.expert_epochs - preset["expert_epochs"]
    window = min(1, last) if method == "mtt" else last - 1  # theirs looks one epoch ahead of the window's end
    return preset | {
        "student_steps": given.student_steps, "images_per_class": IMAGES_PER_CLASS, "init": "real", "iterations": 10**9,
        "schedule": preset["schedule"] | {"max_start_epoch": window},
    }  # fmt: skip


def arguments(method: str, ours: dict[str, Any]) -> list[str]:
    """Return the same recipe as options of their code.

    Their `max_start_epoch` counts start epochs: our last one plus 1.

    MTT learns the rate, raydistill its logarithm: to first order a step rate^2 times as large gives
    the same speed.
    """
    rate, schedule = ours["student_lr"], ours["schedule"]
    options = {
        "dataset": "data", "model": "ConvNet", "ipc": ours["images_per_class"], "pix_init": "real", "eval_it": -1,
        "syn_steps": ours["student_steps"], "expert_epochs": ours["expert_epochs"], "lr_img": ours["image_step"]["lr"],
        "lr_teacher": rate, "lr_lr": ours["lr_step"]["lr"], "max_start_epoch": schedule["max_start_epoch"] + 1, "Iteration": 10**6,
    }  # fmt: skip
    if method == "mtt":
        options["lr_lr"] *= rate**2
    else:
        names = {"significance": "sigma", "min_duration": "min_duration", "max_duration": "max_duration"}
        options |= {theirs: schedule[name] for name, theirs in names.items()}
        options |= {"lr_mode": "independent-lr", "sample_method": "cycle"}
    return ["--load_all", *(f"--{name}={value}" for name, value in options.items())]


def start_sides(
    bench: Bench, spec: dict[str, Any], method: str, variants: dict[str, dict[str, Any]], save_every: int
) -> dict[str, tuple[Process, Path]]:
    """Start their process, and one of ours per variant: changes of the recipe by name."""
    base, common = recipe(bench.given, method), spec | {"save_every": save_every, "precision": "float32"}
    folder = Path(spec["data"]).parent / method / f"N{base['student_steps']}"

    def start(task: str, side: str, spec: dict[str, Any]) -> tuple[Process, Path]:
        out = folder / side.replace(" ", "-")
        for old in out.glob("*.pt"):  # from an earlier run
            old.unlink()
        return bench.start(task, common | spec, out), out

    theirs = {"code": str(bench.code[method]), "arguments": arguments(method, base)}
    return {"theirs": start("theirs", "theirs", theirs)} | {
        variant: start("ours", variant, {"recipe": base | change}) for variant, change in variants.items()
    }
