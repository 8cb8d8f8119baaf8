"""Test experts with a nuisance head, and the figures of groups in an evaluation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from curate_tools import curated, labels, picture
from ray_tools import SILENT, below, content, copy_of, folder_survey, killing, tiny

from raydistill.config import CatalogSurvey, Config, Decompose, Experts
from raydistill.errors import ArtifactIncompatible
from raydistill.learning.networks import build_network
from raydistill.learning.training import predict
from raydistill.pipeline.plan import Plan
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill.stage import distill
from raydistill.stages.evaluate.artifact import GROUPS, RUNS_SCHEMA, EvaluationReport
from raydistill.stages.evaluate.stage import evaluate
from raydistill.stages.experts.artifact import TrajectoryStore
from raydistill.stages.experts.stage import experts
from raydistill.stages.experts.targets import check_nuisance
from tests.private_ray import training_here

DECOMPOSE = "experts.decompose={nuisance: redshift, bins: 3}"
LONG = "experts.training.batch_size=1"


@pytest.fixture(scope="module")
def decomposed_root(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = copy_of(tiny_root, tmp_path_factory.mktemp("decomposed"), "survey", "curated")
    with training_here():
        experts(Plan(tiny(root, DECOMPOSE)), SILENT)
    return root


def test_experts_keep_the_layout_of_the_plain_network(decomposed_root: Path, tiny_root: Path) -> None:
    plain = TrajectoryStore.open(str(below(tiny(tiny_root), "trajectories")))
    store = TrajectoryStore.open(str(below(tiny(decomposed_root, DECOMPOSE), "trajectories")))
    assert store.layout == plain.layout
    for expert in range(store.num_experts):
        assert torch.equal(store(expert, 0), plain(expert, 0))  # the same start
        assert not torch.equal(store(expert, 3), plain(expert, 3))
    assert Plan(tiny(tiny_root)).trajectories.identity == plain.manifest.identity
    assert plain.manifest.config["experts"]["decompose"] is None
    assert store.manifest.config["experts"]["decompose"]["nuisance"] == "redshift"


@pytest.mark.long
def test_dead_worker_does_not_change_the_bits(tiny_root: Path, tmp_path: Path) -> None:
    """Keep the nuisance head and its momentum in the state of a decomposed expert."""
    calm = tiny(copy_of(tiny_root, tmp_path / "calm", "survey", "curated"), DECOMPOSE, LONG, "resources.workers=1")
    experts(Plan(calm), SILENT)
    killed = tiny(copy_of(tiny_root, tmp_path / "killed", "survey", "curated"), DECOMPOSE, LONG, "resources.workers=2")
    folder = below(killed, "trajectories")
    with killing("RayTrainWorker", lambda: any(folder.glob("partial/expert-*/epoch-0001.npz"))):
        experts(Plan(killed), SILENT)
    assert content(Plan(killed).trajectories) == content(Plan(calm).trajectories)


def test_distilling_and_evaluating_use_decomposed_experts(decomposed_root: Path, tmp_path: Path) -> None:
    root = copy_of(decomposed_root, tmp_path, "survey", "curated", "trajectories")
    groups = "evaluate.groups={columns: [redshift, petro_r90], bins: 2, min_galaxies: 2}"
    config = tiny(root, DECOMPOSE, groups, "distill.iterations=2", "evaluate.baselines=[class_mean]")
    distill(Plan(config), SILENT)
    report = evaluate(Plan(config), SILENT)
    assert set(report.groups) == set(report.summary) >= {"distilled", "class_mean", "experts", "full_data"}
    assert report.runs.schema == RUNS_SCHEMA
    for figures in report.groups.values():
        assert set(figures) == {"redshift", "petro_r90"}
        for column in figures.values():
            large = [entry for entry in column["groups"] if entry["galaxies"] >= 2]
            assert column["worst"]["completeness"]["mean"] == min(entry["completeness"]["mean"] for entry in large)
            assert column["worst"]["low"] <= column["worst"]["completeness"]["mean"] <= column["worst"]["high"]
    assert_agrees_with_predictions(config, report.groups["experts"]["redshift"])
    confusion = np.array(report.runs.to_pylist()[0]["confusion"]).reshape(
        2 * [len(report.summary["distilled"]["per_class"])]
    )
    assert confusion.sum() == sum(entry["galaxies"] for entry in report.groups["distilled"]["redshift"]["groups"])


def assert_agrees_with_predictions(config: Config, column: dict[str, Any]) -> None:
    """Count the right classifications of every expert again, galaxy by galaxy."""
    galaxies = CuratedSet.open(Plan(config).curated.folder)
    store = TrajectoryStore.open(Plan(config).trajectories.folder)
    images, labels_N = galaxies.to_torch("test").tensors
    network = build_network(config.network, galaxies.num_classes, galaxies.summary.image_size)
    redshift = galaxies.table("test", ["redshift"])["redshift"].to_numpy()
    for entry in column["groups"]:
        inside = (redshift >= entry["low_edge"]) & (redshift < entry["high_edge"])
        if entry["high_edge"] == redshift.max():
            inside |= redshift == redshift.max()
        mask = torch.from_numpy(inside) & (labels_N == galaxies.class_names.index(entry["class"]))
        assert int(mask.sum()) == entry["galaxies"]
        shares = [
            float((predict(network, theta_P, images[mask]) == labels_N[mask]).double().mean())
            for theta_P in store.ends()
        ]
        assert entry["completeness"]["mean"] == pytest.approx(np.mean(shares))


def test_evaluation_without_groups_keeps_its_files_and_results(tiny_root: Path, tmp_path: Path) -> None:
    root = copy_of(tiny_root, tmp_path, "survey", "curated", "trajectories", "distilled")
    few = ("evaluate.baselines=[class_mean]", "evaluate.full_data_networks=0")
    plain = evaluate(Plan(tiny(root, *few)), SILENT)
    assert GROUPS not in plain.manifest.files
    assert plain.groups == {}
    assert plain.manifest.config["evaluate"]["groups"] is None
    grouped = evaluate(Plan(tiny(root, *few, "evaluate.groups={columns: [redshift]}")), SILENT)
    assert GROUPS in grouped.manifest.files
    for name in ("runs.parquet", "evaluation.json"):
        assert grouped.manifest.files[name].sha256 == plain.manifest.files[name].sha256
    assert EvaluationReport.open(grouped.folder.uri).groups == json.loads(grouped.folder.read(GROUPS))


# A survey whose curated set lacks the nuisance, or has one value of it.


def survey_with(root: Path, sizes: dict[str, float | None]) -> CuratedSet:
    """Curate 60 pictures with these sizes; None: no column."""
    (root / "images").mkdir()
    classes = labels(60)
    for number, object_id in enumerate(classes):
        (root / "images" / f"{object_id}.jpg").write_bytes(picture(number))
    survey = folder_survey(root, classes)
    if sizes:
        rows = {"id": list(classes), "label": list(classes.values()), "petro_r90": [sizes.get(n) for n in classes]}
        pq.write_table(pa.table(rows), root / "labels.parquet")
        survey["catalog"] = str(root / "labels.parquet")
    return curated(root, CatalogSurvey(**survey))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({}, "none of its training galaxies has a petro_r90, which experts.decompose needs"),
        (dict.fromkeys(labels(60), 5.0), "the petro_r90 of its training galaxies does not differ within any class"),
    ],
)
def test_nuisance_that_the_set_lacks_is_rejected(
    cluster: None, tmp_path: Path, sizes: dict[str, float | None], message: str
) -> None:
    survey = survey_with(tmp_path, sizes)
    with pytest.raises(ArtifactIncompatible, match=message):
        check_nuisance(Plan(replace(tiny(tmp_path), experts=Experts(decompose=Decompose()))), survey)


def test_missing_sizes_are_counted_and_accepted(
    cluster: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sizes = {object_id: None if number % 3 == 0 else 2.0 + number for number, object_id in enumerate(labels(60))}
    survey = survey_with(tmp_path, sizes)
    check_nuisance(Plan(replace(tiny(tmp_path), experts=Experts(decompose=Decompose()))), survey)
    missing = survey.table("train", ["petro_r90"])["petro_r90"].null_count
    assert f"experts: {missing} of " in caplog.text
