"""The summary of an evaluation follows from its runs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raydistill.artifacts.manifest import commit
from raydistill.learning import metrics
from raydistill.stages.evaluate.artifact import (
    KIND,
    RUNS_SCHEMA,
    EvaluationReport,
    by_network,
    robust_scores,
    summarise,
    unaugmented,
)
from raydistill.stages.evaluate.report.text import verdict
from raydistill.storage import Folder

NAMES = ["Er", "Sb"]
LABELS = np.repeat([0, 1], 10)


def run(
    subject: str, matrix: list[list[int]], protocol: str = "paper", network: str = "convnet", seed: int = 0
) -> dict[str, Any]:
    confusion = np.array(matrix)
    return {
        "subject": subject, "protocol": protocol, "network": network, "draw": 0, "seed": seed, "lr": 0.01, "validation": 0.7,
        "accuracy": metrics.accuracy(confusion), "balanced_accuracy": metrics.balanced_accuracy(confusion),
        "calibration_error": 0.1, "confusion": confusion.flatten().tolist(),
        "predicted": [label for row in matrix for label, count in enumerate(row) for _ in range(count)],
    }  # fmt: skip


RUNS = [
    run("distilled", [[8, 2], [1, 9]], seed=0),
    run("distilled", [[6, 4], [1, 9]], seed=1),
    run("distilled", [[0, 10], [0, 10]], protocol="other"),
    run("distilled", [[10, 0], [0, 10]], network="mlp"),
    run("random_real", [[5, 5], [5, 5]]),
    run("experts", [[9, 1], [1, 9]], protocol=""),
    run("full_data", [[10, 0], [1, 9]], protocol="own", network="convnet"),
]


@pytest.fixture
def summary() -> dict[str, Any]:
    return summarise(RUNS, LABELS, NAMES, "paper", "convnet")


def test_headline_figures_use_the_main_protocol_and_network_alone(summary: dict[str, Any]) -> None:
    figures = summary["distilled"]["accuracy"]
    assert figures["mean"] == pytest.approx((0.85 + 0.75) / 2)
    assert figures["n"] == 2
    assert figures["std"] == pytest.approx(0.1 / np.sqrt(2))


def test_all_lists_every_pair_of_protocol_and_network(summary: dict[str, Any]) -> None:
    means = {(e["protocol"], e["network"]): e["accuracy"]["mean"] for e in summary["distilled"]["all"]}
    assert means == {("paper", "convnet"): pytest.approx(0.8), ("other", "convnet"): 0.5, ("paper", "mlp"): 1.0}


def test_completeness_and_purity_per_class(summary: dict[str, Any]) -> None:
    early = summary["distilled"]["per_class"]["Er"]
    assert early["completeness"]["mean"] == pytest.approx((0.8 + 0.6) / 2)
    assert early["purity"]["mean"] == pytest.approx((8 / 9 + 6 / 7) / 2)


def test_experts_and_full_data_keep_their_own_network(summary: dict[str, Any]) -> None:
    assert summary["experts"]["accuracy"]["mean"] == pytest.approx(0.9)
    assert summary["full_data"]["accuracy"]["mean"] == pytest.approx(0.95)


def test_a_class_never_predicted_has_no_purity() -> None:
    figures = summarise([run("k_center", [[0, 10], [0, 10]])], LABELS, NAMES, "paper", "convnet")["k_center"]
    assert figures["per_class"]["Er"]["purity"]["mean"] is None
    assert figures["per_class"]["Er"]["completeness"]["mean"] == 0


def test_training_sets_without_runs_are_left_out_and_the_order_is_fixed(summary: dict[str, Any]) -> None:
    assert list(summary) == ["distilled", "random_real", "experts", "full_data"]
    assert list(summarise(RUNS[::-1], LABELS, NAMES, "paper", "convnet")) == list(summary)


def test_figures_do_not_depend_on_the_order_of_runs(summary: dict[str, Any]) -> None:
    again = summarise([RUNS[1], RUNS[0], *RUNS[2:]], LABELS, NAMES, "paper", "convnet")
    assert json.dumps(again) == json.dumps(summary)


def test_by_network_uses_one_protocol(summary: dict[str, Any]) -> None:
    means = {s: {n: f["mean"] for n, f in by.items()} for s, by in by_network(summary, "paper").items()}
    assert means == {
        "distilled": {"convnet": pytest.approx(0.8), "mlp": 1.0},
        "random_real": {"convnet": 0.5},
        "experts": {"convnet": 0.9},
        "full_data": {},  # its protocol here is "own"
    }


def right(subject: str, of_ten: int, protocol: str = "paper", network: str = "convnet") -> dict[str, Any]:
    """Return a run that classifies `of_ten` of ten galaxies of each class correctly."""
    return run(subject, [[of_ten, 10 - of_ten], [10 - of_ten, of_ten]], protocol, network)


SCORED = [
    *(right("distilled", n) for n in (7, 8)),
    *(right("random_real", n) for n in (5, 6)),
    *(right("distilled", n, unaugmented("paper")) for n in (6, 7)),
    *(right("random_real", n, unaugmented("paper")) for n in (4, 5)),
    *(right("full_data", n, "") for n in (9, 10)),
]


def test_scores_use_the_main_protocol_and_network_alone() -> None:
    others = [
        right(s, 1, p, n) for s in ("distilled", "random_real") for p, n in (("paper", "mlp"), ("other", "convnet"))
    ]
    result = robust_scores(SCORED + others, "paper", "convnet")
    assert result == {
        "label_robust": metrics.label_robust([0.9, 1.0], [0.7, 0.8], [0.5, 0.6]),
        "augmentation_robust": metrics.augmentation_robust([0.7, 0.8], [0.5, 0.6], [0.6, 0.7], [0.4, 0.5]),
    }
    # hard labels: .5 (.75 - .55) - .5 (.95 - .75) = 0
    assert result["label_robust"]["score"] == pytest.approx(1 / (np.e + 1))


def test_a_soft_labelled_set_has_hard_label_accuracies_of_its_own() -> None:
    result = robust_scores([*SCORED, *(right("distilled_hard", n) for n in (6, 6))], "paper", "convnet")
    assert result["label_robust"] == metrics.label_robust([0.9, 1.0], [0.7, 0.8], [0.5, 0.6], [0.6, 0.6])


def test_a_report_is_read_as_written(folder: Folder, summary: dict[str, Any]) -> None:
    summary["distilled"]["scores"] = robust_scores(SCORED, "paper", "convnet")
    with folder.writing("runs.parquet") as path:
        pq.write_table(pa.Table.from_pylist(RUNS, RUNS_SCHEMA), path)
    folder.write("evaluation.json", json.dumps(summary).encode())
    commit(folder, kind=KIND, identity="i", config={}, parents={}, seed=0, uris={})
    report = EvaluationReport.open(folder.uri)
    assert report.runs.schema.equals(RUNS_SCHEMA)
    assert report.runs.to_pylist() == RUNS
    assert report.summary == summary


def test_protocol_is_chosen_on_validation_images() -> None:
    plain = run("distilled", [[9, 1], [1, 9]], protocol=unaugmented("paper")) | {"validation": 0.9}
    worse, better = ({"validation": value} for value in (0.6, 0.7))
    runs = [RUNS[0] | better, RUNS[1] | {"validation": 0.5}, RUNS[2] | better, RUNS[4] | worse, RUNS[5], plain]
    folder = Folder("memory://chosen")
    made = commit(folder, kind=KIND, identity="i", config={}, parents={}, seed=0, uris={})
    summary = summarise(runs, LABELS, NAMES, "paper", "convnet")
    report = EvaluationReport(folder, made, summary, pa.Table.from_pylist(runs, RUNS_SCHEMA))
    chosen = report.chosen("convnet")
    assert {name: pair["protocol"] for name, pair in chosen.items()} == {
        "distilled": "other", "random_real": "paper", "experts": ""
    }  # fmt: skip
    assert chosen["distilled"]["accuracy"]["mean"] == 0.5
    assert report.chosen("mlp") == {}


def test_interval_covers_galaxies_besides_networks(summary: dict[str, Any]) -> None:
    """Two networks that agree on all galaxies still have an interval."""
    same = [run("distilled", [[8, 2], [1, 9]], seed=seed) for seed in (0, 1)]
    figures = summarise(same, LABELS, NAMES, "paper", "convnet")["distilled"]["balanced_accuracy"]
    assert figures["std"] == 0
    assert 0.1 < figures["ci95"] < 0.3
    assert summary["random_real"]["balanced_accuracy"]["ci95"] is None, "a single network has no interval"


def test_purity_interval_covers_galaxies() -> None:
    same = [run("distilled", [[8, 2], [2, 8]], seed=seed) for seed in (0, 1)]
    purity = summarise(same, LABELS, NAMES, "paper", "convnet")["distilled"]["per_class"]["Er"]["purity"]
    assert purity["ci95"] == pytest.approx(2.09 * np.sqrt(0.8 * 0.2 / 10), rel=0.1)


def test_difference_to_the_distilled_set_is_paired_by_galaxies() -> None:
    better = [run("distilled", [[9, 1], [1, 9]], seed=seed) for seed in (0, 1)]
    worse = [run("random_real", [[8, 2], [2, 8]], seed=seed) for seed in (0, 1)]
    summary = summarise(better + worse, LABELS, NAMES, "paper", "convnet")
    assert "difference" not in summary["distilled"]
    difference = summary["random_real"]["difference"]
    assert difference["mean"] == pytest.approx(0.1)
    assert difference["low"] < 0 < difference["high"] < 0.4
    assert "did NOT beat random images (+0.100" in verdict(summary)


def test_set_beats_a_baseline_if_the_interval_lies_above_0() -> None:
    better = [run("distilled", [[10, 0], [0, 10]], seed=seed) for seed in (0, 1, 2)]
    worse = [run("random_real", [[2, 8], [8, 2]], seed=seed) for seed in (0, 1, 2)]
    assert "beats random images (+0.800" in verdict(summarise(better + worse, LABELS, NAMES, "paper", "convnet"))
