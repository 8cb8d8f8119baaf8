"""Estimate work, to decide what "auto" means for `compile` and `precision`.

Compiling costs about a minute per process and then saves about a third of the time. bfloat16 saves
another half on hardware that multiplies matrices in it, and it rounds. It saves nothing where steps
are so small that a GPU waits for their calls. The driver decides before the work begins. The
decision depends on the work and the hardware, never on the number of workers.
"""

from __future__ import annotations

import math
import os
import shutil
import sysconfig
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from raydistill.distillation.recipe import Recipe, ResolvedRecipe
from raydistill.learning.arithmetic import Arithmetic, RequestsArithmetic, fill_auto
from raydistill.learning.options import Training

if TYPE_CHECKING:
    import torch

    from raydistill.learning.networks import Network

# benchmarks/bench.py: two cores reach 4e10 (an expert's step) to 1.6e11 (a student's).
# benchmarks/gpu.py: a data-centre GPU reaches about 1e13, eager; small steps take 8 ms.
EAGER_FLOPS = {"cpu": 5e10, "gpu": 1e13}
EAGER_STEP_SECONDS = {"cpu": 1e-3, "gpu": 8e-3}  # overhead of the calls in a step
# x86's AMX and ARM's instructions. AVX-512's alone are not faster: a distillation compiled in
# bfloat16 took 1.33 times as long as in float32, an expert's step 1.05 times (docs/benchmarks.md).
FAST_BFLOAT16 = ("amx_bf16", "bf16")
# Below this a second thread waits. The demo's W32 (4e8 per step) is 1.7 times slower with two; W128
# (3e9) is faster (dev/log.md).
STEP_FLOPS_OF_A_THREAD = 1e9
LONG_SECONDS = 200.0  # of eager work: above this, compiling pays for itself


@dataclass(frozen=True)
class Hardware:
    """The hardware of a worker. bfloat16: it is faster than float32."""

    kind: Literal["cpu", "gpu"]
    compiler: bool
    bfloat16: bool

    @staticmethod
    def of_workers(gpus: float) -> Hardware:
        """Return the workers' hardware; GPUs are assumed to be Ampere or later.

        CPU and compiler are the driver's.
        """
        header = Path(sysconfig.get_path("include"), "Python.h").exists()  # compiled code includes it
        if gpus:
            return Hardware("gpu", header and bool(find_spec("triton") and shutil.which("cc")), True)
        import torch

        has = torch.cpu.get_capabilities()
        compiler = header and shutil.which(os.environ.get("CXX", "g++")) is not None
        return Hardware("cpu", compiler, any(has.get(name, False) for name in FAST_BFLOAT16))


@dataclass(frozen=True)
class WorkEstimate:
    """Floating-point operations, and the number of steps that they are divided into."""

    flops: float = 0.0
    steps: int = 0

    def __add__(self, other: WorkEstimate) -> WorkEstimate:
        return WorkEstimate(self.flops + other.flops, self.steps + other.steps)

    def seconds(self, hardware: Hardware) -> float:
        """Return the approximate time of eager float32."""
        return max(self.arithmetic_seconds(hardware), self.steps * EAGER_STEP_SECONDS[hardware.kind])

    def arithmetic_seconds(self, hardware: Hardware) -> float:
        """Return the approximate time of the operations, without overhead of calls."""
        return self.flops / EAGER_FLOPS[hardware.kind]


def forward_flops(network: Network, num_channels: int, image_size: int) -> int:
    """Return F, the FLOPs of an image's forward pass; multiply and add are two."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    images = torch.zeros(1, num_channels, image_size, image_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(network.layout.num_parameters), images)
    return int(counter.get_total_flops())


def estimate_steps(network: Network, image_size: int, batch_size: int, steps: int) -> WorkEstimate:
    """Return the work of classifier steps: 3 F per image of three channels.

    The forward pass takes F, and the backward pass 2 F.
    """
    return WorkEstimate(3.0 * forward_flops(network, 3, image_size) * batch_size * steps, steps)


def estimate_training(training: Training, network: Network, images_NCHW: torch.Size, networks: int = 1) -> WorkEstimate:
    """Return the work of training: 3 F per image, twice that with flat minima.

    The forward pass takes F, and the backward pass 2 F.
    """
    num_images, channels, side, _ = images_NCHW
    size = min(training.batch_size, num_images)
    steps = networks * training.epochs * training.steps_per_epoch(num_images) * (2 if training.flat else 1)
    return WorkEstimate(3.0 * forward_flops(network, channels, side) * size * steps, steps)


def estimate_distillation(recipe: ResolvedRecipe, network: Network, images_SCHW: torch.Size) -> WorkEstimate:
    """Return the work of distilling: 12 F per image, symmetric version and step.

    Steps are the student's, see `distillation.engines.adjoint`.
    """
    num_images, channels, side, _ = images_SCHW
    size = recipe.options.batch_of(num_images) * recipe.options.versions
    steps = recipe.options.iterations * recipe.options.trajectories_per_step * recipe.student_steps
    return WorkEstimate(12.0 * forward_flops(network, channels, side) * size * steps, 2 * steps)


def useful_threads(work: WorkEstimate) -> int:
    """Return the number of threads that a step keeps busy."""
    return max(1, math.ceil(work.flops / work.steps / STEP_FLOPS_OF_A_THREAD))


def resolve_auto(requested: RequestsArithmetic, work: WorkEstimate, hardware: Hardware) -> Arithmetic:
    """Return the requested arithmetic; work and hardware decide each "auto"."""
    compilable = hardware.compiler and not (isinstance(requested, Recipe) and requested.engine == "unrolled")
    compiled = compilable and work.seconds(hardware) > LONG_SECONDS
    rounded = hardware.bfloat16 and work.arithmetic_seconds(hardware) > LONG_SECONDS
    return fill_auto(requested, Arithmetic(compiled, "bfloat16" if rounded else "float32"))
