"""Training sets of a comparison are composed as described.

Its summary equals direct computation.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from raydistill.artifacts.manifest import commit
from raydistill.artifacts.tables import write_rows
from raydistill.errors import ArtifactCorrupt
from raydistill.learning import metrics
from raydistill.learning.architectures import ConvNet
from raydistill.learning.networks import build_network, initial_parameters
from raydistill.learning.normalise import Normalisation, one_hot
from raydistill.runtime.resources import Processor
from raydistill.stages.augment.artifact import KIND, REPORT, RUNS, RUNS_SCHEMA, AugmentationReport, table_rows
from raydistill.stages.augment.config import Augment, AugmentTraining
from raydistill.stages.augment.fits import Fit
from raydistill.stages.augment.inputs import Pool, draw_shots, mixed_probabilities
from raydistill.stages.augment.stage import plan_searches
from raydistill.stages.augment.summary import CHOSEN, galaxy_values, summarise
from raydistill.stages.augment.worker import Common, compose
from raydistill.statistics.crossed import CHANGES, PROPORTIONS, crossed_mean
from raydistill.storage import Folder
from raydistill.text import shown_name

LABELS = torch.tensor([0] * 40 + [1] * 12 + [2] * 3)
COMMON = Common(
    ConvNet(depth=1, width=4), Normalisation((0.1,) * 3, (0.2,) * 3), 3, 8, (4, 12), 5, Processor(1, 0), 4.7
)


def pool(labels_N: Tensor, seed: int = 0) -> Pool:
    images = torch.randint(0, 256, (len(labels_N), 8, 8, 3), generator=torch.Generator().manual_seed(seed))
    return Pool(images.to(torch.uint8), labels_N)


def test_labelled_galaxies_are_nested_and_differ_between_seeds() -> None:
    rows = [draw_shots(LABELS, shots, seed=3) for shots in (1, 5, 30, None)]
    assert [LABELS[row].bincount().tolist() for row in rows] == [[1, 1, 1], [5, 5, 3], [30, 12, 3], [40, 12, 3]]
    for smaller, larger in itertools.pairwise(rows):
        assert set(smaller.tolist()) < set(larger.tolist())
    assert not torch.equal(draw_shots(LABELS, 5, seed=4), rows[1])


@pytest.mark.parametrize("ratio", [0.25, 2.0])
def test_ratio_is_that_of_added_to_real_images_in_every_class(ratio: float) -> None:
    added = torch.tensor([0] * 7 + [1] * 70)
    probabilities = mixed_probabilities(LABELS, added, ratio)
    real, synthetic = probabilities[: len(LABELS)], probabilities[len(LABELS) :]
    for label in (0, 1):
        counts = float(real[label == LABELS].sum()), float(synthetic[added == label].sum())
        assert sum(counts) == pytest.approx(1 / 3, rel=1e-12)
        assert counts[1] / counts[0] == pytest.approx(ratio, rel=1e-12)
    assert float(real[LABELS == 2].sum()) == pytest.approx(1 / 3, rel=1e-12)


def test_class_with_added_images_alone_is_drawn_as_often_as_the_others() -> None:
    probabilities = mixed_probabilities(torch.tensor([0, 0]), torch.tensor([1, 1, 1]), 0.5)
    torch.testing.assert_close(probabilities, torch.tensor([1 / 4, 1 / 4, 1 / 6, 1 / 6, 1 / 6]).double())


@pytest.mark.parametrize(
    ("method", "shares"),
    [("real", [5 / 13, 5 / 13, 3 / 13]), ("focal", [5 / 13, 5 / 13, 3 / 13]), ("oversampling", [1 / 3] * 3)],
)
def test_methods_draw_their_own_shares_of_the_classes(method: Any, shares: list[float]) -> None:
    data = compose(pool(LABELS), None, Fit(method, shots=5), None, COMMON)
    assert data.images_NCHW.shape == (13, 3, 8, 8)
    drawn = data.targets_NK.double().T @ data.probabilities_N
    torch.testing.assert_close(drawn, torch.tensor(shares).double())


def test_methods_without_labelled_galaxies_use_the_added_images_alone() -> None:
    added, real = pool(torch.tensor([0, 1, 1, 2]), seed=1), pool(LABELS)
    data = compose(real, added, Fit("synthetic_only", "a"), None, COMMON)
    torch.testing.assert_close(data.images_NCHW, COMMON.normalised(added.images))
    votes = Pool(real.images, real.labels_N, torch.full((len(LABELS), 3), 1 / 3))
    labelled = compose(votes, None, Fit("generator_labels"), None, COMMON)
    assert torch.equal(labelled.targets_NK, torch.full((len(LABELS), 3), 1 / 3))


def test_prototypes_keep_their_normalisation_and_soft_targets() -> None:
    prototypes = Pool(torch.randn(3, 3, 8, 8), torch.arange(3), torch.eye(3) * 0.7 + 0.1)
    data = compose(pool(LABELS), prototypes, Fit("real_distilled", "distilled", 2, ratio=1.0), None, COMMON)
    assert torch.equal(data.images_NCHW[-3:], prototypes.images)
    assert torch.equal(data.targets_NK[-3:], prototypes.targets_NK)


def test_filter_keeps_images_that_the_classifier_recognises() -> None:
    added, network = pool(torch.arange(60) % 3, seed=2), build_network(COMMON.architecture, 3, 8)
    theta = 3 * initial_parameters(network, 1)
    probability = network(theta, COMMON.normalised(added.images)).softmax(1)[torch.arange(60), added.labels_N]
    least = float(probability.median())
    fit = Fit("real_synthetic", "a", 2, ratio=1.0, min_recognised=least)
    data = compose(pool(LABELS), added, fit, theta.numpy(), COMMON)
    kept = COMMON.normalised(added.images)[probability >= least]
    assert 0 < len(kept) < 60
    torch.testing.assert_close(data.images_NCHW[6:], kept)


def test_classifier_of_the_filter_has_the_same_galaxies() -> None:
    fit = Fit("real_synthetic", "a", 10, seed=3, replicate=2, lr=0.03, ratio=1.0, min_recognised=0.5)
    assert fit.filter_classifier({(10, 2): 0.03, (10, 3): 0.01}) == Fit("oversampling", shots=10, seed=3, lr=0.01)
    assert Fit("real_synthetic", "a", 10, ratio=1.0).filter_classifier({}) is None


def test_losses_and_augmentation_belong_to_their_methods() -> None:
    options = Augment()
    training = {method: Fit(method, lr=0.03).training(options, AugmentTraining()) for method in options.methods}
    assert {name for name, options in training.items() if options.focal} == {"focal"}
    assert {name for name, options in training.items() if options.class_balance} == {"class_balanced"}
    assert {name for name, options in training.items() if options.mixup} == {"mixup"}
    assert Fit("cutmix", lr=0.03).training(options, AugmentTraining()).cutmix == 1.0
    assert {name for name, options in training.items() if not options.augmentation.operations} == {"real"}
    assert {options.lr for options in training.values()} == {0.03}
    assert len({(options.steps, options.batch_size) for options in training.values()}) == 1


def test_methods_without_a_source_are_left_out() -> None:
    searches = plan_searches(Augment(shots=(10, None), seeds=2), ["a", "b"])
    mixed = [(search.source, search.shots) for search in searches if search.method == "real_synthetic"]
    assert mixed == [("a", 10)] * 2 + [("a", None)] * 2 + [("b", 10)] * 2 + [("b", None)] * 2
    assert not [search for search in searches if "distilled" in search.method]
    prototypes = plan_searches(Augment(shots=(10,)), ["distilled"])
    assert {(search.method, search.source) for search in prototypes if search.source} == {
        ("distilled_only", "distilled"),
        ("real_distilled", "distilled"),
    }


SEEDS, REPLICATES, CLASSES = 4, 2, ("round", "disk")
TEST = np.array([0] * 30 + [1] * 20)


def predictions(rng: np.random.Generator, accuracy: float) -> np.ndarray:
    return np.where(rng.random(len(TEST)) < accuracy, TEST, 1 - TEST)


def rows_of(
    method: str, source: str, replicates: int, accuracy: float, validation: float, few: float | None = None
) -> list[dict[str, Any]]:
    rng, rows = np.random.default_rng([len(method), len(source), round(100 * accuracy)]), []
    for step in (4, 12):
        for seed in range(SEEDS):
            for replicate in range(replicates):
                predicted = predictions(rng, accuracy)
                confusion = metrics.confusion(torch.tensor(predicted), torch.tensor(TEST), 2)
                rows.append(
                    {
                        "method": method, "source": source, "replicate": replicate, "shots": 10, "seed": seed,
                        "lr": 0.01, "ratio": None, "min_recognised": None, "step": step, "images": 20, "loss": 1.0,
                        "validation": validation if few is None else few, "validation_all": validation,
                        "diverged": False, "confusion": confusion.reshape(-1).tolist(),
                        "predicted": predicted.tolist() if step == 12 else None,
                        "balanced_accuracy": metrics.balanced_accuracy(confusion),
                        "macro_f1": metrics.macro_f1(confusion),
                    }
                )  # fmt: skip
    return rows


ROWS = [
    *rows_of("flips", "", 1, 0.6, validation=0.7, few=0.5),  # the best one on all validation galaxies, not on few
    *rows_of("focal", "", 1, 0.7, validation=0.6),  # better on test galaxies than the best on validation galaxies
    *rows_of("real_synthetic", "a", REPLICATES, 0.9, validation=0.8),
    *rows_of("real_synthetic", "b", 1, 0.95, validation=0.75),
    *rows_of("generator_labels", "", 1, 0.97, validation=0.9),
]


def final(method: str, source: str, figure: str) -> np.ndarray:
    chosen = [row for row in ROWS if (row["method"], row["source"], row["step"]) == (method, source, 12)]
    return np.array([row[figure] for row in chosen]).reshape(SEEDS, -1)


@pytest.fixture(scope="module")
def summary() -> dict[str, Any]:
    return summarise(ROWS, TEST, CLASSES, (10,))


def test_baseline_and_source_are_chosen_on_validation_galaxies(summary: dict[str, Any]) -> None:
    assert summary["baselines"] == [{"shots": 10, "method": "flips", "validation": 0.7}]
    assert summary["chosen_sources"] == [{"shots": 10, "source": "a", "validation": pytest.approx(0.8)}]
    by_source = {result["source"]: result for result in summary["results"] if result["method"] == "real_synthetic"}
    assert by_source[CHOSEN] | {"source": "a"} == by_source["a"]
    best = {row["baseline"] for row in summary["comparisons"] if row["best_baseline"]}
    assert best == {"flips"}


def right(method: str, source: str, replicates: int) -> np.ndarray:
    """Return whether test galaxies are classified correctly, [S, M, N]."""
    return (final(method, source, "predicted").reshape(SEEDS, replicates, -1) == TEST).astype(float)


def compared(summary: dict[str, Any], source: str) -> dict[str, Any]:
    (entry,) = (row for row in summary["comparisons"] if (row["source"], row["baseline"]) == (source, "flips"))
    return dict(entry)


@pytest.mark.parametrize(("source", "replicates"), [("a", REPLICATES), ("b", 1)])
def test_intervals_are_those_of_seeds_replicates_and_galaxies(
    summary: dict[str, Any], source: str, replicates: int
) -> None:
    ours, theirs = right("real_synthetic", source, replicates), right("flips", "", 1)
    (result,) = (entry for entry in summary["results"] if entry["source"] == source)
    for values, entry, added in (
        (ours, result["balanced_accuracy"], PROPORTIONS),
        (ours - theirs, compared(summary, source)["balanced_accuracy"], CHANGES),
    ):
        expected = crossed_mean(values, TEST, added)
        assert [entry[name] for name in ("mean", "low", "high")] == pytest.approx(list(expected[:3]), rel=1e-12)
        assert [entry[name] for name in ("seeds", "replicates", "galaxies")] == [SEEDS, replicates, len(TEST)]
    assert compared(summary, source)["balanced_accuracy"]["p_value"] == expected.p_value


@pytest.mark.parametrize(("figure", "label"), [("macro_f1", None), ("f1", 1), ("purity", 1), ("completeness", 0)])
def test_values_of_galaxies_are_those_of_the_jackknife(figure: str, label: int | None) -> None:
    """Without a galaxy the figure falls by the excess of its value, divided by n - 1."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    predicted = np.where(rng.random(400) < 0.8, labels, 1 - labels)

    def of(kept: np.ndarray) -> float:
        counts = metrics.confusion(torch.tensor(predicted[kept]), torch.tensor(labels[kept]), 2)
        return metrics.macro_f1(counts) if label is None else float(getattr(metrics, figure)(counts)[label])

    values, every = galaxy_values(predicted, labels, figure, label), np.ones(400, bool)
    assert values.mean() == pytest.approx(of(every), rel=1e-12)
    members = np.flatnonzero(labels == label) if figure == "completeness" else np.arange(400)
    for value, row in zip(values[:20], members[:20], strict=True):
        every[row] = False
        without, every[row] = of(every), True
        assert (len(members) - 1) * (values.mean() - without) == pytest.approx(value - values.mean(), abs=0.02)


