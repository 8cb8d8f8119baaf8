"""The predict stage: accuracy, equal bits on any workers, surveys of every kind."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from ray_tools import SILENT, content, copy_of, killing, tiny

from raydistill.errors import ArtifactError, CatalogError, ConfigError
from raydistill.galaxies.pictures.sources import FolderImages
from raydistill.learning.networks import build_network
from raydistill.pipeline.plan import Plan
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.experts.artifact import TrajectoryStore
from raydistill.stages.experts.classify.classifier import PictureClassifier
from raydistill.stages.predict.artifact import PredictionSet, predictions_spec
from raydistill.stages.predict.quantities import predict_quantities, write_quantities
from raydistill.stages.predict.stage import predict
from raydistill.stages.simulate.stage import simulate
from raydistill.storage import Folder

BLOCKS = "predict.block_size=16"


@pytest.fixture(scope="module")
def root(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny run up to its experts."""
    return copy_of(tiny_root, tmp_path_factory.mktemp("predicted"), "survey", "curated", "trajectories")


@pytest.fixture(scope="module")
def curated(root: Path) -> CuratedSet:
    return CuratedSet.open(Plan(tiny(root)).curated.folder)


@pytest.fixture(scope="module")
def predictions(root: Path, curated: CuratedSet) -> PredictionSet:
    """Return the predictions for the curated set, by two workers."""
    return predict(Plan(tiny(root, BLOCKS, "resources.workers=2", f"predict.survey={curated.folder.uri}")), SILENT)


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
    np.testing.assert_allclose(np.exp(np.stack(list(rows.logits))), expected.mean(dim=0), atol=1e-6)
    np.testing.assert_allclose(np.stack(list(rows.spread)), expected.std(dim=0, correction=0), atol=1e-6)
    labels = [curated.class_names[label] for label in test.labels_N]
    used = predictions.summary.calibration.used
    calibrated = used.apply(expected.mean(dim=0).log().numpy())
    np.testing.assert_allclose(np.stack(list(rows.probability)), calibrated, atol=1e-6)
    direct = (calibrated.argmax(axis=1) == test.labels_N.numpy()).mean()
    assert (rows.predicted_class == labels).mean() == pytest.approx(float(direct), abs=1e-12)


def test_calibration_is_fitted_on_validation_and_measured_on_test_galaxies(
    predictions: PredictionSet, curated: CuratedSet
) -> None:
    summary, counts = predictions.summary.calibration, curated.summary.classes
    total = sum(entry.train for entry in counts)
    assert summary.used.prior == pytest.approx([entry.train / total for entry in counts])
    assert summary.used.trained == pytest.approx([1 / curated.num_classes] * curated.num_classes)
    assert summary.num_validation == sum(entry.validation for entry in counts)
    assert summary.num_test == sum(entry.test for entry in counts)
    assert sum(summary.estimated_prior) == pytest.approx(1)
    assert set(summary.test["cross_entropy"]) == {"before", "after"}
    value, low, high = summary.test["accuracy"]["after"]
    assert low <= value <= high
    bins = predictions.reliability
    assert set(bins.class_name) == set(curated.class_names)
    for calibrated in (False, True):
        assert set(bins[bins.calibrated == calibrated].groupby("class_name")["count"].sum()) == {summary.num_test}
    with predictions.folder.open("calibration.png") as file:
        assert file.read(4) == b"\x89PNG"


@pytest.mark.long
def test_estimated_prior_is_written_into_every_block(root: Path, curated: CuratedSet) -> None:
    """A table of these frequencies gives the same probabilities."""
    survey = f"predict.survey={curated.folder.uri}"
    estimated = predict(Plan(tiny(root, BLOCKS, survey, "predict.prior=estimated")), SILENT)
    summary = estimated.summary.calibration
    assert (summary.prior_from, summary.used.prior) == ("estimated", summary.estimated_prior)
    frequencies = dict(zip(estimated.class_names, summary.estimated_prior, strict=True))
    np.testing.assert_array_equal(estimated.probabilities()[1], estimated.probabilities(prior=frequencies)[1])
    frame = estimated.to_pandas(["predicted_class"])
    counts = {name: count for name, count in estimated.summary.predicted.items() if count}
    assert counts == frame.predicted_class.value_counts().to_dict()


def test_prior_of_other_classes_is_rejected(root: Path) -> None:
    with pytest.raises(ConfigError, match="it names round, and the classes"):
        predict(Plan(tiny(root, "predict.prior={round: 1}")), SILENT)


