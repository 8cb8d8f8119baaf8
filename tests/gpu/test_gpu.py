"""Compare the GPU with the CPU, and let two experts share a GPU.

The tests print the differences that they measure; `make gpu` shows them.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from raydistill.core.architectures import ConvNet
from raydistill.core.augment import DSA, Augmentation
from raydistill.core.matching import Batch, Matcher, student_loss
from raydistill.core.networks import build_network, initial_parameters
from raydistill.core.normalise import one_hot
from raydistill.core.training import Training, train
from raydistill.pipeline.runtime.resources import device_of
from tests import zoo

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def report(line: str) -> None:
    print(f"\n  {torch.cuda.get_device_name()}: {line}", end="")


@pytest.fixture(autouse=True)
def torch_settings_of_a_worker() -> None:
    assert device_of(1) == "cuda"


@pytest.mark.parametrize("width", [8, 128])
def test_exact_engine_gives_the_gradients_of_the_cpu(width: int) -> None:
    # A wide network would show TF32, which rounds to ten bits.
    architecture = ConvNet(depth=2, width=width)
    problem = zoo.problem(architecture, torch.float32)
    augmentation = Augmentation(DSA)
    loss = student_loss(problem.network, augmentation, "float32")
    batches: list[Batch] = zoo.batches(augmentation, steps=3)
    on_cpu = Matcher(loss).match(*problem.arguments, batches)
    on_gpu = Matcher(loss).match(*(tensor.cuda() for tensor in problem.arguments), batches)
    assert float(on_gpu.loss) == pytest.approx(float(on_cpu.loss), rel=1e-4)
    assert on_gpu.steps == on_cpu.steps == 3
    for name, gpu, cpu in zip(("images", "targets", "rate"), on_gpu.gradients, on_cpu.gradients, strict=True):
        assert gpu.is_cuda
        difference = zoo.relative(gpu.cpu(), cpu)
        report(f"gradient of the {name}, width {width}: relative difference from the CPU {difference:.1e}")
        assert difference < 1e-4


def test_training_on_the_gpu_ends_at_the_weights_of_the_cpu() -> None:
    network = build_network(ConvNet(depth=1, width=8), zoo.CLASSES, zoo.SIZE)
    images, labels = zoo.stripes(60)
    training = Training(epochs=2, batch_size=15, lr=0.05, augmentation=Augmentation(("dihedral",)))
    ends = {}
    for device in ("cpu", "cuda"):
        theta = initial_parameters(network, 1).to(device)
        ends[device] = train(
            network, theta, images.to(device), one_hot(labels, zoo.CLASSES).to(device), training, seed=2
        )
    assert ends["cuda"].is_cuda
    difference = zoo.relative(ends["cuda"].cpu(), ends["cpu"])
    report(f"weights after 8 steps: relative difference from the CPU {difference:.1e}")
    assert difference < 1e-3


def test_two_experts_share_a_gpu(tmp_path: Path) -> None:
    """Run all stages with half a GPU per expert and per fit, and one for distilling."""
    config = Path(__file__).parents[1] / "configs" / "tiny.yaml"
    resources = ["resources.gpus=0.5", "resources.distill_gpus=1", "resources.workers=2", "tracking.enabled=false"]
    command = [sys.executable, "-m", "raydistill.cli", "run", str(config), f"output={tmp_path}", *resources]
    start = time.monotonic()
    result = subprocess.run(command, capture_output=True, text=True, timeout=540, check=False)
    assert result.returncode == 0, result.stderr[-4000:]
    report(f"tiny run with two experts on one GPU: {time.monotonic() - start:.0f} s")
    store = next((tmp_path / "tiny").glob("trajectories-*"))
    assert len(list(store.glob("expert-*.npy"))) == 3


def test_compiled_training_ends_at_the_weights_of_eager_training() -> None:
    network = build_network(ConvNet(depth=1, width=8), zoo.CLASSES, zoo.SIZE)
    images, labels = (tensor.cuda() for tensor in zoo.stripes(30))
    theta, targets = initial_parameters(network, 1).cuda(), one_hot(labels, zoo.CLASSES)
    eager = Training(epochs=1, batch_size=15, lr=0.05)
    plain = train(network, theta, images, targets, eager, seed=2)
    compiled = train(network, theta, images, targets, replace(eager, compile=True), seed=2)
    difference = zoo.relative(compiled, plain)
    report(f"compiled against eager weights: relative difference {difference:.1e}")
    assert difference < 1e-4
