"""Test the audit stage: equal content on 1 and 2 workers, and resuming.

Also test distilled sets, and rejected sets.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray_tools import SILENT, copy_of, killing, tiny

from raydistill.errors import ArtifactIncompatible, ArtifactMissing, ConfigError
from raydistill.pipeline.plan import Plan
from raydistill.runtime import ray_data
from raydistill.stages.audit import inputs, stage
from raydistill.stages.audit.artifact import QUIZ, REPORT, AuditReport, audit_spec
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.stage import curate
from raydistill.stages.pretrain.stage import pretrain
from raydistill.stages.sample.artifact import SyntheticSet
from raydistill.stages.sample.stage import sample
from raydistill.stages.simulate.stage import simulate
from raydistill.statistics.memorisation import RealNeighbours, picture_distances, two_generators
from tests.unit.stages.sample_tools import write_generator
from tests.words import check_simulated

pytestmark = pytest.mark.usefixtures("cluster")

INPUTS = ("survey", "curated", "trajectories", "generator", "synthetic")
FEW = ("sample.sampling={steps: 2}", "sample.num_images=40", "audit.permutations=699")


@pytest.fixture(scope="module")
def root(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run folder up to the synthetic set of a generator with random weights."""
    root = copy_of(tiny_root, tmp_path_factory.mktemp("audit"), *INPUTS[:-2])
    write_generator(Plan(tiny(root)))
    sample(Plan(tiny(root, *FEW)), SILENT)
    return root


def audited(root: Path, *overrides: str, path: str | None = None) -> AuditReport:
    given = [] if path is None else [f"audit.set={path}"]
    return stage.audit(Plan(tiny(root, *FEW, *overrides, *given)), SILENT)


@pytest.fixture(scope="module")
def report(root: Path) -> AuditReport:
    return audited(root, "resources.workers=1")


def test_random_weights_differ_from_galaxies(report: AuditReport) -> None:
    spaces = {finding.feature for finding in report.findings if finding.metric == "frechet"}
    assert spaces == {"scattering", "morphology", "experts"}
    assert len(report.significant) > 5
    assert {finding.feature for finding in report.significant} >= spaces
    assert not {finding.metric for finding in report.significant} & {"memorisation", "nearer_to_training"}
    assert report.table()["p_value"].between(0, 1).all()
    check_simulated("audit", tiny(report.folder.uri), report)


def test_every_picture_gets_a_score(root: Path, tmp_path: Path, report: AuditReport) -> None:
    assert report.pictures().empty
    one, third = (copy_of(root, tmp_path / name, *INPUTS) for name in ("one", "third"))
    other = sample(Plan(tiny(third, *FEW, "sample.seed=1")), SILENT)
    wanted = f"audit.pictures=['{other.folder.uri}']"
    scored = audited(one, "resources.workers=1", wanted)
    rows, plan = scored.pictures(), Plan(tiny(root, *FEW))
    counts = {name: CuratedSet.open(plan.curated.folder).table(name).num_rows for name in ("validation", "test")}
    assert rows["set"].value_counts().to_dict() == {
        "audited": 40, "held-out": sum(counts.values()), str(other.folder.uri): 40,
    }  # fmt: skip
    assert (rows["synthetic"] == (rows["set"] != "held-out")).all()
    means = rows.groupby("set")["score"].mean()
    assert means["audited"] > 0.9  # random weights give pictures that no galaxy is like
    assert means[str(other.folder.uri)] > 0.8
    assert means["held-out"] < 0.2


@pytest.mark.long
def test_any_number_of_workers_gives_the_same_scores(root: Path, tmp_path: Path) -> None:
    one, two, third = (copy_of(root, tmp_path / name, *INPUTS) for name in ("one", "two", "third"))
    wanted = f"audit.pictures=['{sample(Plan(tiny(third, *FEW, 'sample.seed=1')), SILENT).folder.uri}']"
    scored = audited(one, "resources.workers=1", wanted)
    assert audited(two, "resources.workers=2", wanted).manifest.content == scored.manifest.content


