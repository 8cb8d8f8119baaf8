"""On a machine with a GPU: it computes what the CPU computes, and experts can share one."""

from __future__ import annotations

import sys
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


@pytest.fixture(autouse=True)
def as_in_a_worker() -> None:
    assert device_of(1) == "cuda"


@pytest.mark.parametrize("width", [8, 128])
def test_the_exact_engine_gives_the_gradients_of_the_cpu(width: int) -> None:
    """Wide networks would show TF32, which rounds to ten bits."""
    architecture = ConvNet(depth=2, width=width)
    problem = zoo.problem(architecture, torch.float32)
    augmentation = Augmentation(DSA)
    loss = student_loss(problem.network, augmentation, "float32")
    batches: list[Batch] = zoo.batches(augmentation, steps=3)
    on_cpu = Matcher(loss).match(*problem.arguments, batches)
    on_gpu = Matcher(loss).match(*(tensor.cuda() for tensor in problem.arguments), batches)
    assert float(on_gpu.loss) == pytest.approx(float(on_cpu.loss), rel=1e-4)
    for ours, theirs in zip(on_gpu[1:], on_cpu[1:], strict=True):
        assert ours.is_cuda
        assert zoo.relative(ours.cpu(), theirs) < 1e-4


def test_training_on_the_gpu_learns_what_it_learns_on_the_cpu() -> None:
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
    assert zoo.relative(ends["cuda"].cpu(), ends["cpu"]) < 1e-3


def test_two_experts_share_a_gpu(tmp_path: Path) -> None:
    """The whole tiny run with half a GPU for each expert and fit, and one for distilling; a process of its own starts Ray."""
    import subprocess

    config = Path(__file__).parents[1] / "configs" / "tiny.yaml"
    wanted = ["resources.gpus=0.5", "resources.distill_gpus=1", "resources.workers=2", "tracking.enabled=false"]
    words = [sys.executable, "-m", "raydistill.cli", "run", str(config), f"output={tmp_path}", *wanted]
    done = subprocess.run(words, capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    store = next((tmp_path / "tiny").glob("trajectories-*"))
    assert len(list(store.glob("expert-*.npy"))) == 3


def test_a_compiled_step_on_the_gpu() -> None:
    network = build_network(ConvNet(depth=1, width=8), zoo.CLASSES, zoo.SIZE)
    images, labels = (tensor.cuda() for tensor in zoo.stripes(30))
    theta, targets = initial_parameters(network, 1).cuda(), one_hot(labels, zoo.CLASSES)
    eager = Training(epochs=1, batch_size=15, lr=0.05)
    plain = train(network, theta, images, targets, eager, seed=2)
    compiled = train(network, theta, images, targets, replace(eager, compile=True), seed=2)
    assert zoo.relative(compiled, plain) < 1e-4
