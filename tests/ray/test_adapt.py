"""Test the adapt stage: its figures, and equal content on 1 and 2 workers.

Also test resuming, and rejected sets.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray_tools import SILENT, TINY, copy_of, tiny
from sklearn.metrics import roc_auc_score

from raydistill.artifacts.display import open_artifact
from raydistill.artifacts.manifest import describe_kind
from raydistill.errors import ArtifactIncompatible, ArtifactMissing, ConfigError
from raydistill.learning import metrics
from raydistill.pipeline.plan import Plan
from raydistill.stages.adapt import stage
from raydistill.stages.adapt.artifact import FIGURE, AdaptationReport, adaptation_spec
from raydistill.stages.adapt.opening import as_images
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.stage import curate
from raydistill.stages.sample.stage import sample
from raydistill.stages.simulate.stage import simulate
from tests.unit.stages.sample_tools import write_generator

pytestmark = pytest.mark.usefixtures("cluster")

RENAMED = {
    "smooth_round": "round",
    "smooth_in_between": "in_between",
    "smooth_cigar": "cigar",
    "edge_on_bulge": "edge_on",
    "edge_on_no_bulge": "edge_on",
    "bar_spiral": "spiral",
    "no_bar_spiral": "spiral",
    "bar_no_spiral": None,
    "no_bar_no_spiral": None,
    "lens": None,
}
CLASSES = "adapt.classes={" + ", ".join(f"{a}: {b or 'null'}" for a, b in RENAMED.items()) + "}"
SMALL = (
    CLASSES,
    "adapt.training={steps: 30, batch_size: 8}",
    "adapt.network={kind: convnet, depth: 2, width: 8}",
    "adapt.lr_grid=[0.01]",
    "adapt.strengths=[0.5, 2]",
    "adapt.seeds=2",
    "resources.workers=1",
)
INPUTS = ("survey", "curated", "trajectories", "distilled")


@pytest.fixture(scope="module")
def target(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of the curated set of another telescope, with lenses."""
    root = tmp_path_factory.mktemp("target")
    survey = ("survey.telescope.stretch=0.05", "survey.lens_fraction=0.2", "survey.num_galaxies=120", "seed=11")
    plan = Plan(tiny(root, *survey, "curate.classes=gz2-9-lens"))
    simulate(plan, SILENT)
    return curate(plan, SILENT).folder.uri


