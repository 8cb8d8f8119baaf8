"""Test the generate stage: equal bits on any number of workers and after a kill.

Also test divergence and previews.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from ray_tools import SILENT, below, content, copy_of, killing, tiny

from raydistill.artifacts.display import open_artifact
from raydistill.config import Config
from raydistill.diffusion.options import Sampling
from raydistill.diffusion.sampling import sample
from raydistill.errors import ClusterError, DivergenceError
from raydistill.pipeline.plan import Plan
from raydistill.runtime.group_training import equal_workers
from raydistill.stages.curate.feeding.worker import STATE
from raydistill.stages.generate.artifact import GeneratorArtifact
from raydistill.stages.generate.stage import generate
from tests.private_ray import training_here

SMALL = (
    "generate.model.network={channels: [8, 16], layers: 1, patch: 2, attention: 1}",
    "generate.training={steps: 60, batch_size: 8, shards: 2, warmup: 5, ema_decay: 0.9}",
    "generate.sampling={steps: 4, guidance: 2.0}",
    "generate.preview_every=30",
    "generate.preview_images=4",
    "generate.record_every=5",
)
MADE_FROM = ("survey", "curated")


@pytest.fixture(scope="module")
def trained(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Return the config of a generator that one worker trained without disturbance."""
    root = copy_of(tiny_root, tmp_path_factory.mktemp("generator"), *MADE_FROM)
    config = tiny(root, *SMALL, "resources.workers=1")
    with training_here():
        generate(Plan(config), SILENT)
    return config


def test_generator_opens_and_samples_with_its_conditions(trained: Config) -> None:
    artifact = open_artifact(Plan(trained).generator.folder)
    assert isinstance(artifact, GeneratorArtifact)
    assert artifact.encoding.groups == ("votes", "class", "size")
    conditions = artifact.encoding.encode(3, labels_N=np.array([0, 1, 2]))
    noise = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    images = sample(artifact.load(), conditions, noise, Sampling(steps=3))
    assert images.shape == (3, 3, 16, 16)
    assert torch.isfinite(images).all()


def test_history_has_every_record_and_preview_once(trained: Config) -> None:
    artifact = GeneratorArtifact.open(Plan(trained).generator.folder)
    history, validation = artifact.history().to_pydict(), artifact.validation().to_pydict()
    assert history["step"] == list(range(5, 61, 5))
    assert history["images"] == [8 * step for step in history["step"]]
    assert history["loss"][-1] < history["loss"][0]
    assert validation["step"] == [30, 60]
    assert np.isfinite([validation[name] for name in ("loss", "loss_raw", "bias_flux", "bias_red", "bias_blue")]).all()
    for step in (30, 60):
        with Image.open(below(trained, "generator") / "previews" / f"step-{step:06d}.png") as picture:
            assert picture.width > 100


@pytest.mark.long
def test_two_workers_of_which_one_is_killed_give_the_bits_of_one(
    tiny_root: Path, trained: Config, tmp_path: Path
) -> None:
    config = tiny(copy_of(tiny_root, tmp_path, *MADE_FROM), *SMALL, "resources.workers=2")
    folder = below(config, "generator")
    with killing("RayTrainWorker", (folder / STATE).exists):
        generate(Plan(config), SILENT)
    assert content(Plan(config).generator) == content(Plan(trained).generator)


@pytest.mark.long
def test_worker_that_dies_too_often_ends_the_training(tiny_root: Path, tmp_path: Path) -> None:
    root = copy_of(tiny_root, tmp_path, *MADE_FROM)
    config = tiny(root, *SMALL, "resources.workers=1", "resources.max_restarts=0")
    with (
        killing("RayTrainWorker", (below(config, "generator") / STATE).exists),
        pytest.raises(ClusterError, match=r"more than .*max_restarts=0 times in a row.*run the same command"),
    ):
        generate(Plan(config), SILENT)


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_divergence_ends_the_training_with_one_sentence(tiny_root: Path, tmp_path: Path, workers: int) -> None:
    config = tiny(
        copy_of(tiny_root, tmp_path, *MADE_FROM), *SMALL, "generate.training.lr=1e30",
        "generate.training.warmup=0", f"resources.workers={workers}",
    )  # fmt: skip
    with pytest.raises(
        DivergenceError, match=r"generate: the .* not finite (at|after) step \d+; lower generate.training.lr"
    ):
        generate(Plan(config), SILENT)
    assert not Plan(config).generator.exists


@pytest.mark.parametrize(("shards", "available", "expected"), [(4, 1, 1), (4, 3, 2), (4, 9, 4), (6, 4, 3), (1, 0, 1)])
def test_workers_compute_equally_many_shards(shards: int, available: int, expected: int) -> None:
    assert equal_workers(shards, available) == expected
