"""Fine-tune a tiny random Stable Diffusion by `generate`.

Test the weights in the identity, resuming, and sampling.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from ray_tools import SILENT, below, content, copy_of, killing, tiny

from raydistill.config import Config
from raydistill.diffusion.network_options import StableDiffusion
from raydistill.diffusion.options import Sampling
from raydistill.diffusion.sampling import sample
from raydistill.pipeline.plan import Plan
from raydistill.stages.curate.feeding.worker import STATE
from raydistill.stages.generate.artifact import GeneratorArtifact
from raydistill.stages.generate.stage import generate
from tests.private_ray import training_here
from tests.unit.diffusion.tiny_stable_diffusion import write_checkpoint

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("weights")
    write_checkpoint(root)
    return root


def configured(tiny_root: Path, output: Path, weights: Path) -> Config:
    """Return the config of a run that has a curated set."""
    network = f"network: {{kind: stable-diffusion, path: {weights}, lora_rank: 2}}"
    return tiny(
        copy_of(tiny_root, output, "survey", "curated"),
        f"generate.model={{{network}, process: {{kind: stable-diffusion}}, space: {{kind: latents}}}}",
        "generate.conditions=[votes]",
        "generate.training={steps: 3, batch_size: 4, shards: 1, symmetries: none}",
        "generate.preview_images=2",
        "generate.sampling={steps: 2}",
        "resources.workers=1",
    )


@pytest.fixture(scope="module")
def tuned(tiny_root: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Return the config of a finished generator."""
    config = configured(tiny_root, tmp_path_factory.mktemp("tuned"), weights)
    with training_here():
        generate(Plan(config), SILENT)
    return config


def test_fine_tuning_records_the_weights(tuned: Config) -> None:
    artifact = GeneratorArtifact.open(Plan(tuned).generator.folder)
    network = artifact.summary.model.network
    assert isinstance(network, StableDiffusion)
    assert network.weights_sha256 == network.pretrained.digest()
    adapters = {name for name, _ in artifact.load().named_parameters() if "lora" in name}
    assert artifact.summary.num_parameters == sum(
        parameter.numel() for name, parameter in artifact.load().named_parameters() if name in adapters
    )
    conditions = artifact.encoding.encode(2)  # nothing is known: the empty caption
    noise = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(sample(artifact.load(), conditions, noise, Sampling(steps=2))).all()


def test_killed_worker_gives_the_same_bits_with_moved_weights(
    tiny_root: Path, weights: Path, tuned: Config, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(weights, moved)
    other = configured(tiny_root, tmp_path / "killed", moved)
    assert Plan(other).generator.identity == Plan(tuned).generator.identity
    with killing("RayTrainWorker", (below(other, "generator") / STATE).exists):
        generate(Plan(other), SILENT)
    first, second = (GeneratorArtifact.open(Plan(config).generator.folder) for config in (tuned, other))
    assert torch.equal(
        torch.cat([parameter.flatten() for parameter in first.load().parameters()]),
        torch.cat([parameter.flatten() for parameter in second.load().parameters()]),
    )
    assert content(Plan(tuned).generator) != content(Plan(other).generator)  # generator.json has the path


def test_other_weights_are_another_generator(tiny_root: Path, weights: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(weights, other)
    config = other / "unet" / "config.json"
    config.write_text(config.read_text() + "\n")
    moved = tmp_path / "moved"
    shutil.copytree(weights, moved)
    plans = [Plan(configured(tiny_root, tmp_path / f"run-{w.name}", w)) for w in (weights, moved, other)]
    same, copied, changed = (plan.generator.identity for plan in plans)
    assert same == copied != changed
