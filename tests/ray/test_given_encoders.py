"""Encoders of others: predict, hunt, distil and generate with their features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from pyarrow import csv
from ray_tools import SILENT, copy_of, tiny

from raydistill.artifacts.display import open_artifact
from raydistill.artifacts.tables import read_table
from raydistill.errors import ArtifactIncompatible, ArtifactMissing, CatalogError, ConfigError
from raydistill.galaxies.selection import SPLITS
from raydistill.learning.architectures import PooledConvNet
from raydistill.learning.calibration import Calibration
from raydistill.learning.networks import build_network, embedding, initial_parameters
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.run import lineage
from raydistill.runtime.ray_data import pack
from raydistill.stages.audit.artifact import uses_encoder
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.stage import curate
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.stages.distill.stage import distill
from raydistill.stages.evaluate.artifact import HEAD, UNSEEN
from raydistill.stages.evaluate.report.printing import evaluation_report
from raydistill.stages.evaluate.stage import evaluate
from raydistill.stages.generate.artifact import GeneratorArtifact
from raydistill.stages.generate.stage import generate
from raydistill.stages.hunt import stage as hunting
from raydistill.stages.hunt.artifact import HuntRound
from raydistill.stages.hunt.inputs.sources import attribute_scores
from raydistill.stages.predict.artifact import predictions_spec
from raydistill.stages.predict.blocks import block_name
from raydistill.stages.predict.stage import load_experts, predict
from raydistill.stages.predict.worker import PREPARED, BlockPredictor, Experts, Predictors
from raydistill.stages.pretrain.artifact import EncoderArtifact
from raydistill.stages.pretrain.config import IMAGENET
from raydistill.stages.pretrain.describers import Embedder, describe_pictures, open_describer
from raydistill.stages.pretrain.stage import pretrain
from raydistill.stages.similar.artifact import similar_spec
from raydistill.stages.similar.stage import similar
from raydistill.storage import Folder
from tests.private_ray import training_here
from tests.unit.stages.pretrain.test_given import MATRIX, SIZE, write_onnx

pytestmark = pytest.mark.usefixtures("cluster")

POOLED = "pretrain.network={kind: pooled, widths: [8, 16], groups: 4}"
HEADS = (
    "distill.objective={kind: ridge, per_class: 8, encoders: [pretrain]}",
    "distill.space={kind: components, components: 20}", "distill.iterations=2", "distill.validate_every=2",
)  # fmt: skip
GENERATOR = (
    "generate.conditions=[embedding]", "generate.embedding_size=3",
    "generate.model={network: {kind: mlp, width: 16, blocks: 1}, space: {kind: components, components: 8}}",
    "generate.training={steps: 4, batch_size: 8, shards: 1}", "generate.preview_images=2",
)  # fmt: skip
TARGETS = 2  # classes up to this one are hunted
LACKING = 3  # objects of the survey without a row in the table


@pytest.fixture(scope="module")
def root(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run folder with experts, three given encoders and their files."""
    root = copy_of(tiny_root, tmp_path_factory.mktemp("given"), "survey", "curated", "trajectories")
    embeddings(truth(root)).to_parquet(root / "embeddings.parquet")
    write_onnx(root / "linear.onnx")
    network = build_network(PooledConvNet(widths=(8, 16), groups=4), 2, 16)
    tensors = network.layout.split(initial_parameters(network, 5))
    safetensors.torch.save_file({name: value.clone() for name, value in tensors.items()}, root / "w.safetensors")
    for kind in ("embeddings", "onnx", "weights"):
        pretrain(given(root, kind), SILENT)
    return root


def truth(root: Path) -> pd.DataFrame:
    """Return the ids of the survey, and whether each one is a target."""
    table = csv.read_csv(f"{Plan(tiny(root)).survey.folder.uri}/truth.csv").to_pandas()
    return pd.DataFrame({"id": table["objid"], "target": table["truth_class"] <= TARGETS})


