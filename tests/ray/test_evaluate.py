"""The evaluate stage: report, other runs' sets, incompatible sets, cache of fits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from ray_tools import SILENT, below, content, copy_of, figure_is_whole, tiny

from raydistill.artifacts.manifest import commit
from raydistill.errors import ArtifactIncompatible, ArtifactMissing
from raydistill.learning import metrics
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.run import run
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.stage import curate
from raydistill.stages.distill.artifact import LAST, SELECTED, DistilledSet, read_images, write_images
from raydistill.stages.distill.stage import distill
from raydistill.stages.evaluate.artifact import EvaluationReport
from raydistill.stages.evaluate.baselines import Baselines, load_teachers
from raydistill.stages.evaluate.fits import FIT_CACHE
from raydistill.stages.evaluate.report.printing import evaluation_report
from raydistill.stages.evaluate.stage import check_compatible, evaluate, load_split
from raydistill.stages.evaluate.training_sets import TrainingSets
from raydistill.storage import Folder
from raydistill.storage.checked import from_json, to_json
from raydistill.tracking.tracker import Run
from tests.damage import flipped
from tests.words import check_simulated

SEVEN = {"distilled", "random_real", "class_mean", "k_center", "dm", "experts", "full_data"}
MADE_FROM = ("survey", "curated", "trajectories", "distilled")


@pytest.fixture(scope="module")
def root(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny run up to its evaluation."""
    copied = copy_of(tiny_root, tmp_path_factory.mktemp("evaluated"), *MADE_FROM)
    evaluate(Plan(tiny(copied)), SILENT)
    return copied


@pytest.fixture(scope="module")
def report(root: Path) -> EvaluationReport:
    return EvaluationReport.open(str(below(tiny(root), "evaluation")))


def test_run_with_finished_products_does_not_rebuild_their_inputs(root: Path, tmp_path: Path) -> None:
    """A user may delete the experts, which need gigabytes."""
    config = tiny(copy_of(root, tmp_path, "distilled", "evaluation"))
    assert run(Plan(config)).summary == EvaluationReport.open(str(below(tiny(root), "evaluation"))).summary
    assert {path.name.partition("-")[0] for path in (tmp_path / "tiny").iterdir()} == {"distilled", "evaluation"}


def test_report_has_every_training_set_with_all_its_figures(report: EvaluationReport) -> None:
    on_disk = json.loads((Path(report.folder.uri) / "evaluation.json").read_text())
    assert on_disk == report.summary
    check_simulated("evaluate", tiny(report.folder.uri), report)
    assert SEVEN <= set(on_disk) <= SEVEN | {"distilled_last"}
    names = {"round", "in_between", "cigar", "edge_on", "spiral"}
    for subject, entry in on_disk.items():
        n = {"experts": 3, "full_data": 1}.get(subject, 2)
        for name in ("accuracy", "balanced_accuracy"):
            assert figure_is_whole(entry[name], n), f"{subject}: {name} is {entry[name]}"
            assert 0 <= entry[name]["mean"] <= 1
        assert set(entry["per_class"]) == names
        for figures in entry["per_class"].values():
            assert set(figures) == {"completeness", "purity"}
            assert figure_is_whole(figures["completeness"], n), "every class occurs in the test split"
        assert [pair["protocol"] for pair in entry["all"]] == ["" if n in (3, 1) else "paper"]
        assert {pair["network"] for pair in entry["all"]} == {"convnet-d2-w8"}


