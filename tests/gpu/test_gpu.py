"""Compare the GPU with the CPU, and let the workers of the commands share a GPU.

The tests print the differences that they measure; `make gpu` shows them.
"""

from __future__ import annotations

import math
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from raydistill.api import load_config
from raydistill.diffusion.conditions import ConditionGroup, ConditionLayout, Conditions
from raydistill.diffusion.model import build_generator
from raydistill.diffusion.network_options import UNet
from raydistill.diffusion.options import GeneratorTraining, Model, Sampling
from raydistill.diffusion.sampling import sample
from raydistill.diffusion.training import TrainingImages, init_training
from raydistill.diffusion.training import train as train_generator
from raydistill.distillation.matching import Batch, Matcher
from raydistill.learning.architectures import ConvNet
from raydistill.learning.augment import DSA, Augmentation
from raydistill.learning.losses import student_loss
from raydistill.learning.networks import build_network, initial_parameters
from raydistill.learning.normalise import one_hot
from raydistill.learning.options import Training
from raydistill.learning.training import train
from raydistill.runtime.resources import device_of
from raydistill.seeding import generator as seeded
from tests import zoo

LAYOUT = ConditionLayout((ConditionGroup("class", 2, ("round", "spiral")),))

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


def test_generator_on_the_gpu_trains_and_samples_as_on_the_cpu() -> None:
    network = UNet(channels=(16, 32), layers=1)
    training = GeneratorTraining(steps=4, batch_size=8, shards=2, warmup=2, symmetries="mirror")
    pixels_NHWC = torch.randint(256, (32, 16, 16, 3), generator=seeded(0, "pixels"), dtype=torch.uint8)
    classes = Conditions.of(LAYOUT, 32, **{"class": torch.eye(2)[torch.arange(32) % 2]})
    noise = torch.randn(8, 3, 16, 16, generator=seeded(1, "noise"))
    samples = {}
    for device in ("cpu", "cuda"):
        generator = build_generator(Model(network), LAYOUT, 16, 0, pixels_NHWC).to(device)
        state = init_training(generator, training)
        *_, (state, _) = train_generator(state, TrainingImages(pixels_NHWC, classes).to(device), training, seed=0)
        samples[device] = sample(state.averaged(), classes[:8], noise, Sampling(steps=5))
    assert samples["cuda"].is_cuda
    difference = zoo.relative(samples["cuda"].cpu(), samples["cpu"])
    report(f"samples after 4 steps: relative difference from the CPU {difference:.1e}")
    assert difference < 1e-3


@pytest.mark.parametrize("name", ["gz2_generator_64px", "gz2_generator_128px"])
def test_speed_of_the_generators_for_one_gpu(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("RAYDISTILL_DATA", "data")
    config = load_config(name)
    side, training = config.curate.image_size, replace(config.generate.training, steps=20)
    count = training.batch_size
    pixels_NHWC = torch.randint(256, (count, side, side, 3), generator=seeded(0, "pixels"), dtype=torch.uint8)
    images = TrainingImages(pixels_NHWC, Conditions.of(LAYOUT, count)).to("cuda")
    state = init_training(build_generator(config.generate.model, LAYOUT, side, 0, pixels_NHWC).to("cuda"), training)
    for after, loss in train_generator(state, images, training, seed=0):
        assert math.isfinite(loss.mean)
        if after.step == 10:
            torch.cuda.synchronize()
            start = time.monotonic()
    torch.cuda.synchronize()
    rate = 10 * count / (time.monotonic() - start)
    memory = torch.cuda.max_memory_allocated() / 2**30
    report(f"{name}: {rate:.0f} training images/s, peak memory {memory:.1f} GiB")


def test_commands_on_a_gpu(tmp_path: Path) -> None:
    """Run all stages on a GPU, then those that work block by block.

    An expert or a fit takes half a GPU, distilling takes one.
    """
    config = Path(__file__).parents[1] / "configs" / "tiny.yaml"
    network = "generate.model.network={kind: unet, channels: [16, 32], layers: 1}"
    options = [f"output={tmp_path}", "resources.gpus=0.5", "resources.distill_gpus=1", "resources.workers=2"]
    options += ["tracking.enabled=false", network, "generate.training.steps=4", "sample.per_class=3"]
    for name in ("run", "predict", "generate", "sample"):
        inputs = [str(config)] * (2 if name == "predict" else 1)  # experts of a config, pictures of a survey
        command = [sys.executable, "-m", "raydistill.cli", name, *inputs, *options]
        start = time.monotonic()
        result = subprocess.run(command, capture_output=True, text=True, timeout=540, check=False)
        assert result.returncode == 0, result.stderr[-4000:]
        report(f"{name} of the tiny config, two workers on one GPU: {time.monotonic() - start:.0f} s")
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