@pytest.mark.long
def test_bits_do_not_depend_on_the_number_of_workers(
    predictions: PredictionSet, root: Path, curated: CuratedSet, tmp_path: Path
) -> None:
    copied = copy_of(root, tmp_path, "survey", "curated", "trajectories")
    alone = predict(Plan(tiny(copied, BLOCKS, "resources.workers=1", f"predict.survey={curated.folder.uri}")), SILENT)
    assert alone.manifest.content == predictions.manifest.content


def test_existing_predictions_are_opened(predictions: PredictionSet, root: Path, curated: CuratedSet) -> None:
    plan = Plan(tiny(root, BLOCKS, f"predict.survey={curated.folder.uri}"))
    spec = predictions_spec(plan)
    assert spec.exists
    assert content(spec) == predict(plan, SILENT).manifest.content


def test_pictures_are_prepared_as_curate_does(predictions: PredictionSet, root: Path) -> None:
    """The survey's original pictures get the predictions of the curated ones."""
    whole = predict(Plan(tiny(root, BLOCKS)), SILENT).to_pandas().set_index("object_id")
    curated = predictions.to_pandas().set_index("object_id")
    assert set(curated.index) <= set(whole.index)
    for column in ("probability", "spread"):
        pair = (np.stack(list(frame.loc[curated.index, column])) for frame in (whole, curated))
        np.testing.assert_allclose(*pair, atol=1e-6)


def test_the_experts_in_mlflow_predict_picture_files_as_predict_does(root: Path) -> None:
    """Predict twenty original pictures of the survey.

    The model that MLflow stores is this classifier.
    """
    plan = Plan(tiny(root, BLOCKS))
    whole = predict(plan, SILENT).to_pandas().set_index("object_id")[:20]
    curated, store = CuratedSet.open(plan.curated.folder), TrajectoryStore.open(plan.trajectories.folder)
    images = plan.pictures()
    assert isinstance(images, FolderImages)
    paths = images.paths(list(whole.index))
    classifier = PictureClassifier.of_run(
        plan, plan.expert_network, curated, curated.normalisation, store.ends(),
        predict(plan, SILENT).summary.calibration.used,
    )  # fmt: skip
    frame = classifier.predict(pd.DataFrame({"path": paths}, index=whole.index))
    assert frame.predicted_class.tolist() == whole.predicted_class.tolist()
    np.testing.assert_allclose(frame[curated.class_names], np.stack(list(whole.probability)), atol=1e-6)


