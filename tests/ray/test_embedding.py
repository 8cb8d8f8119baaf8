"""Condition a generator on an expert's features: the map, its file, and training.

Also test variations of a galaxy.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from ray_tools import SILENT, copy_of, tiny

from raydistill.config import Config
from raydistill.errors import ArtifactMissing
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.run import lineage
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.experts.classify.embedding import open_expert
from raydistill.stages.generate.artifact import GeneratorArtifact
from raydistill.stages.generate.stage import generate
from raydistill.stages.pretrain.describers import Embedder
from raydistill.stages.sample.stage import sample
from tests.private_ray import training_here

SIZE = 5
WORDS = (
    "generate.conditions=[embedding]",
    f"generate.embedding_size={SIZE}",
    "generate.model={network: {kind: mlp, width: 16, blocks: 1}, space: {kind: components, components: 8}}",
    "generate.training={steps: 6, batch_size: 8, shards: 1}",
    "generate.preview_images=2",
    "sample.sampling={steps: 2}",
    "sample.num_images=4",
    "resources.workers=1",
)


@pytest.fixture(scope="module")
def config(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    root = copy_of(tiny_root, tmp_path_factory.mktemp("embedding"), "survey", "curated", "trajectories")
    return tiny(root, *WORDS)


@pytest.fixture(scope="module")
def galaxies(config: Config) -> CuratedSet:
    return CuratedSet.open(Plan(config).curated.folder)


def test_embeddings_of_training_pictures_are_white(config: Config, galaxies: CuratedSet) -> None:
    images = galaxies.load("train").images_NHWC
    embedder = Embedder.fit(open_expert(Plan(config), galaxies), images, SIZE)
    embeddings = embedder.apply(images).astype(np.float64)
    np.testing.assert_allclose(embeddings.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(np.cov(embeddings.T, ddof=0), np.eye(SIZE), atol=1e-3)
    copy = pickle.loads(pickle.dumps(embedder))
    np.testing.assert_array_equal(copy.apply(images[5:8]), embedder.apply(images)[5:8])


def test_components_beyond_the_rank_are_zero(config: Config, galaxies: CuratedSet) -> None:
    images = galaxies.load("train").images_NHWC[:3]
    embeddings = Embedder.fit(open_expert(Plan(config), galaxies), images, SIZE).apply(images)
    np.testing.assert_allclose(embeddings[:, :2].std(axis=0), 1, rtol=1e-3)
    assert (embeddings[:, 2:] == 0).all()


def test_generator_learns_embeddings_and_samples_variations_of_galaxies(config: Config, galaxies: CuratedSet) -> None:
    with training_here():
        generate(Plan(config), SILENT)
    plan = Plan(config)
    artifact = GeneratorArtifact.open(plan.generator.folder)
    assert artifact.encoding.groups == ("embedding",)
    assert artifact.manifest.parents.keys() == {"curated", "trajectories"}
    first, second = galaxies.table("test", ["object_id"])["object_id"].to_pylist()[:2]
    conditions = f"sample.conditions={{kind: galaxies, object_ids: [{first}, {second}]}}"
    plan = Plan(tiny(config.output, *WORDS, conditions))
    rows = sample(plan, SILENT).to_pandas()
    assert rows["origin"].tolist() == [first, second, first, second]
    embedder = Embedder.read(open_expert(plan, galaxies), artifact.folder)
    expected = embedder.apply(galaxies.load("test").images_NHWC[:2])
    np.testing.assert_array_equal(np.stack(rows["condition"][:2]), expected)
    assert len({bytes(image) for image in rows["image"]}) == 4


def test_generator_with_embeddings_needs_experts(tiny_root: Path, config: Config, tmp_path: Path) -> None:
    without = Plan(tiny(copy_of(tiny_root, tmp_path, "survey", "curated"), *WORDS))
    with pytest.raises(ArtifactMissing, match="raydistill experts CONFIG"):
        generate(without, SILENT)
    kinds = [spec.kind for spec in lineage(without.synthetic)]
    assert kinds == ["survey", "curated", "trajectories", "generator", "synthetic"]