def embeddings(objects: pd.DataFrame) -> pd.DataFrame:
    """Return a shuffled table of six features, the first of which marks targets."""
    features = np.random.default_rng(0).normal(size=(len(objects), 6)).astype(np.float32)
    features[:, 0] = 8 * objects["target"] + 0.1 * features[:, 0]
    table = pd.DataFrame({"id": objects["id"], "embedding": list(features)})
    return table.iloc[:-LACKING].sample(frac=1, random_state=0)


def given(root: Path, kind: str, *overrides: str) -> Plan:
    """Return the plan with a given encoder, whose features are used everywhere."""
    source = {
        "embeddings": f"{{kind: embeddings, table: {root}/embeddings.parquet}}",
        "onnx": f"{{kind: onnx, file: {root}/linear.onnx, input_size: {SIZE}}}",
        "weights": f"{{kind: weights, weights: {root}/w.safetensors}}",
    }[kind]
    return Plan(tiny(root, f"pretrain.source={source}", POOLED, "features=pretrain", "resources.workers=1", *overrides))


# ---- encoders ----


def test_given_encoders_open_with_a_measurement(root: Path) -> None:
    shown = {
        "embeddings": "6 features of each of 87 objects",
        "onnx": f"{MATRIX.shape[1]} features of pictures 16 pixels wide, given (onnx)",
        "weights": "16 features of pictures 16 pixels wide, given (weights)",
    }
    for kind, words in shown.items():
        artifact = open_artifact(given(root, kind).encoder.folder)
        assert isinstance(artifact, EncoderArtifact)
        assert words in repr(artifact)
        (row,) = artifact.validation().to_pylist()
        assert row["step"] == 0
        assert 1 < row["effective_rank"] <= artifact.summary.num_features
        assert 0 < row["balanced_accuracy"] <= 1
        assert len(artifact.history()) == 0


def test_table_of_another_survey_is_rejected(root: Path, tmp_path: Path) -> None:
    other = embeddings(truth(root)).assign(id=lambda table: "x" + table["id"])
    other.to_parquet(tmp_path / "other.parquet")
    plan = Plan(tiny(root, f"pretrain.source={{kind: embeddings, table: {tmp_path}/other.parquet}}"))
    with pytest.raises(CatalogError, match=r"other.parquet: it has features of 0 train galaxies"):
        pretrain(plan, SILENT)
    assert not plan.encoder.exists