def test_replicates_are_paired_with_the_baseline_of_their_seed(summary: dict[str, Any]) -> None:
    entry = compared(summary, "a")["macro_f1"]
    differences = final("real_synthetic", "a", "macro_f1") - final("flips", "", "macro_f1")
    assert differences.shape == (SEEDS, REPLICATES)
    assert entry["mean"] == pytest.approx(differences.mean(), rel=1e-12)


def test_p_values_are_adjusted_for_the_number_of_comparisons(summary: dict[str, Any]) -> None:
    family = [
        row["macro_f1"]
        for row in summary["comparisons"]
        if row["best_baseline"] and row["method"] in ("real_synthetic", "generator_labels") and row["source"] != CHOSEN
    ]
    ordered = sorted(entry["p_value"] for entry in family)
    assert len(ordered) == 3
    assert min(entry["p_holm"] for entry in family) == pytest.approx(3 * ordered[0], rel=1e-12)
    assert not [row for row in summary["comparisons"] if row["method"] == "focal" and "p_holm" in row["macro_f1"]]


def test_classes_have_figures_of_their_own(summary: dict[str, Any]) -> None:
    (entry,) = (result for result in summary["results"] if result["method"] == "flips")
    expected = [
        metrics.purity(np.array(row["confusion"]).reshape(2, 2))[1]
        for row in ROWS
        if (row["method"], row["step"]) == ("flips", 12)
    ]
    assert entry["per_class"]["disk"]["purity"]["mean"] == pytest.approx(np.mean(expected), rel=1e-12)


