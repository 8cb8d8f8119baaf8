"""Test the augment stage: equal content on 1 and 2 workers, and resuming.

Also test choices on validation, and rejected sets.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray_tools import SILENT, copy_of, tiny
from sklearn.linear_model import Ridge

from raydistill.artifacts.tables import read_table
from raydistill.errors import ArtifactIncompatible, ArtifactMissing, ConfigError
from raydistill.learning import metrics
from raydistill.pipeline.plan import Plan
from raydistill.stages.augment import stage
from raydistill.stages.augment.artifact import AugmentationReport, augmentation_spec
from raydistill.stages.augment.config import BASELINES, METHODS
from raydistill.stages.augment.worker import FitRunner
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.stage import curate
from raydistill.stages.pretrain.describers import open_describer
from raydistill.stages.sample.stage import sample
from raydistill.statistics.crossed import CHANGES, crossed_mean
from tests.unit.stages.sample_tools import write_generator
from tests.words import check_simulated

pytestmark = pytest.mark.usefixtures("cluster")

SAMPLES = ("sample.sampling={steps: 2}", "sample.per_class=6")
ALL = (*METHODS, "cutmix", "real_recombined")
SHORT = (
    f"augment.methods=[{', '.join(ALL)}]",
    "augment.shots=[2, null]",
    "augment.seeds=2",
    "augment.ratios=[0.5, 2]",
    "augment.min_recognised=[null, 0.1]",
    "augment.lr_grid=[0.01, 0.03]",
    "augment.network={depth: 1, width: 4}",
    "augment.training={steps: 12, batch_size: 8, average: 2}",
    "augment.record_at=[4]",
)


@pytest.fixture(scope="module")
def root(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run folder with three synthetic sets of a generator of random weights."""
    root = copy_of(tiny_root, tmp_path_factory.mktemp("augment"), "survey", "curated", "trajectories", "distilled")
    write_generator(Plan(tiny(root)))
    for seed in range(3):
        sample(Plan(tiny(root, *SAMPLES, f"sample.seed={seed}")), SILENT)
    return root


def synthetic(root: Path, seed: int) -> str:
    return str(Plan(tiny(root, *SAMPLES, f"sample.seed={seed}")).synthetic.folder.uri)


def words(root: Path) -> tuple[str, ...]:
    """Return overrides of a comparison: two sources and prototypes.

    One of the sources has two replicates.
    """
    sources = f"{{pair: ['{synthetic(root, 0)}', '{synthetic(root, 1)}'], single: ['{synthetic(root, 2)}']}}"
    return (*SHORT, f"augment.synthetics={sources}", f"augment.distilled={Plan(tiny(root)).distilled.folder.uri}")


def compared(root: Path, *overrides: str) -> AugmentationReport:
    return stage.augment(Plan(tiny(root, *words(root), *overrides)), SILENT)


def copied(root: Path, to: Path) -> Plan:
    """Return the plan of the same comparison in another run folder.

    It reads the sets of `root`.
    """
    copy_of(root, to, "survey", "curated")
    return Plan(tiny(to, *words(root), "resources.workers=1"))


@pytest.fixture(scope="module")
def report(root: Path) -> AugmentationReport:
    return compared(root, "resources.workers=1")


def test_every_method_is_compared_at_every_number_of_galaxies(report: AugmentationReport) -> None:
    table = report.table()
    assert set(table["method"]) == set(ALL)
    assert set(table["shots"]) == {"2", "all"}
    check_simulated("augment", tiny(report.folder.uri), report)
    assert set(table[table["method"] == "real_synthetic"]["source"]) == {"pair", "single", "(chosen)"}
    assert table[["balanced_accuracy", "macro_f1"]].stack().between(0, 1).all()
    assert (table["balanced_accuracy_low"] <= table["balanced_accuracy"]).all()
    runs = report.runs.to_pandas()
    assert set(runs["step"]) == {4, 12}
    pairs = runs[(runs["method"] == "real_synthetic") & (runs["source"] == "pair") & (runs["step"] == 12)]
    assert sorted(zip(pairs["shots"].fillna(0), pairs["seed"], pairs["replicate"], strict=True)) == [
        (shots, seed, replicate) for shots in (0, 2) for seed in (0, 1) for replicate in (0, 1)
    ]
    assert not runs["diverged"].any()


def test_labelled_galaxies_are_at_most_the_shots_of_each_class(report: AugmentationReport) -> None:
    runs, labelled = report.runs.to_pandas(), report.summary["labelled"]
    alone = runs[runs["method"] == "real"]
    assert set(alone[alone["shots"] == 2]["images"]) == {sum(labelled["2"])}
    assert set(alone[alone["shots"].isna()]["images"]) == {sum(labelled["all"])}
    assert max(labelled["2"]) == 2


def test_figures_are_those_of_the_counts_of_test_galaxies(report: AugmentationReport, root: Path) -> None:
    test = CuratedSet.open(Plan(tiny(root)).curated.folder).load("test").labels_N.bincount().tolist()
    k = len(report.class_names)
    for row in report.runs.to_pylist():
        counts = np.array(row["confusion"]).reshape(k, k)
        assert counts.sum(axis=1).tolist() == test
        assert row["balanced_accuracy"] == metrics.balanced_accuracy(counts)
        assert row["macro_f1"] == metrics.macro_f1(counts)