def test_all_training_pictures_are_searched(report: AuditReport, root: Path) -> None:
    """The nearest pairs equal those of a plain search."""
    plan = Plan(tiny(root, *FEW))
    curated, samples = CuratedSet.open(plan.curated.folder), SyntheticSet.open(plan.synthetic.folder).load()
    rows = report.nearest()
    pictures = samples.images_NHWC[[samples.object_ids.index(name) for name in rows["object_id"]]].numpy() / 255
    training, held_out = curated.load("train"), [curated.load("validation"), curated.load("test")]
    for name, ids, images in (
        ("training", training.object_ids, training.images_NHWC.numpy()),
        (
            "held_out",
            [name for block in held_out for name in block.object_ids],
            np.concatenate([block.images_NHWC for block in held_out]),
        ),
    ):
        distances = picture_distances(pictures, images / 255)
        np.testing.assert_allclose(rows[f"{name}_distance"], distances.min(1), rtol=1e-9)
        assert rows[f"{name}_id"].tolist() == [ids[row] for row in distances.argmin(1)]


def test_extra_sets_of_the_generator_are_searched_too(tiny_root: Path, tmp_path: Path) -> None:
    """Another split of the survey has training pictures that the own set holds out."""
    root = copy_of(tiny_root, tmp_path, "survey", "curated")
    other = curate(Plan(tiny(root, "curate.split=[0.9, 0.05, 0.05]")), SILENT)
    overrides = (f"generate.extra_sets=['{other.folder.uri}']", "audit.spaces=[morphology]")
    plan = Plan(tiny(root, *FEW, *overrides))
    write_generator(plan)
    samples, curated = sample(plan, SILENT).load(), CuratedSet.open(plan.curated.folder)
    report = audited(root, *overrides)
    rows, searched = report.nearest(), [curated.load("train"), other.load("train")]
    assert report.summary.num_searched == sum(len(block.object_ids) for block in searched)
    pictures = samples.images_NHWC[[samples.object_ids.index(name) for name in rows["object_id"]]].numpy() / 255
    distances = picture_distances(pictures, np.concatenate([block.images_NHWC for block in searched]) / 255)
    np.testing.assert_allclose(rows["training_distance"], distances.min(1), rtol=1e-9)
    assert not set(rows["training_id"]) <= set(searched[0].object_ids)


def test_two_workers_give_the_same_content(report: AuditReport, root: Path, tmp_path: Path) -> None:
    other = audited(copy_of(root, tmp_path, *INPUTS), "resources.workers=2")
    assert other.manifest.content == report.manifest.content


def test_an_existing_audit_is_opened(report: AuditReport, root: Path) -> None:
    assert audited(root).manifest.content == report.manifest.content


@pytest.mark.long
def test_a_killed_worker_changes_nothing(report: AuditReport, root: Path, tmp_path: Path) -> None:
    plan = Plan(tiny(copy_of(root, tmp_path, *INPUTS), *FEW, "resources.workers=1"))
    blocks = Path(audit_spec(plan).folder.uri) / "partial" / "blocks"
    with killing("MapBatches", lambda: blocks.is_dir() and len(list(blocks.glob("*.safetensors"))) > 1):
        killed = stage.audit(plan, SILENT)
    assert killed.manifest.content == report.manifest.content


def test_a_killed_audit_measures_only_the_missing_blocks(
    report: AuditReport, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(tiny(copy_of(root, tmp_path, *INPUTS), *FEW))
    blocks = Path(audit_spec(plan).folder.uri) / "partial" / "blocks"

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage, "_compare", interrupt)
        with pytest.raises(KeyboardInterrupt):
            stage.audit(plan, SILENT)
    lost = sorted(blocks.iterdir())[3]
    lost.unlink()
    map_blocks, measured = ray_data.map_blocks, []

    def count(tables: list[Any], measure: Any, resources: Any) -> Any:
        measured.extend(table["block"][0].as_py() for table in tables)
        return map_blocks(tables, measure, resources)

    monkeypatch.setattr(ray_data, "map_blocks", count)
    resumed = stage.audit(plan, SILENT)
    assert measured == [f"blocks/{lost.name}"]
    assert resumed.manifest.content == report.manifest.content
    assert not blocks.exists()


def test_chosen_spaces_and_proportions_are_audited(report: AuditReport, root: Path) -> None:
    other = audited(root, "audit.spaces=[scattering]", "audit.match_classes=false")
    assert {finding.metric for finding in other.findings} >= {"total_variation", "class_share", "frechet"}
    assert other.summary.num_pictures == 36
    for name in (REPORT, QUIZ):
        page = report.folder.read(name).decode()
        assert page.startswith("<!doctype html>")
        assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page)
        assert page.count("data:image/png;base64,") >= 20