def test_collapsed_features_give_a_warning(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_onnx(root / "one.onnx", MATRIX[:, :1].repeat(1, 4))
    pretrain(Plan(tiny(root, f"pretrain.source={{kind: onnx, file: {root}/one.onnx, input_size: {SIZE}}}")), SILENT)
    assert "the features have collapsed (effective rank 1.0 of 4)" in caplog.text
    assert "check pretrain.source" in caplog.text


def test_features_that_are_not_finite_are_rejected(root: Path) -> None:
    write_onnx(root / "nan.onnx", torch.full_like(MATRIX, torch.nan))
    plan = Plan(tiny(root, f"pretrain.source={{kind: onnx, file: {root}/nan.onnx, input_size: {SIZE}}}"))
    with pytest.raises(ConfigError, match=r"nan.onnx: the encoder gives features that are not finite numbers"):
        pretrain(plan, SILENT)


def test_encoder_of_a_table_describes_no_picture(root: Path) -> None:
    artifact = EncoderArtifact.open(given(root, "embeddings").encoder.folder)
    with pytest.raises(ArtifactIncompatible, match="and no synthetic picture"):
        artifact.features(torch.zeros(1, 16, 16, 3, dtype=torch.uint8))


# ---- predictions ----


def test_predictions_have_the_features_of_the_table_and_name_objects_without(root: Path) -> None:
    predictions = predict(given(root, "embeddings"), SILENT)
    frame = predictions.to_pandas().set_index("object_id")
    lacking = set(truth(root)["id"].iloc[-LACKING:])
    assert set(frame.index[frame["reason"] == "no-features"]) == lacking
    assert predictions.summary.rejected == {"no-features": LACKING}
    assert set(frame.loc[sorted(lacking), "detail"]) == {"the table of features has no row of this id"}
    assert frame.loc[sorted(lacking), "predicted_class"].isna().all()
    ids, features = predictions.features()
    table = pq.read_table(root / "embeddings.parquet").to_pandas().set_index("id")["embedding"]
    assert set(ids) == set(table.index)
    assert features.dtype == np.float16
    np.testing.assert_array_equal(features, np.stack(list(table.loc[list(ids)])).astype(np.float16))


def test_features_of_an_onnx_file_are_those_of_torch(root: Path) -> None:
    curated = CuratedSet.open(Plan(tiny(root)).curated.folder)
    predictions = predict(given(root, "onnx", f"predict.survey={curated.folder.uri}"), SILENT)
    ids, features = predictions.features()
    place = {object_id: n for n, object_id in enumerate(ids)}
    for split in ("train", "validation", "test"):
        pictures = curated.load(split)
        images = pictures.images_NHWC.permute(0, 3, 1, 2) / 255
        mean, std = (torch.tensor(values)[:, None, None] for values in IMAGENET)
        small = torch.nn.functional.interpolate((images - mean) / std, (SIZE, SIZE), mode="bilinear", antialias=True)
        rows = [place[object_id] for object_id in pictures.object_ids]
        np.testing.assert_allclose(features[rows], small.flatten(1) @ MATRIX, rtol=1e-3, atol=2e-2)


def test_encoder_is_named_by_path_too_and_identifies_predictions(root: Path) -> None:
    plan = given(root, "onnx")
    by_path = Plan(tiny(root, f"features={plan.encoder.folder.uri}"))
    assert predictions_spec(by_path).identity == predictions_spec(plan).identity
    others = [given(root, "weights"), Plan(tiny(root)), given(root, "onnx", "predict.features=false")]
    assert len({predictions_spec(other).identity for other in [plan, *others]}) == 4
    with pytest.raises(ArtifactMissing, match="no finished encoder is here; correct features, or run 'raydistill"):
        predictions_spec(Plan(tiny(root, f"features={root}/nowhere")))


def test_encoder_of_pictures_of_another_size_is_rejected(root: Path) -> None:
    folder = given(root, "onnx").encoder.folder.uri
    curated = CuratedSet.open(Plan(tiny(root)).curated.folder)
    other = tiny(root, f"features={folder}")
    assert open_describer(Plan(other), curated).features(np.zeros((2, 16, 16, 3), np.uint8)).shape == (2, 5)
    object.__setattr__(curated.summary, "image_size", 8)
    with pytest.raises(ArtifactIncompatible, match="its pictures have 16 px, these have 8; set curate"):
        open_describer(Plan(other), curated)


# ---- hunts ----


def test_hunt_ranks_by_the_features_of_the_table(root: Path, tmp_path: Path) -> None:
    predict(given(root, "embeddings"), SILENT)
    objects = truth(root)
    known = objects.iloc[:-LACKING]
    labelled = pd.concat([known[known["target"]].head(3), known[~known["target"]].head(3)])
    lines = [f"{row.id},{'yes' if row.target else 'no'}" for row in labelled.itertuples()]
    (tmp_path / "labels.csv").write_text("\n".join(["filename,label", *lines, ""]))
    few = ("hunt.per_round=5", "hunt.background=10", f"hunt.labels={tmp_path}/labels.csv")
    result = hunting.hunt(given(root, "embeddings", *few), SILENT)
    assert isinstance(result, HuntRound)
    scores = result.scores().set_index("object_id")
    scored = scores[scores["score"].notna()]
    assert set(scored.index) == set(known["id"])
    others = scored[scored["label"].isna()]["score"]
    target = objects.set_index("id")["target"][others.index].to_numpy()
    in_order = others.to_numpy()[target][:, None] > others.to_numpy()[~target]
    assert in_order.mean() > 0.95


def test_classes_are_learned_from_the_labels_of_a_sheet(root: Path, tmp_path: Path) -> None:
    known = truth(root)
    class_of = {
        name: ("common", "rare")[int(target)] for name, target in zip(known["id"], known["target"], strict=True)
    }
    overrides = ("predict.experts=0", "hunt.classes=[common, rare]", "hunt.per_round=8")
    predict(given(root, "embeddings", *overrides), SILENT)
    first = hunting.hunt(given(root, "embeddings", *overrides), SILENT)
    assert isinstance(first, HuntRound)
    assert first.summary.labelled == {"common": 0, "rare": 0}
    assert first.scores()["class_name"].isna().all()
    asked = first.candidates()
    assert len(asked) == 8
    labels = tmp_path / "labels.csv"
    asked.assign(label=asked["object_id"].map(class_of))[["filename", "label"]].to_csv(labels, index=False)
    second = hunting.hunt(given(root, "embeddings", *overrides, f"hunt.labels={labels}"), SILENT)
    assert isinstance(second, HuntRound)
    assert second.summary.num_labels == sum(second.summary.labelled.values()) == 8
    assert not set(second.candidates()["object_id"]) & set(asked["object_id"])
    scores = second.scores().dropna(subset="class_name")
    assert len(scores) == 90 - LACKING
    assert (scores["class_name"] == scores["object_id"].map(class_of)).mean() > 0.8
    np.testing.assert_allclose([sum(one) for one in scores["probability"]], 1, atol=1e-5)
    assert scores["label"].notna().sum() == 8
    assert "8 labels" in repr(second)
    assert "trajectories" not in second.manifest.parents


def test_labels_of_a_sheet_are_a_catalogue_of_classes(root: Path, tmp_path: Path) -> None:
    known = truth(root)
    survey_folder = Plan(tiny(root)).survey.folder.uri
    file_of = pd.read_csv(f"{survey_folder}/filename_mapping.csv").set_index("objid")["asset_id"]
    names = file_of[known["id"]].astype(str).to_numpy() + ".jpg"  # as a sheet writes them
    labels = known.assign(filename=names, label=np.where(known["target"], "rare", "common"))
    labels[["filename", "label"]].to_csv(tmp_path / "labels.csv", index=False)
    words = (
        "survey.dialect=plain",
        "survey.images.path_column=filename",
        "survey.columns={id: filename, label: label}",
        "curate.classes=[common, rare]",
    )
    survey = f"survey={{kind: catalog, catalog: {tmp_path}/labels.csv, images: {{root: {survey_folder}/images}}}}"
    curated = curate(Plan(tiny(tmp_path, survey, *words)), SILENT)
    rows = [row for split in SPLITS for row in curated.table(split, ["object_id", "class_name"]).to_pylist()]
    assert len(rows) == len(known)
    expected = dict(zip(names, labels["label"], strict=True))
    assert {row["object_id"]: row["class_name"] for row in rows} == expected


def test_attributes_of_a_hunt_are_learned_from_the_table(root: Path) -> None:
    plan = given(root, "embeddings", "hunt.oracle={positive: truth_class <= 2, attributes: [smooth]}")
    ids, features = predict(given(root, "embeddings"), SILENT).features()
    curated = CuratedSet.open(plan.curated.folder)
    held_out = curated.table("train", ["object_id"])["object_id"].to_pylist()[:2]
    scores = attribute_scores(plan, curated, features, held_out)
    assert scores.shape == (len(ids),)
    assert scores.std() > 0


# ---- heads ----


def test_heads_are_distilled_for_given_weights(root: Path) -> None:
    plan = given(root, "weights", *HEADS)
    made = distill(plan, SILENT)
    assert made.manifest.parents["encoder_0"].identity == plan.encoder.identity
    assert "trajectories" not in made.manifest.parents
    assert torch.isfinite(DistilledSet.open(made.folder).selected.images_SCHW).all()
    images = torch.zeros(2, 16, 16, 3, dtype=torch.uint8)
    images[1] = 255
    network = embedding(build_network(PooledConvNet(widths=(8, 16), groups=4), 2, 16))
    tensors = safetensors.torch.load_file(root / "w.safetensors")
    mean, std = (torch.tensor(values)[:, None, None] for values in IMAGENET)
    expected = network(network.layout.flatten(tensors), (images.permute(0, 3, 1, 2) / 255 - mean) / std)
    torch.testing.assert_close(EncoderArtifact.open(plan.encoder.folder).features(images), expected)


def test_heads_are_evaluated_on_encoders_that_the_images_were_not_made_for(root: Path) -> None:
    other = pretrain(Plan(tiny(root, "pretrain.source={kind: weights}", POOLED)), SILENT)
    words = (
        "evaluate.from_scratch=false",
        "evaluate.baselines=[class_mean, dm]",
        "evaluate.dm.iterations=2",
        f"evaluate.encoders=['{other.folder.uri}']",
    )
    plan = given(root, "weights", *HEADS, *words)
    distill(plan, SILENT)
    report = evaluate(plan, SILENT)
    assert report.manifest.parents["encoder_0"].identity == other.manifest.identity
    rows = report.runs.to_pylist()
    for name in ("distilled", "class_mean", "nearest_feature", "full_data_head"):
        assert [row["network"] for row in rows if row["subject"] == name] == [HEAD, UNSEEN]
    assert "heads on encoders with which the set was not made" in evaluation_report(plan.config, report)
    assert report.cpu_seconds["dm"] > 0


@pytest.mark.parametrize("kind", ["onnx", "embeddings"])
def test_images_are_not_distilled_for_an_encoder_without_a_gradient(root: Path, kind: str) -> None:
    sentence = f"an encoder of the kind '{kind}' has no gradient, which images are distilled with; take an"
    with pytest.raises(ArtifactIncompatible, match=sentence):
        distill(given(root, kind, *HEADS), SILENT)


# ---- generators ----


def test_generator_learns_embeddings_of_a_given_encoder(root: Path) -> None:
    plan = given(root, "onnx", *GENERATOR)
    with training_here():
        generate(plan, SILENT)
    artifact = GeneratorArtifact.open(plan.generator.folder)
    assert artifact.manifest.parents.keys() == {"curated", "encoder"}
    assert artifact.manifest.parents["encoder"].identity == plan.encoder.identity
    curated = CuratedSet.open(plan.curated.folder)
    embedder = Embedder.read(open_describer(plan, curated), artifact.folder)
    found = embedder.apply(curated.load("train").images_NHWC).astype(np.float64)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(found.T, ddof=0), np.eye(3), atol=1e-2)