def test_candidates_are_chosen_on_validation_galaxies(report: AugmentationReport) -> None:
    trials, final = report.trials.to_pandas(), report.runs.to_pandas().query("step == 12 and replicate == 0")
    keys = ["method", "source", "shots", "seed"]
    chosen_by = dict(iter(final.groupby(keys, dropna=False)))
    tried_by = dict(iter(trials.groupby(keys, dropna=False)))
    assert len(chosen_by) == len(tried_by) == 2 * 2 * (len(ALL) + 2)
    for (key, chosen), tried in zip(chosen_by.items(), tried_by.values(), strict=True):
        assert set(tried["lr"]) == {0.01, 0.03}
        assert chosen["validation"].tolist() == [tried[tried["lr"] == chosen["lr"].item()]["validation"].max()], key
        if key[0] in ("real_synthetic", "real_distilled"):
            assert {0.5, 2} < set(tried["ratio"]), "the best of two ratios is at an end"
    for entry in report.summary["baselines"]:
        of_shots = final[final["shots"].isna() if entry["shots"] is None else final["shots"] == entry["shots"]]
        means = of_shots[of_shots["method"].isin(BASELINES)].groupby("method")["validation_all"].mean()
        assert entry["validation"] == pytest.approx(means.max(), rel=1e-12)
        assert means[entry["method"]] == means.max()


def test_differences_are_paired_by_seeds_and_test_galaxies(report: AugmentationReport) -> None:
    labels = read_table(report.folder, "galaxies.parquet")["label"].to_numpy()
    runs = report.runs.to_pandas()
    assert runs[runs["step"] == 4]["predicted"].isna().all()
    final = runs[(runs["step"] == 12) & (runs["shots"] == 2)]
    first, other = (
        np.stack(final[final["method"] == name].sort_values("seed")["predicted"]) == labels
        for name in ("focal", "mixup")
    )
    (entry,) = (
        report.differences(all_baselines=True)
        .query("shots == '2' and method == 'focal' and baseline == 'mixup'")
        .to_dict("records")
    )
    expected = crossed_mean(first.astype(float) - other, labels, CHANGES)
    figures = [entry[f"balanced_accuracy{end}"] for end in ("", "_low", "_high")]
    assert figures == pytest.approx(list(expected[:3]), abs=1e-12)


@pytest.mark.long
def test_two_workers_give_the_same_content(report: AugmentationReport, root: Path, tmp_path: Path) -> None:
    copy_of(root, tmp_path, "survey", "curated")
    other = stage.augment(Plan(tiny(tmp_path, *words(root), "resources.workers=2")), SILENT)
    assert other.manifest.content == report.manifest.content
    assert not (Path(other.folder.uri) / "partial").exists()


def test_an_existing_report_is_opened_and_paths_do_not_matter(
    report: AugmentationReport, root: Path, tmp_path: Path
) -> None:
    assert compared(root).manifest.content == report.manifest.content
    moved = copied(root, tmp_path)
    assert augmentation_spec(moved).identity == report.manifest.identity


def test_a_stopped_comparison_trains_only_the_missing_fits(
    report: AugmentationReport, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = copied(root, tmp_path)
    fits = Path(augmentation_spec(plan).folder.uri) / "partial" / "fits"

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FitRunner, "test", interrupt)
        with pytest.raises(KeyboardInterrupt):
            stage.augment(plan, SILENT)
    gone, damaged = sorted(fits.iterdir())[:2]
    gone.unlink()
    damaged.write_bytes(damaged.read_bytes()[:-8])
    store, stored = FitRunner.store, []

    def count(runner: FitRunner, fit: Any, result: Any) -> Any:
        stored.append(f"{runner.key(fit)}.safetensors")
        return store(runner, fit, result)

    monkeypatch.setattr(FitRunner, "store", count)
    resumed = stage.augment(plan, SILENT)
    assert sorted(stored) == [gone.name, damaged.name]
    assert resumed.manifest.content == report.manifest.content


def test_own_synthetic_set_is_the_default_source(root: Path) -> None:
    overrides = ("augment.methods=[oversampling, synthetic_only, real_synthetic]", "augment.shots=[2]")
    plan = Plan(tiny(root, *SAMPLES, *SHORT, *overrides))
    report = stage.augment(plan, SILENT)
    assert set(report.table()["source"]) == {"", "synthetic"}
    assert report.manifest.parents["synthetic_synthetic_1"].identity == plan.synthetic.identity