@pytest.fixture(scope="module")
def root(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of(tiny_root, tmp_path_factory.mktemp("adapt"), *INPUTS)


def adapted(root: Path, target: str, *overrides: str) -> AdaptationReport:
    return stage.adapt(Plan(tiny(root, *SMALL, *overrides, f"adapt.target={target}")), SILENT)


@pytest.fixture(scope="module")
def report(root: Path, target: str) -> AdaptationReport:
    distilled = Plan(tiny(root)).distilled.folder.uri
    return adapted(root, target, f"adapt.distilled={distilled}")


@pytest.fixture(scope="module")
def plain(root: Path, target: str, tmp_path_factory: pytest.TempPathFactory) -> AdaptationReport:
    """Return the report of the galaxies of the source alone."""
    return adapted(copy_of(root, tmp_path_factory.mktemp("plain"), *INPUTS), target)


def test_report_has_the_four_figures_of_each_training_set(report: AdaptationReport) -> None:
    assert list(report.figures) == ["source", "distilled"]
    for entry in report.figures.values():
        for name in ("source", "source_adapted", "none", "matched", "adapted", "upper_bound"):
            assert 0 < entry[name]["mean"] <= 1
            assert entry[name]["n"] == 2
        assert entry["strength"] in (0.5, 2)
        assert set(entry["source_loss"]) == {"value", "low", "high"}
    assert report.figures["source"]["upper_bound"] == report.figures["distilled"]["upper_bound"]
    assert report.summary["unseen"] == ["bar_no_spiral", "no_bar_no_spiral", "lens"]
    assert Path(report.folder.local(FIGURE)).stat().st_size > 10_000
    rejected, figures = report.rejected(), report.summary["rejected"]
    assert len(rejected) == figures["count"]
    assert (rejected["entropy"] > figures["threshold"]).all()
    known, unseen = (~rejected["class"].isin(report.summary["unseen"])).sum(), report.summary["num_unseen"]
    assert figures["of_known"] == known / report.summary["num_target"]
    assert figures["of_unseen"] == (len(rejected) - known) / unseen


def test_networks_may_take_features_in_place_of_pictures(root: Path, target: str, report: AdaptationReport) -> None:
    """The features of the source's experts tell its classes apart."""
    distilled = f"adapt.distilled={Plan(tiny(root)).distilled.folder.uri}"
    others = [override for override in SMALL if not override.startswith(("adapt.network", "adapt.lr_grid"))]
    others += ["adapt.features=true", "adapt.network={kind: mlp, width: 16}", "adapt.lr_grid=[0.03]", distilled]
    # The command starts a Ray of its own, which the tasks that compute features need.
    words = [str(TINY), target, f"output={root}", "tracking.enabled=false", *others]
    ended = subprocess.run([sys.executable, "-m", "raydistill.cli", "adapt", *words], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-2000:]
    by_features = AdaptationReport.open(ended.stdout.splitlines()[-1])
    assert list(by_features.figures) == ["source", "distilled"]
    assert "trajectories" in by_features.manifest.parents
    assert by_features.figures["source"]["source"]["mean"] > report.figures["source"]["source"]["mean"] - 0.1
    with pytest.raises(ConfigError, match=r"adapt: features need network: \{kind: mlp\}, and got convnet"):
        adapted(root, target, "adapt.features=true")


def test_features_as_images_are_read_one_by_one_by_an_mlp() -> None:
    features = torch.arange(14.0).view(2, 7)
    images = as_images(features)
    assert images.shape == (2, 3, 2, 2)
    torch.testing.assert_close(images.flatten(1)[:, :7], features)
    assert not images.flatten(1)[:, 7:].any()


def test_rows_agree_with_the_figures(report: AdaptationReport) -> None:
    rows = report.table()
    assert len(rows) == 2 * (2 * 3 + 1)  # seeds, training sets, methods, the upper bound
    for (name, method), rows_of in rows.groupby(["training_set", "method"]):
        entries = [report.figures[name]] if name else report.figures.values()
        for entry in entries:
            assert entry[method]["mean"] == pytest.approx(rows_of["target"].mean())
            assert entry["brier"][method]["mean"] == pytest.approx(rows_of["brier"].mean())
    for row in rows.itertuples():
        matrix = np.array(row.target_confusion).reshape(5, 5)
        assert matrix.sum() == report.summary["num_target"]
        assert metrics.balanced_accuracy(matrix) == pytest.approx(row.target)
    assert rows["strength"].notna().tolist() == (rows["method"] == "adapted").tolist()
    bins = report.reliability()
    counts = bins.groupby(["training_set", "method"])["count"].sum()
    assert (counts == 2 * report.summary["num_target"]).all()


def test_predictions_are_those_of_the_stored_networks(
    root: Path, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Figures are computed again from probabilities and the target's own table."""
    seen: dict[str, Any] = {}
    write = stage.write_report

    def keep(plan: Plan, spec: Any, surveys: Any, trained: Any, tests: Any, predictions: Any, *others: Any) -> None:
        seen.update(tests=tests, predictions=predictions)
        write(plan, spec, surveys, trained, tests, predictions, *others)

    monkeypatch.setattr(stage, "write_report", keep)
    report = adapted(copy_of(root, tmp_path, *INPUTS), target)
    table = CuratedSet.open(target).table("test", ["class_name"])
    unseen = np.array([RENAMED[name] is None for name in table["class_name"].to_pylist()])
    assert unseen.sum() == report.summary["num_unseen"] > 0
    np.testing.assert_array_equal(seen["tests"]["target"].labels.numpy() < 0, unseen)
    rows = report.table()
    for (fit, view), p in seen["predictions"].items():
        method = {("none", "target"): "none", ("none", "matched"): "matched", ("adapted", "matched"): "adapted"}.get(
            (fit.method, view)
        )
        if method is None:
            continue
        row = rows[(rows["method"] == method) & (rows["seed"] == fit.seed)].iloc[0]
        entropy = -(p * np.log(p)).sum(axis=1)
        assert row["rejection_auroc"] == pytest.approx(roc_auc_score(unseen, entropy))


def test_labels_of_the_target_change_only_the_upper_bound_and_the_scores(
    plain: AdaptationReport, root: Path, target: str, tmp_path: Path
) -> None:
    """Rename the target's classes, hence its labels: the same networks are trained."""
    other = copy_of(root, tmp_path, *INPUTS)
    swapped = {**RENAMED, "smooth_round": "spiral", "bar_spiral": "round", "no_bar_spiral": "round"}
    words = "adapt.classes={" + ", ".join(f"{a}: {b or 'null'}" for a, b in swapped.items()) + "}"
    tables = plain.table(), adapted(other, target, words).table()
    first, second = (rows.set_index(["method", "seed"]) for rows in tables)
    kept = ["lr", "strength", "validation", "source"]
    for method in ("none", "matched", "adapted"):
        assert first.loc[method][kept].equals(second.loc[method][kept])
    for first_one, other_one in zip(
        first.loc["adapted"]["target_confusion"], second.loc["adapted"]["target_confusion"], strict=True
    ):
        assert list(first_one) != list(other_one)
    assert not first.loc["upper_bound"]["source"].equals(second.loc["upper_bound"]["source"])


def test_largest_strength_is_taken_if_any_loss_on_the_source_is_allowed(root: Path, target: str) -> None:
    assert adapted(root, target, "adapt.max_source_loss=1").figures["source"]["strength"] == 2


@pytest.mark.long
def test_two_workers_give_the_same_content(report: AdaptationReport, root: Path, target: str, tmp_path: Path) -> None:
    other = copy_of(root, tmp_path, *INPUTS)
    distilled = Plan(tiny(other)).distilled.folder.uri
    again = adapted(other, target, f"adapt.distilled={distilled}", "resources.workers=2")
    assert again.manifest.content == report.manifest.content
    assert again.manifest.identity == report.manifest.identity


def test_existing_report_is_opened_by_its_path(report: AdaptationReport) -> None:
    again = open_artifact(report.folder.uri)
    assert isinstance(again, AdaptationReport)
    assert again.summary == report.summary
    assert describe_kind(report.manifest.kind)[1] == "'raydistill adapt CONFIG'"


def test_a_killed_adaptation_trains_only_the_missing_networks(
    plain: AdaptationReport, root: Path, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(tiny(copy_of(root, tmp_path, *INPUTS), *SMALL, f"adapt.target={target}"))

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage, "write_report", interrupt)
        with pytest.raises(KeyboardInterrupt):
            stage.adapt(plan, SILENT)
    files = sorted((Path(adaptation_spec(plan).folder.uri) / stage.FITS).iterdir())
    files[1].unlink()
    files[2].write_bytes(files[2].read_bytes()[:-1])
    stored: list[str] = []
    store = stage.FitRunner.store

    def count(self: stage.FitRunner, fit: Any, result: Any) -> Any:
        stored.append(self.key(fit))
        return store(self, fit, result)

    monkeypatch.setattr(stage.FitRunner, "store", count)
    resumed = stage.adapt(plan, SILENT)
    assert sorted(stored) == sorted(file.stem for file in files[1:3])
    assert resumed.manifest.content == plain.manifest.content


def test_synthetic_sets_are_a_further_training_set(tiny_root: Path, target: str, tmp_path: Path) -> None:
    root = copy_of(tiny_root, tmp_path, "survey", "curated", "trajectories")
    few = ("sample.sampling={steps: 2}", "sample.num_images=20")
    write_generator(Plan(tiny(root)))
    path = sample(Plan(tiny(root, *few)), SILENT).folder.uri
    report = adapted(root, target, f"adapt.synthetics=['{path}']")
    assert list(report.figures) == ["source", "source_synthetic"]
    assert report.figures["source"]["none"] != report.figures["source_synthetic"]["none"]


# ---- rejected ----


def test_set_of_another_survey_is_rejected(root: Path, target: str, tmp_path: Path) -> None:
    other = copy_of(root, tmp_path, "survey")
    split = "curate.split=[0.6, 0.2, 0.2]"
    curate(Plan(tiny(other, split)), SILENT)
    distilled = Plan(tiny(root)).distilled.folder.uri
    with pytest.raises(ArtifactIncompatible, match="its images were made from another curated set"):
        adapted(other, target, split, f"adapt.distilled={distilled}")


def test_own_missing_and_other_sets_are_rejected(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the demo may have run in this folder
    plan = Plan(tiny(root))
    with pytest.raises(ArtifactIncompatible, match="this is the curated set of the source itself"):
        adapted(root, plan.curated.folder.uri)
    with pytest.raises(ArtifactIncompatible, match="curated"):
        adapted(root, plan.distilled.folder.uri)
    with pytest.raises(ArtifactMissing, match="no finished curated set is here"):
        adapted(root, str(tmp_path))
    with pytest.raises(ArtifactMissing, match="run 'raydistill run demo --to curate' first"):
        adapted(root, "demo")


def test_target_of_another_size_or_alignment_is_rejected(root: Path, tmp_path: Path) -> None:
    other = copy_of(root, tmp_path, "survey")
    for key, sentence in (("curate.image_size=8", "8 px"), ("curate.align=true", "aligned to their major axis")):
        result = curate(Plan(tiny(other, key)), SILENT)
        with pytest.raises(ArtifactIncompatible, match=sentence):
            adapted(root, result.folder.uri)