def test_generator_with_embeddings_of_a_table_is_rejected(root: Path) -> None:
    plan = given(root, "embeddings", *GENERATOR)
    with training_here(), pytest.raises(ArtifactIncompatible, match="and no synthetic picture"):
        generate(plan, SILENT)
    assert not plan.generator.exists


def test_pictures_without_finite_features_are_rejected_and_the_others_stay(root: Path) -> None:
    plan = given(root, "weights")
    curated = CuratedSet.open(plan.curated.folder)
    describer = open_describer(plan, curated)
    pixels = curated.load("test").images_NHWC[:4]

    class Faulty:
        def features(self, images: torch.Tensor) -> torch.Tensor:
            features = describer.features(images).clone()
            features[1] = torch.nan
            return features

    ids = curated.table("test", ["object_id"])["object_id"].to_pylist()[:4]
    rows = [
        {"block": 0, "object_id": name, "pixels": bytes(image.numpy())} for name, image in zip(ids, pixels, strict=True)
    ]
    experts = Experts(load_experts(plan, curated), Calibration.none(curated.num_classes))
    predictors = Predictors(experts.ensemble.processor, curated.summary.image_size, experts, Faulty())
    folder = Folder(f"{root}/faulty")
    BlockPredictor(predictors, folder.uri, None)(pack(pa.Table.from_pylist(rows, PREPARED)))
    written = read_table(folder, block_name(0)).to_pylist()
    assert [row["reason"] for row in written] == [None, "no-features", None, None]
    assert written[1]["features"] is written[1]["predicted_class"] is None
    expected = describer.features(pixels).numpy().astype(np.float16)
    np.testing.assert_array_equal([row["features"] for n, row in enumerate(written) if n != 1], expected[[0, 2, 3]])