def test_features_of_an_encoder_are_a_space(root: Path) -> None:
    words = ("features=pretrain", "pretrain.source={kind: weights}")
    pretrain(Plan(tiny(root, *FEW, *words)), SILENT)
    report = audited(root, *words, "audit.spaces=[scattering, encoder]")
    assert report.summary.spaces == ("scattering", "encoder")
    assert set(report.manifest.parents) == {"curated", "synthetic", "encoder"}
    assert {finding.feature for finding in report.significant if finding.metric == "frechet"} == {
        "scattering",
        "encoder",
    }
    with pytest.raises(ConfigError, match="features: no encoder is named"):
        audited(root, "audit.spaces=[encoder]")


def test_another_survey_is_compared_and_an_equal_one_does_not_differ(root: Path, tmp_path: Path) -> None:
    """The other survey has the same simulator and another seed."""
    plan = Plan(tiny(tmp_path, "seed=4"))
    simulate(plan, SILENT)
    other = curate(plan, SILENT)
    report = audited(root, "audit.spaces=[scattering, morphology]", path=other.folder.uri)
    assert (report.summary.audited, report.summary.other_survey) == ("curated", other.summary.survey)
    assert not report.significant
    page, quiz = (report.folder.read(name).decode() for name in (REPORT, QUIZ))
    assert "own against own" in page
    assert "synthetic pictures" not in page
    assert "Which survey?" in quiz


def test_two_generators_of_disjoint_halves_are_compared(tiny_root: Path, tmp_path: Path) -> None:
    """The neighbours in both halves equal those of a plain search."""
    root = copy_of(tiny_root, tmp_path, "survey")
    few = (*FEW, "audit.spaces=[morphology]")
    parts = [(*few, f"curate.part={{index: {number}, parts: 2}}") for number in (0, 1)]
    halves = [curate(Plan(tiny(root, *part)), SILENT) for part in parts]
    for part in parts:
        write_generator(Plan(tiny(root, *part)))
    first, second = (sample(Plan(tiny(root, *part)), SILENT).folder.uri for part in parts)
    plan = Plan(tiny(root, *parts[0], f"audit.second={second}"))
    report = stage.audit(plan, SILENT)
    found = {finding.metric: finding for finding in report.findings if "own_half" in finding.metric}
    assert set(found) == {"own_half", "nearer_to_own_half"}
    assert report.summary.second

    blocks = stage._draw(plan, halves[0], inputs.open_audited(plan.synthetic, halves[0]), first)
    assert blocks.second is not None
    pictures = np.concatenate([blocks.synthetic_images, blocks.second]) / 255
    galaxies = [half.load("train") for half in halves]
    distances = picture_distances(pictures, np.concatenate([half.images_NHWC for half in galaxies]) / 255)
    count = len(galaxies[0].object_ids)
    by_hand = two_generators(RealNeighbours.of(distances, count), len(blocks.second), permutations=19)
    assert {f.metric: f.value for f in by_hand} == pytest.approx({name: f.value for name, f in found.items()})

    with pytest.raises(ArtifactIncompatible, match=f"{count} of its generator's {count} training galaxies are also"):
        audited(root, *parts[0][len(FEW) :], f"audit.second={first}")
    with pytest.raises(ArtifactIncompatible, match="the first set is curated, and two synthetic sets are compared"):
        audited(root, *parts[0][len(FEW) :], f"audit.second={second}", path=halves[1].folder.uri)


def test_sets_that_cannot_be_audited_are_rejected(root: Path, tiny_root: Path, tmp_path: Path) -> None:
    plan = Plan(tiny(tiny_root))
    with pytest.raises(ArtifactIncompatible, match=r"5 distilled, .* give samples of 5 of the same class proportions"):
        audited(root, path=plan.distilled.folder.uri)
    with pytest.raises(ArtifactIncompatible, match="this is the curated set that others are compared with"):
        audited(root, path=plan.curated.folder.uri)
    with pytest.raises(ArtifactMissing, match="no finished set is here"):
        audited(root, path=str(tmp_path))