@pytest.fixture(scope="module")
def folder(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 150 pictures, of which three cannot be used."""
    pictures = sorted(Path(Plan(tiny(root)).survey.folder.uri, "images").iterdir())  # type: ignore[union-attr]
    folder = tmp_path_factory.mktemp("survey") / "pictures"
    (folder / "deep").mkdir(parents=True)
    for n in range(147):
        os.link(pictures[n % len(pictures)], folder / "deep" / f"{n:04d}.jpg")
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("no picture")
    (folder / "cut.jpg").write_bytes(pictures[0].read_bytes()[:600])
    (folder / "notes.txt").write_text("not counted")
    return folder


@pytest.fixture(scope="module")
def undisturbed(root: Path, folder: Path) -> PredictionSet:
    """Return the predictions for the folder, written without faults."""
    return predict(Plan(tiny(root, "predict.block_size=4", f"predict.survey={folder}")), SILENT)


@pytest.fixture
def fresh(root: Path, tmp_path: Path) -> Path:
    """Return a run folder of its own up to the experts."""
    return copy_of(root, tmp_path, "survey", "curated", "trajectories")


def test_folder_is_predicted_and_no_picture_is_lost(undisturbed: PredictionSet) -> None:
    frame = undisturbed.to_pandas().set_index("object_id")
    assert len(frame) == 150
    assert frame.reason.dropna().to_dict() == {"cut": "truncated", "empty": "empty", "text": "corrupt"}
    assert undisturbed.summary.rejected == {"corrupt": 1, "empty": 1, "truncated": 1}
    assert frame.loc["deep/0000", "predicted_class"] in undisturbed.class_names
    assert frame.loc["cut", "probability"] is None
    assert undisturbed.features()[1].shape == (147, undisturbed.summary.num_features)


@pytest.mark.long
def test_killed_worker_keeps_the_bits(fresh: Path, folder: Path, undisturbed: PredictionSet) -> None:
    words = ("predict.block_size=4", "resources.workers=1")
    data = below_predictions(fresh, folder, *words) / "data"
    with killing("MapWorker", lambda: data.exists() and len(list(data.glob("block-*"))) > 2):
        killed = predict(Plan(tiny(fresh, *words, f"predict.survey={folder}")), SILENT)
    assert killed.manifest.content == undisturbed.manifest.content


def below_predictions(root: Path, folder: Path, *words: str) -> Path:
    return Path(predictions_spec(Plan(tiny(root, *words, f"predict.survey={folder}"))).folder.uri)


@pytest.mark.long
def test_survey_whose_pictures_are_all_rejected_is_rejected(fresh: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "bad"
    pictures.mkdir()
    for n in range(3):
        (pictures / f"{n}.jpg").write_bytes(b"no picture")
    with pytest.raises(CatalogError, match="none of its 3 pictures could be used: 3 corrupt; first: 0"):
        predict(Plan(tiny(fresh, f"predict.survey={pictures}")), SILENT)
    assert not list(below_predictions(fresh, pictures).glob("data/*"))


@pytest.fixture(scope="module")
def many(root: Path) -> tuple[PredictionSet, str]:
    """Return the predictions for 240 simulated galaxies, and their true values."""
    survey = simulate(Plan(tiny(root, "name=many", "survey.num_galaxies=240")), SILENT)
    predictions = predict(Plan(tiny(root, f"predict.survey={survey.folder.uri}")), SILENT)
    return predictions, f"{survey.folder.uri}/truth.csv"


def test_quantities_of_a_table_are_predicted_with_intervals(many: tuple[PredictionSet, str], tmp_path: Path) -> None:
    predictions, truth = many
    folder = Folder(str(tmp_path / "out"))
    lines = write_quantities(predictions, truth, ["truth_magnitude", "log10(truth_axis_ratio)"], None, 0, folder)
    assert [name for name, _ in lines] == ["truth_magnitude", "log10(truth_axis_ratio)"]
    figures = json.loads(folder.read("quantities.json"))
    assert figures["predictions"] == predictions.manifest.content
    magnitude, radius = (pd.read_parquet(tmp_path / "out" / f"quantity-{n}.parquet") for n in range(2))
    assert list(magnitude["object_id"]) == predictions.features()[0]
    assert set(magnitude["part"]) == {"fit", "calibration", "test"}
    assert (magnitude["part"] == radius["part"]).mean() < 0.9, "each quantity has parts of its own"
    test = magnitude[magnitude["part"] == "test"]
    held = test["known"].between(test["low"], test["high"]).mean()
    assert figures["quantities"][0]["coverage"][0] == pytest.approx(held)
    assert held > 0.8
    with pytest.raises(ArtifactError, match="the folder for the quantities is not empty; give a new folder"):
        write_quantities(predictions, truth, ["truth_magnitude"], None, 0, folder)


def test_values_that_are_missing_or_no_numbers_are_said(many: tuple[PredictionSet, str], tmp_path: Path) -> None:
    predictions, truth = many
    table = pd.read_csv(truth, dtype={"objid": str})
    table.assign(objid="x" + table["objid"], name="a").to_csv(tmp_path / "other.csv", index=False)
    rare = table.assign(rare=(np.arange(len(table)) < 2).astype(int))
    rare.to_csv(tmp_path / "rare.csv", index=False)
    write_quantities(predictions, str(tmp_path / "rare.csv"), ["rare"], None, 1, Folder(str(tmp_path / "rare")))
    found = json.loads((tmp_path / "rare" / "quantities.json").read_text(), parse_constant=pytest.fail)
    assert found["quantities"][0]["explained"] is None
    with pytest.raises(CatalogError, match="'truth_magnitude' is known of 0 of the 240 galaxies with features"):
        predict_quantities(predictions, str(tmp_path / "other.csv"), ["truth_magnitude"])
    table.assign(name="a").to_csv(tmp_path / "text.csv", index=False)
    with pytest.raises(CatalogError, match="'name' holds no numbers"):
        predict_quantities(predictions, str(tmp_path / "text.csv"), ["name"])
    with pytest.raises(CatalogError, match="'truth_magnitude > 17' holds no numbers"):
        predict_quantities(predictions, truth, ["truth_magnitude > 17"])
    with pytest.raises(ConfigError, match="has no column 'redshft'"):
        predict_quantities(predictions, truth, ["redshft"])