def test_printed_rows_hold_means_and_intervals(summary: dict[str, Any]) -> None:
    rows = {(row[0], row[1]): row for row in table_rows(summary, 10)}
    assert set(rows) == {(shown_name(result["method"]), result["source"]) for result in summary["results"]}
    assert rows["flips", ""][5] == ""
    difference = rows["survey_and_synthetic", "a"][7]
    assert difference.startswith("+0.")
    assert difference.endswith("]")


def test_report_with_one_setting_for_all_seeds_is_rejected(summary: dict[str, Any], tmp_path: Path) -> None:
    folder, older = Folder(str(tmp_path)), [{**summary["results"][0], "lr": 0.01}]
    folder.write(REPORT, json.dumps({"class_names": CLASSES, "results": older}).encode())
    commit(folder, kind=KIND, identity="i", config={}, parents={}, seed=0, uris={})
    with pytest.raises(ArtifactCorrupt, match=r"results\.0\.lr: .*make it again, or install the release"):
        AugmentationReport.open(folder)


def test_report_returns_the_summary_as_tables(summary: dict[str, Any], tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.write(REPORT, json.dumps({**summary, "class_names": CLASSES}).encode())
    write_rows(folder, RUNS, ROWS, RUNS_SCHEMA)
    commit(folder, kind=KIND, identity="i", config={}, parents={}, seed=0, uris={})
    report = AugmentationReport.open(folder)
    assert report.runs.to_pylist() == ROWS
    table = report.table().set_index(["method", "source"])
    assert table.loc[("real_synthetic", "b"), "macro_f1"] == pytest.approx(
        final("real_synthetic", "b", "macro_f1").mean()
    )
    assert set(report.differences()["baseline"]) == {"flips"}
    assert set(report.differences(all_baselines=True)["baseline"]) == {"flips", "focal"}
    mine, theirs = (
        report.per_class().set_index(["method", "source", "class_name"]).loc[name, "f1"]
        for name in (("real_synthetic", "b", "disk"), ("flips", "", "disk"))
    )
    rows = report.class_differences().set_index(["method", "source", "class_name"])
    assert rows.loc[("real_synthetic", "b", "disk"), "f1"] == pytest.approx(mine - theirs, abs=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 1}, "seeds must be at least 2"),
        ({"record_at": (1000,)}, "record_at must lie below training.steps, which is 1000, got 1000"),
        ({"shots": (10, 10)}, "shots must not name one twice, got 10, 10"),
        ({"methods": ("synthetic_only",)}, "methods must name at least one of real, flips"),
        ({"methods": ("flips", "real_synthetic")}, "min_recognised needs the classifier of oversampling"),
        ({"synthetics": {"A": ("x",)}}, "synthetics must name sources by small letters"),
        ({"synthetics": {"distilled": ("x",)}}, "and not 'distilled'"),
        ({"synthetics": {"a": ()}}, r"synthetics\.a must hold at least one path"),
        ({"training": AugmentTraining(lr=0.2)}, r"training\.lr is not used here; give lr_grid: \[0\.2\]"),
        ({"training": AugmentTraining(focal=1.0)}, r"training\.focal is not used here"),
        ({"class_balance": 1.0}, r"class_balance must lie in \(0, 1\)"),
    ],
)
def test_wrong_options_are_rejected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augment(**change)


def test_targets_of_labels_are_one_hot() -> None:
    data = compose(pool(LABELS), None, Fit("flips", shots=None), None, COMMON)
    assert torch.equal(data.targets_NK, one_hot(LABELS, 3))
