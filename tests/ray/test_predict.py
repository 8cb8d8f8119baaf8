"""The predict stage: accuracy, equal bits on any number of workers, and surveys of every kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ray_tools import SILENT, content, copy_of, tiny

from raydistill.artifacts.curated import CuratedSet
from raydistill.artifacts.predictions import PredictionSet
from raydistill.artifacts.trajectories import TrajectoryStore
from raydistill.core.networks import build_network
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.predict.stage import predict, predict_specs

BLOCKS = "predict.block_size=16"


@pytest.fixture(scope="module")
def root(trained_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny run up to its experts."""
    return copy_of(trained_root, tmp_path_factory.mktemp("predicted"), "survey", "curated", "trajectories")


@pytest.fixture(scope="module")
def curated(root: Path) -> CuratedSet:
    return CuratedSet.open(Plan(tiny(root)).curated.folder)


@pytest.fixture(scope="module")
def predictions(root: Path, curated: CuratedSet) -> PredictionSet:
    """Return the predictions for the curated set, by two workers."""
    return predict(Plan(tiny(root, BLOCKS, "resources.workers=2")), curated.folder.uri, SILENT)


def test_every_picture_of_the_curated_set_is_predicted(predictions: PredictionSet, curated: CuratedSet) -> None:
    kept = sum(entry.kept for entry in curated.summary.classes)
    frame = predictions.to_pandas()
    assert len(frame) == kept == predictions.summary.num_pictures
    assert frame.reason.isna().all()
    assert len(frame) > 2 * 16, "several blocks are needed for the tests of this module"
    counts = {name: count for name, count in predictions.summary.predicted.items() if count}
    assert counts == frame.predicted_class.value_counts().to_dict()


def test_probabilities_equal_those_of_the_experts_computed_directly(
    predictions: PredictionSet, curated: CuratedSet, root: Path
) -> None:
    plan, test = Plan(tiny(root)), curated.load("test")
    store = TrajectoryStore.open(plan.trajectories.folder)
    network = build_network(plan.config.network, curated.num_classes, curated.summary.image_size)
    images = curated.normalisation.apply(test.images_NHWC)
    logits = torch.stack([network(theta, images) for theta in store.ends()]).detach().double()
    expected = logits.softmax(dim=2)
    rows = predictions.to_pandas().set_index("object_id").loc[test.object_ids]
    np.testing.assert_allclose(np.stack(list(rows.probability)), expected.mean(dim=0), atol=1e-6)
    np.testing.assert_allclose(np.stack(list(rows.spread)), expected.std(dim=0, correction=0), atol=1e-6)
    labels = [curated.class_names[label] for label in test.labels_N]
    direct = (expected.mean(dim=0).argmax(dim=1) == test.labels_N).double().mean()
    assert (rows.predicted_class == labels).mean() == pytest.approx(float(direct), abs=1e-12)


def test_number_of_workers_changes_no_bit(
    predictions: PredictionSet, root: Path, curated: CuratedSet, tmp_path: Path
) -> None:
    copied = copy_of(root, tmp_path, "survey", "curated", "trajectories")
    alone = predict(Plan(tiny(copied, BLOCKS, "resources.workers=1")), curated.folder.uri, SILENT)
    assert alone.manifest.content == predictions.manifest.content


def test_existing_predictions_are_opened(predictions: PredictionSet, root: Path, curated: CuratedSet) -> None:
    plan = Plan(tiny(root, BLOCKS))
    spec = predict_specs(plan, curated.folder.uri)[-1]
    assert spec.exists
    assert content(spec) == predict(plan, curated.folder.uri, SILENT).manifest.content