def test_figures_agree_with_the_confusion_matrices(root: Path, report: EvaluationReport) -> None:
    labels = CuratedSet.open(str(below(tiny(root), "curated"))).load("test").labels_N.numpy()
    rows = report.runs.to_pylist()
    for row in rows:
        matrix = np.array(row["confusion"]).reshape(5, 5)
        np.testing.assert_array_equal(matrix.sum(axis=1), np.bincount(labels, minlength=5), err_msg=row["subject"])
        assert row["accuracy"] == pytest.approx(np.trace(matrix) / matrix.sum())
        assert row["balanced_accuracy"] == pytest.approx((np.diag(matrix) / matrix.sum(axis=1)).mean())
    for subject, entry in report.summary.items():
        accuracies = [row["balanced_accuracy"] for row in rows if row["subject"] == subject]
        assert entry["balanced_accuracy"]["mean"] == pytest.approx(np.mean(accuracies))
    random_draws = [row["draw"] for row in rows if row["subject"] == "random_real"]
    assert random_draws == [0, 1], "real images are drawn anew for every network"


def test_second_evaluation_trains_only_new_fits(root: Path, report: EvaluationReport, tmp_path: Path) -> None:
    root = Path(shutil.copytree(root, tmp_path / "runs"))

    def fits(at: Path) -> dict[str, tuple[int, int]]:
        paths = (at / "tiny" / FIT_CACHE).glob("*.json")
        return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}

    before = fits(root)
    trained = [row for row in report.runs.to_pylist() if row["subject"] != "experts"]
    assert len(before) == len(trained)
    more = tiny(root, "evaluate.num_networks=3")
    evaluate(Plan(more), SILENT)
    after = fits(root)
    assert {name: after[name] for name in before} == before, "a fit was trained twice"
    subjects = {row["subject"] for row in trained} - {"full_data"}
    assert len(after) - len(before) == len(subjects)

    damaged = sorted(after)[0]
    cached = root / "tiny" / FIT_CACHE / damaged
    cached.write_bytes(flipped(cached.read_bytes(), cached.stat().st_size // 2))
    (below(tiny(root, "evaluate.num_networks=3"), "evaluation") / "manifest.json").unlink()
    evaluate(Plan(more), SILENT)
    again = fits(root)
    assert {name for name in after if again[name] != after[name]} == {damaged}

    (below(tiny(root), "evaluation") / "manifest.json").unlink()
    evaluate(Plan(tiny(root)), SILENT)
    assert fits(root) == again
    assert content(Plan(tiny(root)).evaluation) == report.manifest.content


def test_learned_rate_competes_with_the_grid(root: Path, report: EvaluationReport, tmp_path: Path) -> None:
    root = Path(shutil.copytree(root, tmp_path / "runs"))
    before = set((root / "tiny" / FIT_CACHE).glob("*.json"))
    both = evaluate(Plan(tiny(root, "evaluate.protocols.paper.learned_lr=candidate")), SILENT)
    tried = len(set((root / "tiny" / FIT_CACHE).glob("*.json")) - before)
    ours = [row for row in both.runs.to_pylist() if row["subject"] in ("distilled", "distilled_last")]
    assert tried == len(ours) > 0, "the distilled sets are trained at the grid's rate too, and the baselines are cached"
    for subject in {row["subject"] for row in ours}:
        (rate,) = {row["lr"] for row in ours if row["subject"] == subject}
        assert rate in (None, 0.01)


def test_diverged_networks_are_logged_and_counted(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = Path(shutil.copytree(root, tmp_path / "runs"))
    rates = "evaluate.protocols={wild: {learned_lr: never, lr_grid: [1e30], training: {epochs: 3}}}"
    report = evaluate(
        Plan(tiny(root, "evaluate.protocols.paper=null", rates, "evaluate.baselines=[class_mean, el2n_window]")), SILENT
    )
    for subject in ("distilled", "class_mean", "el2n_window"):
        assert report.summary[subject]["diverged"] == report.summary[subject]["accuracy"]["n"] == 2
        assert f"2 of 2 networks of {subject} under wild diverged" in caplog.text
    assert "diverged" not in report.summary["full_data"]


def test_set_is_evaluated_on_another_survey_by_its_path(root: Path, tmp_path: Path) -> None:
    theirs = below(tiny(root), "distilled")
    config = tiny(copy_of(root, tmp_path, "survey"), "curate.crop_fraction=0.8", f"distilled={theirs}")
    curate(Plan(config), SILENT)
    report = evaluate(Plan(config), SILENT)
    assert set(report.summary) >= SEVEN, "the experts must be found through the distilled set's parents"
    given = DistilledSet.open(str(theirs))
    assert report.manifest.parents["distilled"].content == given.manifest.content
    assert not list((tmp_path / "tiny").glob("distilled-*")), "a set was distilled without need"
    assert report.manifest.parents["curated"].content == content(Plan(config).curated)


def test_set_made_from_the_test_galaxies_is_rejected(root: Path, tmp_path: Path) -> None:
    theirs = f"distilled={below(tiny(root), 'distilled')}"
    config = tiny(copy_of(root, tmp_path, "survey"), "curate.split=[0.4, 0.1, 0.5]", theirs)
    curate(Plan(config), SILENT)
    with pytest.raises(ArtifactIncompatible, match=r"of the test galaxies were used to make it.*curate\.split"):
        evaluate(Plan(config), SILENT)


def test_test_galaxies_used_under_another_id_are_left_out(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Recognise test galaxies under other ids, which fall into other splits.

    Galaxies of Galaxy Zoo 2 have other ids on Kaggle.
    """
    (survey,) = copy_of(root, tmp_path, "survey").glob("tiny/survey-*")
    for name in ("catalog.csv", "filename_mapping.csv"):
        (survey / name).write_text((survey / name).read_text().replace("sim-", "renamed-"))
    images = f"{{kind: folder, root: {survey}/images, mapping: {survey}/filename_mapping.csv}}"
    words = (f"survey={{kind: catalog, catalog: {survey}/catalog.csv, dialect: hart16, images: {images}}}",)
    theirs = below(tiny(root), "distilled")
    plan = Plan(tiny(tmp_path, *words, f"distilled={theirs}", "evaluate.baselines=[]", "evaluate.full_data_networks=0"))
    curate(plan, SILENT)
    test = CuratedSet.open(plan.curated.folder).table("test", ["source"])["source"].to_pylist()
    seen = set(DistilledSet.open(str(theirs)).seen()["sha256"].to_pylist())
    known = sum(source["sha256"] in seen for source in test)
    assert 0 < known < len(test)
    report = evaluate(plan, SILENT)
    assert (
        f"{known} of {len(test)} test galaxies were used under another id to make this set, and are left out"
        in caplog.text
    )
    assert {sum(row["confusion"]) for row in report.runs.to_pylist()} == {len(test) - known}


def test_experts_are_found_after_the_run_folder_was_moved(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "tiny", tmp_path / "elsewhere" / "tiny")
    moved = tiny(tmp_path / "elsewhere")
    distilled = below(moved, "distilled") / "manifest.json"
    manifest = from_json(distilled.read_bytes())
    manifest["parents"]["trajectories"]["uri"] = str(tmp_path / "gone")
    distilled.write_bytes(to_json(manifest))
    (below(moved, "evaluation") / "manifest.json").unlink()
    assert "experts" in evaluate(Plan(moved), SILENT).summary


def test_experts_label_the_baselines_of_a_set_with_soft_labels(root: Path, tmp_path: Path) -> None:
    config = tiny(
        copy_of(root, tmp_path, "survey", "curated", "trajectories"), "distill.labels=soft", "distill.iterations=2"
    )
    plan = Plan(config)
    soft = distill(plan, SILENT)
    curated = CuratedSet.open(str(below(config, "curated")))
    teachers = load_teachers(plan, soft, curated)
    assert teachers is not None
    train = load_split(curated, "train", soft.selected.normalisation)
    cache, content = Folder(str(tmp_path / "run")), curated.manifest.content
    baselines = Baselines(config, train, (1,) * curated.num_classes, 0, cache, content)
    for sets in TrainingSets(config.evaluate, soft, baselines, teachers, None).small():
        for training_set in sets:
            np.testing.assert_allclose(training_set.targets_NK.sum(dim=1), 1, atol=1e-5)
            assert float(training_set.targets_NK.max()) < 1, f"{training_set.name} has hard labels"
    hard = DistilledSet.open(str(below(tiny(root), "distilled")))
    for sets in TrainingSets(config.evaluate, hard, baselines, teachers, None).small():
        assert set(sets[0].targets_NK.unique().tolist()) == {0.0, 1.0}


def test_set_of_another_image_size_is_rejected(root: Path, tmp_path: Path) -> None:
    config = tiny(
        copy_of(root, tmp_path, "survey"), "curate.image_size=12", f"distilled={below(tiny(root), 'distilled')}"
    )
    curate(Plan(config), SILENT)
    with pytest.raises(ArtifactIncompatible, match=r"16 px.*12.*set curate\.image_size=16"):
        evaluate(Plan(config), SILENT)


def test_set_of_other_classes_is_rejected(root: Path, tmp_path: Path) -> None:
    original = Folder(str(below(tiny(root), "distilled")))
    other = Folder(str(tmp_path / "other"))
    for name in (SELECTED, LAST):
        images, info = read_images(original, name)
        write_images(other, name, images, {**info, "class_names": ["cat", "dog", "cow", "hen", "pig"]})
    commit(other, kind="distilled", identity="ab" * 32, config={}, parents={}, seed=0, uris={})
    config = tiny(copy_of(root, tmp_path, "survey", "curated"), f"distilled={other}")
    with pytest.raises(ArtifactIncompatible, match=r"classes are cat, dog, .*the survey.*round, in_between"):
        evaluate(Plan(config), SILENT)


def test_aligned_set_fits_unaligned_galaxies_only_where_training_turns_it(root: Path, tmp_path: Path) -> None:
    original, aligned = Folder(str(below(tiny(root), "distilled"))), Folder(str(tmp_path / "aligned"))
    for name in (SELECTED, LAST):
        images, info = read_images(original, name)
        write_images(aligned, name, images, {**info, "aligned": True})
    commit(aligned, kind="distilled", identity="ab" * 32, config={}, parents={}, seed=0, uris={})
    given, curated = DistilledSet.open(str(aligned)), CuratedSet.open(str(below(tiny(root), "curated")))
    turning, level = (
        tiny(root, f"augmentation.operations=[{name}]").evaluate.protocols for name in ("dihedral", "mirror")
    )
    check_compatible(given, curated, turning)
    with pytest.raises(ArtifactIncompatible, match=r"'paper' does not turn them in training; set curate\.align=true"):
        check_compatible(given, curated, level)


def test_unfinished_set_is_rejected(root: Path, tmp_path: Path) -> None:
    config = tiny(copy_of(root, tmp_path, "survey", "curated", "distilled"))
    (below(config, "distilled") / "manifest.json").unlink()
    with pytest.raises(ArtifactMissing):
        evaluate(Plan(config), SILENT)


SCORED = ("evaluate.scores=true", "evaluate.full_data_networks=2", "evaluate.other_networks=[{kind: mlp, width: 8}]")


def test_scores_and_another_network_train_only_the_missing_fits(
    root: Path, report: EvaluationReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: dict[str, float] = {}
    monkeypatch.setattr(Run, "metrics", lambda self, values, step: sent.update(values))
    shutil.copytree(root / "tiny", tmp_path / "tiny")
    config = tiny(tmp_path, *SCORED, "evaluate.baselines=[class_mean]")
    scored = evaluate(Plan(config), SILENT)
    trained = [(row["subject"], row["protocol"], row["network"]) for row in scored.runs.to_pylist()]
    small = {"distilled", "class_mean"} | ({"distilled_last"} & {subject for subject, _, _ in trained})
    plain, wide = "paper without augmentation", "convnet-d2-w8"
    expected = {(s, "paper", network) for s in small for network in (wide, "mlp-w8")}
    expected |= {(s, plain, wide) for s in ("distilled", "class_mean", "random_real")} | {
        ("random_real", "paper", wide)
    }
    expected |= {("experts", "", wide), ("full_data", "", wide)}
    assert set(trained) == expected
    assert all(trained.count(pair) == (3 if pair[0] == "experts" else 2) for pair in expected)

    def of(subject: str, protocol: str) -> list[float]:
        rows = scored.runs.to_pylist()
        return [
            r["balanced_accuracy"]
            for r in rows
            if (r["subject"], r["protocol"], r["network"]) == (subject, protocol, wide)
        ]

    robust = scored.summary["distilled"]["scores"]
    real, ours, random = of("full_data", ""), of("distilled", "paper"), of("random_real", "paper")
    assert robust["label_robust"] == metrics.label_robust(real, ours, random)
    assert robust["augmentation_robust"] == metrics.augmentation_robust(
        ours, random, of("distilled", plain), of("random_real", plain)
    )
    assert sent["distilled/label_robust_score"] == robust["label_robust"]["score"]
    assert sent["distilled/augmentation_robust_low"] == robust["augmentation_robust"]["low"]
    means = scored.summary["class_mean"]["scores"]
    assert means["label_robust"] == metrics.label_robust(real, of("class_mean", "paper"), random)
    assert means["augmentation_robust"] == metrics.augmentation_robust(
        of("class_mean", "paper"), random, of("class_mean", plain), of("random_real", plain)
    )
    assert EvaluationReport.open(scored.folder).summary == scored.summary
    # Both evaluations train the same bits.
    for subject in small:
        assert scored.summary[subject]["balanced_accuracy"] == report.summary[subject]["balanced_accuracy"]

    assert (Path(scored.folder.uri) / "networks.png").stat().st_size > 0
    assert not (Path(report.folder.uri) / "networks.png").exists(), "the figure needs two networks"
    text = evaluation_report(config, scored)
    assert max(map(len, text.splitlines())) <= 80
    assert "label-robust" in text
    assert f"{robust['augmentation_robust']['score']:.3f}" in text
    mlp = next(e for e in scored.summary["class_mean"]["all"] if e["network"] == "mlp-w8")["balanced_accuracy"]
    assert f"{mlp['mean']:.3f}" in text.partition("other networks")[2]


def test_scores_compare_soft_labels_with_hard_ones(root: Path, tmp_path: Path) -> None:
    copied = copy_of(root, tmp_path, "survey", "curated", "trajectories")
    config = tiny(copied, "distill.labels=soft", "distill.iterations=2", *SCORED, "evaluate.baselines=[random_real]")
    plan = Plan(config)
    soft = distill(plan, SILENT)
    curated = CuratedSet.open(str(below(config, "curated")))
    train = load_split(curated, "train", soft.selected.normalisation)
    baselines = Baselines(config, train, (1,) * 5, 0, Folder(str(tmp_path / "run")), curated.manifest.content)
    subjects = TrainingSets(config.evaluate, soft, baselines, load_teachers(plan, soft, curated), None)
    additional = list(subjects.for_scores())
    assert [(sets[0].name, name) for sets, name, _ in additional] == [
        ("distilled_hard", "paper"),
        ("distilled", "paper without augmentation"),
        ("random_real", "paper without augmentation"),
    ]
    (hard, *_), (ours, *_), random = (sets for sets, _, _ in additional)
    assert torch.equal(hard.images_NCHW, ours.images_NCHW)
    assert torch.equal(hard.targets_NK, torch.eye(5))
    assert hard.student_lrs is None
    assert all(float(training_set.targets_NK.max()) < 1 for training_set in random), (
        "random real images must have soft labels too"
    )
    assert [protocol.training.augmentation.operations for _, _, protocol in additional] == [("dihedral",), (), ()]

    shutil.rmtree(below(config, "trajectories"))
    with pytest.raises(
        ArtifactIncompatible, match=r"its experts, which would label .* are missing; set evaluate\.scores=false"
    ):
        evaluate(plan, SILENT)