def test_sets_that_do_not_fit_are_rejected(root: Path, tiny_root: Path, tmp_path: Path) -> None:
    def rejected(error: type[Exception], match: str, *overrides: str) -> None:
        with pytest.raises(error, match=match):
            stage.augment(Plan(tiny(root, *SHORT, *overrides)), SILENT)

    samples, prototypes = synthetic(root, 0), Plan(tiny(root)).distilled.folder.uri
    rejected(ArtifactIncompatible, "this is a synthetic set, not a distilled set", f"augment.distilled={samples}")
    rejected(ArtifactMissing, "no finished synthetic set is here", f"augment.synthetics={{a: ['{tmp_path}']}}")
    rejected(
        ConfigError, "two of these paths hold the same set", f"augment.synthetics={{a: ['{samples}', '{samples}/']}}"
    )
    for change, message in (
        ("curate.split=[0.25, 0.5, 0.25]", "galaxies of the validation or test split were used to make it"),
        ("curate.align=true", "its galaxies are not aligned to their major axis, the survey's are aligned"),
        ("curate.image_size=24", "its images have 16 px, the survey's have 24"),
        ("curate.crop_fraction=0.6", "its crop_fraction is 0.5, that of the survey 0.6"),
        ("curate.classes=gz2-9", "its classes are .*, the survey's are "),
    ):
        curate(Plan(tiny(root, change)), SILENT)
        rejected(ArtifactIncompatible, message, f"augment.synthetics={{a: ['{samples}']}}", change)
    rejected(
        ArtifactIncompatible, "of the validation or test split were used", f"augment.synthetics={{a: ['{samples}']}}",
        f"augment.distilled={prototypes}", "curate.split=[0.25, 0.5, 0.25]",
    )  # fmt: skip


def test_generator_and_classifier_may_have_the_same_few_galaxies(root: Path) -> None:
    few = Plan(tiny(root, "curate.per_class=8", *SAMPLES))
    labelled = curate(few, SILENT)
    write_generator(few)
    samples = sample(few, SILENT)
    overrides = (
        "augment.methods=[oversampling, real_synthetic]", "augment.shots=[null]", "augment.min_recognised=[null]",
        f"augment.labelled={labelled.folder.uri}", f"augment.synthetics={{few: ['{samples.folder.uri}']}}",
    )  # fmt: skip
    report = stage.augment(Plan(tiny(root, *SHORT, *overrides)), SILENT)
    counts = [entry.train for entry in labelled.summary.classes]
    assert report.summary["labelled"] == {"all": counts}
    runs = report.runs.to_pandas()
    assert set(runs[runs["method"] == "oversampling"]["images"]) == {sum(counts)}
    assert set(runs[runs["method"] == "real_synthetic"]["images"]) == {sum(counts) + 30}
    assert report.manifest.parents["labelled"].content == labelled.manifest.content


def test_samples_without_a_class_are_rejected(root: Path) -> None:
    unlabelled = Plan(tiny(root, "sample.sampling={steps: 2}", "sample.num_images=4", "sample.conditions.kind=nothing"))
    samples = sample(unlabelled, SILENT)
    with pytest.raises(ArtifactIncompatible, match="4 of its 4 images have no class"):
        stage.augment(Plan(tiny(root, *SHORT, f"augment.synthetics={{a: ['{samples.folder.uri}']}}")), SILENT)


def test_samples_with_conditions_of_test_galaxies_are_rejected(root: Path) -> None:
    samples = sample(
        Plan(tiny(root, "sample.sampling={steps: 2}", "sample.conditions={kind: galaxies, split: test}")), SILENT
    )
    with pytest.raises(ArtifactIncompatible, match="it took pictures or conditions of 18 validation or test galaxies"):
        stage.augment(Plan(tiny(root, *SHORT, f"augment.synthetics={{a: ['{samples.folder.uri}']}}")), SILENT)


def test_head_on_features_is_the_ridge_of_the_labelled_galaxies(root: Path) -> None:
    report = compared(root, "augment.methods=[flips, head]", "augment.head_regularisation=[0.1, 1]")
    runs = report.runs.to_pandas()
    heads = runs[(runs["method"] == "head") & (runs["step"] == 12)]
    assert len(heads) == 4
    assert set(heads["lr"]) <= {0.1, 1.0}
    plan = Plan(tiny(root, *words(root)))
    curated = CuratedSet.open(plan.curated.folder)
    train, test = curated.load("train"), curated.load("test")
    describer = open_describer(plan, curated)
    features = {
        split: describer.features(loaded.images_NHWC).double() for split, loaded in (("train", train), ("test", test))
    }
    mean, deviation = features["train"].mean(dim=0), features["train"].std(dim=0).clamp_min(1e-6)
    row = heads[heads["shots"].isna()].iloc[0]
    counts = torch.bincount(train.labels_N, minlength=curated.num_classes)
    weights = (len(train.labels_N) / (curated.num_classes * counts[train.labels_N])).numpy()
    width = features["train"].shape[1]
    ridge = Ridge(alpha=row["lr"] * width, fit_intercept=False)
    targets = np.eye(curated.num_classes)[train.labels_N] - 1 / curated.num_classes
    ridge.fit(((features["train"] - mean) / deviation).numpy(), targets, sample_weight=weights)
    expected = ridge.predict(((features["test"] - mean) / deviation).numpy()).argmax(axis=1)
    assert np.mean(np.array(row["predicted"]) == expected) > 0.99
    assert set(report.manifest.parents) >= {"curated", "trajectories"}
