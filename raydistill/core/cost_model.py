"""Whether compiling and bfloat16 pay, decided from the work ahead.

Compiling costs about a minute, once in a process, and then saves about a third of the time; bfloat16 saves another half where the
machine has instructions for it, and rounds. `auto` in a recipe or a training is settled here, on the driver and before the
work begins; what is settled depends on the work and the machine, never on the number of workers.
"""

from __future__ import annotations

import math
import os
import shutil
import sysconfig
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode

from raydistill.core.networks import Network
from raydistill.core.recipe import Recipe
from raydistill.core.training import Training

Wanted = TypeVar("Wanted", bound=Training | Recipe)

# From benchmarks/bench.py: two cores reach 4e10 (an expert's step) to 1.6e11 (a student's), a data-centre GPU some 1e13 not compiled.
EAGER_FLOPS = {"cpu": 5e10, "gpu": 1e13}
EAGER_STEP_SECONDS = {"cpu": 1e-3, "gpu": 5e-3}  # of a small batch: the calls, not the arithmetic
# Of two threads one waits below it: the demo's W32, 4e8 a step, is 1.7 times slower with two, W128 with 3e9 faster (docs/log.md).
STEP_FLOPS_OF_A_THREAD = 1e9
LONG_SECONDS = 200.0  # of work not compiled: from here on a minute of compiling is won back


@dataclass(frozen=True)
class Hardware:
    """What a worker's machine offers. bfloat16: in hardware, not emulated."""

    kind: Literal["cpu", "gpu"]
    compiler: bool
    bfloat16: bool

    @staticmethod
    def of_workers(gpus: float) -> Hardware:
        """With GPUs: of Ampere or later. Compilers, and without GPUs all of it, as on this machine, the driver's."""
        header = Path(sysconfig.get_path("include"), "Python.h").exists()  # what is compiled includes it
        if gpus:
            return Hardware("gpu", header and bool(find_spec("triton") and shutil.which("cc")), True)
        has = torch.cpu.get_capabilities()
        compiler = header and shutil.which(os.environ.get("CXX", "g++")) is not None
        return Hardware("cpu", compiler, any(has.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16")))


@dataclass(frozen=True)
class WorkEstimate:
    """Floating-point operations, and steps that spend them."""

    flops: float = 0.0
    steps: int = 0

    def __add__(self, other: WorkEstimate) -> WorkEstimate:
        return WorkEstimate(self.flops + other.flops, self.steps + other.steps)

    def seconds(self, machine: Hardware) -> float:
        """About how long it takes not compiled, in float32."""
        return max(self.flops / EAGER_FLOPS[machine.kind], self.steps * EAGER_STEP_SECONDS[machine.kind])


def forward_flops(network: Network, num_channels: int, image_size: int) -> int:
    """F: floating-point operations of one image's forward pass (a multiplication and an addition are two)."""
    images = torch.zeros(1, num_channels, image_size, image_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(network.layout.num_parameters), images)
    return int(counter.get_total_flops())


def estimate_training(training: Training, network: Network, images_NCHW: torch.Size, networks: int = 1) -> WorkEstimate:
    """3 F an image (forward, and twice that backward); flat minima look twice."""
    num_images, channels, side, _ = images_NCHW
    size = min(training.batch_size, num_images)
    steps = networks * training.epochs * training.steps_per_epoch(num_images) * (2 if training.flat else 1)
    return WorkEstimate(3.0 * forward_flops(network, channels, side) * size * steps, steps)


def estimate_distillation(recipe: Recipe, network: Network, images_SCHW: torch.Size) -> WorkEstimate:
    """12 F an image and student step: see `core.matching`."""
    num_images, channels, side, _ = images_SCHW
    size = recipe.batch_of(num_images)
    steps = recipe.iterations * recipe.trajectories_per_step * recipe.num_steps
    return WorkEstimate(12.0 * forward_flops(network, channels, side) * size * steps, 2 * steps)


def useful_threads(work: WorkEstimate) -> int:
    """Threads that the arithmetic of a step keeps busy; more of them only wait for one another."""
    return max(1, math.ceil(work.flops / work.steps / STEP_FLOPS_OF_A_THREAD))


def resolve_auto(wanted: Wanted, work: WorkEstimate, machine: Hardware) -> Wanted:
    """The training or recipe without `auto`."""
    long = work.seconds(machine) > LONG_SECONDS
    compilable = machine.compiler and not (isinstance(wanted, Recipe) and wanted.engine == "unrolled")
    settled: dict[str, Any] = {}
    if wanted.compile == "auto":
        settled["compile"] = long and compilable
    if wanted.precision == "auto":
        settled["precision"] = "bfloat16" if long and machine.bfloat16 else "float32"
    return replace(wanted, **settled)


def describe(settled: Training | Recipe) -> str:
    """What was settled, for the log."""
    return f"{settled.precision}, {'compiled' if settled.compile is True else 'not compiled'}"