def test_pictures_get_features_alone_without_experts(root: Path) -> None:
    with_classes, alone = (predict(given(root, "weights", *more), SILENT) for more in ((), ("predict.experts=0",)))
    assert alone.summary.num_experts == 0
    assert alone.class_names == []
    assert "trajectories" not in alone.manifest.parents
    assert "90 pictures of tiny without classes" in repr(alone)
    table = alone.table()
    assert all(table[name].null_count == len(table) for name in ("predicted_class", "probability", "logits", "spread"))
    np.testing.assert_array_equal(alone.features()[1], with_classes.features()[1])
    assert alone.probabilities()[1].shape == (90, 0)
    assert alone.reliability.empty


def test_a_survey_without_classes_is_searched(root: Path, tmp_path: Path) -> None:
    other = copy_of(root, tmp_path, "survey")
    source = f"pretrain.source={{kind: weights, weights: {root}/w.safetensors}}"
    overrides = ("curate.classes=unlabelled", POOLED, source, "similar.more=sim-000003", "similar.count=5")
    plan = Plan(tiny(other, *overrides, "features=pretrain"))
    kinds = [spec.kind for spec in lineage(similar_spec(plan))]
    assert kinds == ["survey", "curated", "encoder", "predictions", "similar"]
    curate(plan, SILENT)
    pretrain(plan, SILENT)
    predict(plan, SILENT)
    assert len(similar(plan, SILENT).table()) == 5
    with pytest.raises(ConfigError, match="without classes there are no experts, whose features"):
        predict(Plan(tiny(other, *overrides)), SILENT)
    with pytest.raises(ConfigError, match="nothing to predict"):
        tiny(root, "predict.experts=0", "predict.features=false")


