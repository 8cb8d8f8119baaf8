"""Test the sections about what networks see, on the tiny run.

The tests are about contents, missing inputs, and any number of workers.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from ray_tools import SILENT, content, copy_of, tiny

from raydistill.errors import ArtifactMissing
from raydistill.pipeline.plan import Plan
from raydistill.stages.analyse.artifact import analysis_spec
from raydistill.stages.analyse.inputs import AnalysisInputs, ExpertDescriber, open_inputs
from raydistill.stages.analyse.networks import counterfactuals
from raydistill.stages.analyse.networks.counterfactuals import counterfactuals_section
from raydistill.stages.analyse.networks.occlusion import occlusion_section
from raydistill.stages.analyse.networks.sparse_features import TRAINING, sparse_features_section
from raydistill.stages.analyse.prototypes.gallery import plan_repeats, plans_of_networks
from raydistill.stages.analyse.prototypes.stability import stability_section
from raydistill.stages.analyse.science import sparse_features
from raydistill.stages.analyse.science.occlusion import ANNULI, FILLS
from raydistill.stages.analyse.sections import Section, read_section, write_section
from raydistill.stages.analyse.stage import analyse
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill.stage import distill
from raydistill.stages.experts.stage import experts
from raydistill.stages.pretrain.stage import pretrain
from raydistill.storage import Folder
from tests.unit.stages.sample_tools import write_generator


def inputs_of(root: Path, *words: str) -> AnalysisInputs:
    plan = Plan(tiny(root, *words))
    return open_inputs(plan, analysis_spec(plan))


@pytest.fixture(scope="module")
def inputs(tiny_root: Path) -> AnalysisInputs:
    return inputs_of(tiny_root, "resources.workers=1")


@pytest.fixture(scope="module")
def occlusion(inputs: AnalysisInputs) -> Section:
    return occlusion_section(inputs)


@pytest.fixture(scope="module")
def sparse(inputs: AnalysisInputs) -> Section:
    return sparse_features_section(inputs)


def check_statements(section: Section) -> None:
    for statement in section.statements:
        assert statement.n > 0
        assert statement.p_value is None or 0 <= statement.p_value <= 1
        assert np.isnan(statement.low) or statement.low <= statement.value <= statement.high


def test_occlusion_measures_every_class_ring_and_fill(inputs: AnalysisInputs, occlusion: Section) -> None:
    rows = occlusion.tables[0].rows.to_pandas()
    real = rows[rows["pictures"] == "galaxies"]
    labels = inputs.curated.load("validation").labels_N.unique()
    assert len(real) == len(ANNULI) * len(FILLS) * (len(labels) + 1)
    prototypes = rows[rows["pictures"] == "prototypes"]
    assert len(prototypes) == len(ANNULI) * len(FILLS) * 5
    assert (prototypes["n"] == 3).all()  # experts
    described = ExpertDescriber(inputs.trajectories.folder.uri, inputs.curated.folder.uri, inputs.plan.config.resources)
    pixels = (inputs.distilled.selected.display() * 255).round().to(torch.uint8).numpy()
    expected = described(pixels, "prototypes").probabilities_NK.diagonal()
    np.testing.assert_allclose(prototypes["before"].to_numpy()[:5], expected, atol=0.05)  # clipped and rounded here
    check_statements(occlusion)
    np.testing.assert_allclose(real["excess"], real["loss"] - real["control"], atol=1e-12)
    tested = real[real["class"] != "all classes"]
    assert tested["p_value"].notna().all()
    assert len(occlusion.statements) == len(tested) + 8  # four orders, two curves


@pytest.mark.long
def test_sections_do_not_depend_on_the_number_of_workers(
    tiny_root: Path, occlusion: Section, sparse: Section, tmp_path: Path
) -> None:
    other = inputs_of(tiny_root, "resources.workers=2")
    for key, make, first in (("a", occlusion_section, occlusion), ("b", sparse_features_section, sparse)):
        again = make(other)
        for expected, table in zip(first.tables, again.tables, strict=True):
            pd.testing.assert_frame_equal(expected.rows.to_pandas(), table.rows.to_pandas())
        write_section(Folder(tmp_path / key), again)
        assert [table.name for table in read_section(Folder(tmp_path / key), again.key).tables] == [
            table.name for table in first.tables
        ]


def test_sparse_features_name_an_answer_and_held_out_galaxies(inputs: AnalysisInputs, sparse: Section) -> None:
    check_statements(sparse)
    rows = sparse.tables[0].rows.to_pandas()
    assert sorted(rows["feature"]) == list(range(TRAINING.num_features))
    held_out = {name for split in ("validation", "test") for name in inputs.curated.load(split).object_ids}
    assert {name for ids in rows["galaxies"] for name in ids.split()} <= held_out
    assert rows[rows["recurs"]]["found_again"].min() >= 0.5
    assert rows[~rows["recurs"]]["p_value"].isna().all()
    assert (rows[rows["aligned"]]["p_value"] < 0.05).all()
    prototypes = sparse.tables[1].rows.to_pandas()
    assert len(prototypes) == 5 * rows["recurs"].sum()


def test_sections_without_experts_say_what_to_run(inputs: AnalysisInputs) -> None:
    for make in (occlusion_section, sparse_features_section):
        section = make(replace(inputs, trajectories=None))
        assert "raydistill experts" in section.missing
        assert not section.tables


@pytest.mark.long
def test_repeated_distillations_are_artifacts_of_other_seeds(tiny_root: Path, tmp_path: Path) -> None:
    root = copy_of(tiny_root, tmp_path, "survey", "curated", "trajectories", "distilled")
    repeated = inputs_of(root, "resources.workers=2", "analyse.repeats=2")
    section = stability_section(repeated)
    rows = section.tables[0].rows.to_pandas()
    assert list(rows["varied"]) == ["seeds"] * 5
    assert list(rows["n"]) == [3] * 5
    assert (rows["low"] <= rows["excess"]).all()
    assert (rows["recurs"] == (rows["p_value"] < 0.05)).all()
    check_statements(section)
    plan = Plan(tiny(root, "distill.seed=2"))
    folder, made = Path(plan.distilled.folder.uri), content(plan.distilled)
    written = (folder / "manifest.json").stat().st_mtime_ns
    again = stability_section(inputs_of(root, "analyse.repeats=2"))
    pd.testing.assert_frame_equal(again.tables[0].rows.to_pandas(), rows)
    assert (folder / "manifest.json").stat().st_mtime_ns == written  # not distilled again
    shutil.rmtree(folder)
    distill(plan, SILENT)  # the stage distils the same set
    assert content(plan.distilled) == made != content(repeated.plan.distilled)


@pytest.mark.long  # the experts of another network
def test_prototypes_of_other_experts_and_networks_are_compared(tiny_root: Path, tmp_path: Path) -> None:
    root = copy_of(tiny_root, tmp_path, "survey", "curated", "trajectories", "distilled")
    words = ("resources.workers=2", "analyse.expert_groups=2", "analyse.networks=[{depth: 2, width: 6}]")
    inputs = inputs_of(root, *words)
    with pytest.raises(ArtifactMissing, match="trajectories"):
        stability_section(inputs)
    for plan in plans_of_networks(inputs.plan):
        experts(plan, SILENT)
    section = stability_section(inputs)
    rows = section.tables[0].rows.to_pandas()
    assert list(rows["varied"]) == ["experts"] * 5 + ["networks"] * 5
    assert list(rows["n"]) == [2] * 10
    assert rows["p_value"].isna().all()  # two sets
    assert "Not tried: other seeds, galaxies, permuted labels." in section.introduction[1]
    assert len(section.figures) == 4
    check_statements(section)
    by_experts, by_network = plan_repeats(inputs.plan)
    assert [plan_.config.distill.experts for plan_ in by_experts.plans] == [(0, 2), (1,)]
    assert by_network.plans[0].distilled.identity == inputs.plan.distilled.identity
    same_network = Plan(tiny(root, "network.depth=2", "network.width=6", "distill.seed=1"))
    assert by_network.plans[1].distilled.identity == same_network.distilled.identity
    assert same_network.distilled.exists


@pytest.mark.long  # four sets of galaxies, with experts
def test_residuals_of_disjoint_galaxies_are_compared_with_a_control(tiny_root: Path, tmp_path: Path) -> None:
    root = copy_of(tiny_root, tmp_path, "survey", "curated", "trajectories", "distilled")
    plan = Plan(tiny(root, "analyse.disjoint=3", "analyse.permuted=true"))
    section_rows = analyse(plan, SILENT).table("stability").to_pandas()
    assert list(section_rows["varied"]) == ["galaxies"] * 5 + ["permuted labels"] * 5
    assert set(section_rows["n"]) == {3}
    assert section_rows["p_value"].notna().all()
    parts = plan_repeats(plan)[0].plans
    ids = [
        set(CuratedSet.open(part.curated.folder).table("train", ["object_id"])["object_id"].to_pylist())
        for part in parts
    ]
    assert not ids[0] & ids[1] | ids[0] & ids[2] | ids[1] & ids[2]


def test_stability_is_left_out_where_it_was_not_measured(inputs: AnalysisInputs, tiny_root: Path) -> None:
    assert "analyse.repeats=4" in stability_section(inputs).missing
    other = inputs_of(tiny_root, "analyse.repeats=2", f"distilled={inputs.distilled.folder.uri}", "distill.seed=7")
    assert "not distilled by this config" in stability_section(other).missing


@pytest.mark.long  # the classifier trains for ten seconds
def test_counterfactuals_are_made_and_accepted_in_tasks(
    tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copy_of(tiny_root, tmp_path, "survey", "curated", "trajectories", "distilled")
    write_generator(Plan(tiny(root)), "votes", "size")
    assert "fewer than 100 galaxies" in counterfactuals_section(inputs_of(root)).missing
    changes = {"FEWEST": 10, "GALAXIES": 2, "MEASURED": 2, "LEAST_CORRELATION": -2.0, "MAX_ANSWERS": 2}
    for name, value in changes.items():
        monkeypatch.setattr(counterfactuals, name, value)
    monkeypatch.setattr(sparse_features, "MIN_PICTURES", 3)
    section = counterfactuals_section(inputs_of(root, "resources.workers=2"))
    rows = section.tables[0].rows.to_pandas()
    assert list(rows["n"]) == [2, 2]
    assert (rows["low"] <= rows["accepted"]).all()
    check_statements(section)
    assert section.html.count("The held-out classifier accepts") == 2


def test_counterfactuals_need_a_generator_with_votes(inputs: AnalysisInputs) -> None:
    assert "raydistill generate" in counterfactuals_section(inputs).missing


def test_an_encoder_gives_the_features_in_place_of_the_experts(tiny_root: Path, tmp_path: Path) -> None:
    root = copy_of(tiny_root, tmp_path, "survey", "curated", "distilled")
    network = "pretrain.network={kind: pooled, widths: [8, 16], groups: 4}"
    words = "features=pretrain", "pretrain.source={kind: weights}", network
    encoder = pretrain(Plan(tiny(root, *words)), SILENT)
    inputs = inputs_of(root, *words)
    assert inputs.trajectories is None
    assert inputs.described is None
    assert inputs.features is not None
    galaxies_NF, prototypes_SF, _ = inputs.features
    expected_SF = encoder.features(inputs.prototypes).double().numpy()
    np.testing.assert_allclose(prototypes_SF, expected_SF, rtol=1e-5, atol=1e-6)
    std_F = galaxies_NF.std(axis=0)
    used = std_F > 0
    distances = np.linalg.norm(((galaxies_NF - prototypes_SF[0]) / np.where(used, std_F, 1))[:, used], axis=1)
    np.testing.assert_allclose(inputs.distances["features"][0][0], distances, rtol=1e-6)
    assert inputs.space("features") == "in the encoder's features"
    sparse = sparse_features_section(inputs)
    check_statements(sparse)
    assert "the encoder's features" in sparse.introduction[0]