def test_features_do_not_depend_on_the_number_of_workers(root: Path) -> None:
    plan = given(root, "weights")
    images = CuratedSet.open(plan.curated.folder).load("train").images_NHWC
    describer = open_describer(plan, CuratedSet.open(plan.curated.folder))
    two = replace(plan.config.resources, workers=2)
    one = describe_pictures(describer, images, plan.config.resources, "tests", "describing")
    assert torch.equal(describe_pictures(describer, images, two, "tests", "describing"), one)
    assert torch.equal(one, describer.features(images))


def test_an_encoder_that_the_images_were_made_for_is_not_unseen(root: Path) -> None:
    words = ("evaluate.from_scratch=false", "evaluate.encoders=[pretrain]")
    distill(given(root, "weights", *HEADS), SILENT)
    with pytest.raises(ArtifactIncompatible, match="the distilled set was made with it; leave it out of evaluate"):
        evaluate(given(root, "weights", *HEADS, *words), SILENT)
    folder = given(root, "onnx").encoder.folder.uri
    with pytest.raises(ArtifactIncompatible, match="has no gradient"):
        evaluate(given(root, "weights", *HEADS, words[0], f"evaluate.encoders=['{folder}']"), SILENT)


def test_a_table_is_no_space_of_an_audit(root: Path) -> None:
    assert not uses_encoder(given(root, "embeddings"))
    assert uses_encoder(given(root, "weights"))
    with pytest.raises(ConfigError, match="a table of features describes no synthetic picture"):
        uses_encoder(given(root, "embeddings", "audit.spaces=[encoder]"))
