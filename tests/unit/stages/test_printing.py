"""The text at the end of a stage: narrow tables, and a verdict from figures."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pyarrow as pa
import pytest

from raydistill.artifacts.tables import write_rows
from raydistill.config import load
from raydistill.stages.audit.artifact import AuditReport, AuditSummary, audit_report, audit_verdict
from raydistill.stages.evaluate.artifact import HEAD, SUBJECTS, EvaluationReport
from raydistill.stages.evaluate.config import ShippedBaseline
from raydistill.stages.evaluate.report.printing import evaluation_report
from raydistill.stages.evaluate.report.text import verdict
from raydistill.stages.hunt.artifact import METRICS, METRICS_SCHEMA, HuntReport, HuntSummary, hunt_report, hunt_verdict
from raydistill.statistics.testing import Finding
from raydistill.storage import Folder
from raydistill.text import WIDTH, shown_name
from tests.words import false_words

FINDING = Finding("wasserstein", "flux", "higher", 1.234, 1.1, 1.4, 1.0, 0.9, 1.3, 0.5, False)
SUMMARY = AuditSummary("synthetic", "c", "demo", True, 32, 350, 350, 350, 350, 350, ("scattering",), True, 399, 0)
NARROW = Folder("/runs")
NO_MANIFEST: Any = SimpleNamespace(files={})


@pytest.mark.parametrize(
    ("difference", "low", "high", "expected"),
    [
        (
            7.8,
            2.1,
            13.5,
            "7.8 more than without (95 % interval over the seeds +2.1 to +13.5): more than chance explains.",
        ),
        (9.4, -0.5, 19.3, "9.4 more than without (95 % interval over the seeds -0.5 to +19.3): which may be chance."),
        (-3.0, -7.6, 1.6, "3.0 fewer than without (95 % interval over the seeds -7.6 to +1.6): which may be chance."),
        (
            -5.0,
            -7.6,
            -2.0,
            "5.0 fewer than without (95 % interval over the seeds -7.6 to -2.0): more than chance explains.",
        ),
        (5.0, math.nan, math.nan, "5.0 more than without; one seed does not show whether that is chance."),
    ],
)
def test_verdict_of_a_hunt_follows_from_the_interval(difference: float, low: float, high: float, expected: str) -> None:
    result = {"mean": 28.4, "difference": difference, "difference_low": low, "difference_high": high}
    text = hunt_verdict("injection", 100, result)
    assert text.startswith("With the synthetic examples 'injection', 100 labels find 28.4 objects, ")
    assert text.endswith(expected)


@pytest.mark.parametrize(
    ("feature", "significant", "expected"),
    [
        ("flux", False, "cannot be distinguished from simulated galaxies: none of the 2 metrics differs"),
        (
            "flux",
            True,
            "can be distinguished from simulated galaxies: 1 of 2 metrics differ by more than chance, some of them in",
        ),
        ("gini", True, "1 of 2 metrics differ by more than chance, none of them in flux or colour"),
    ],
)
def test_verdict_of_an_audit_follows_from_its_tests(feature: str, significant: bool, expected: str) -> None:
    findings = (FINDING, replace(FINDING, feature=feature, significant=significant))
    assert expected in audit_verdict(AuditReport(NARROW, NO_MANIFEST, SUMMARY, findings))


def test_audit_of_many_metrics_is_narrow() -> None:
    names = [
        ("classifier_auc", "scattering"),
        ("sliced_wasserstein", "morphology"),
        ("wasserstein", "colour_red_green"),
    ]
    findings = [replace(FINDING, metric=metric, feature=of, significant=True, p_value=0.0025) for metric, of in names]
    text = audit_report(load("demo"), AuditReport(NARROW, NO_MANIFEST, SUMMARY, tuple(findings)))
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "p = 0.003" in text or "p = 0.002" in text


def _evaluation() -> EvaluationReport:
    figure = {"mean": 0.36, "std": 0.02, "n": 5, "ci95": 0.028}
    entry = {"balanced_accuracy": figure, "accuracy": figure, "all": []}
    worse = entry | {"difference": {"mean": 0.0, "low": -0.04, "high": 0.04, "p_value": 1.0}}
    summary = (
        dict.fromkeys(SUBJECTS, worse)
        | {"distilled": entry}
        | {"experts": entry | {"all": [{"network": "convnet-d3-w32"}]}}
    )
    return EvaluationReport(NARROW, NO_MANIFEST, summary, pa.table({}))


def test_evaluation_shows_its_table_and_verdict() -> None:
    report = _evaluation()
    text = evaluation_report(load("demo"), report)
    assert max(map(len, text.splitlines())) <= WIDTH
    for shown in (repr(report), report._repr_html_(), text):
        assert all(shown_name(name) in shown for name in SUBJECTS)
        assert "real" not in shown, "the survey may be simulated"
        assert "0.360 ± 0.028" in shown
        assert "NOT beat random images (+0.000 [-0.040, +0.040]) and class means" in " ".join(shown.split())
    assert len(repr(report)) < 2000
    assert "It reaches 100% of its experts' balanced accuracy." in text


def test_a_set_for_heads_reaches_no_share_of_networks() -> None:
    report = _evaluation()
    report.summary["distilled"]["all"] = [{"protocol": HEAD, "network": HEAD}]
    assert "It reaches" not in evaluation_report(load("demo"), report)


def test_a_set_without_these_baselines_is_not_compared() -> None:
    text = verdict({"distilled": {}, "k_center": {}})
    assert text == "The distilled set is not compared: evaluate.baselines has neither random_real nor class_mean."


def test_names_in_a_notebook_are_text() -> None:
    report = _evaluation()
    report.summary["<script>"] = report.summary["dm"]
    assert "<script>" not in report._repr_html_()


def test_hunt_shows_each_strategy_with_its_meaning(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    strategies = ("upper_bound", "lanes", "real", "random")
    summary = HuntSummary("lanes", "demo", True, "a > 0", "seen", 1, 53, 3000, 5, 5, 20, 0.5, strategies)
    row = {
        "mean": 28.4,
        "low": 24.4,
        "high": 32.4,
        "difference": 7.8,
        "difference_low": 2.1,
        "difference_high": 13.5,
        "seeds": 5,
    }
    keys = [(moment, metric) for moment, metric in (("end", "found"), ("start", "found_in_first"))]
    rows = [
        {"strategy": name, "moment": moment, "metric": metric, **row} for name in strategies for moment, metric in keys
    ]
    write_rows(folder, METRICS, rows, METRICS_SCHEMA)
    text = hunt_report(load("demo_hunt"), HuntReport(folder, NO_MANIFEST, summary))
    assert max(map(len, text.splitlines())) <= WIDTH
    assert not false_words(text)
    assert "lanes: learns from labels and from synthetic examples" in text
    assert "survey_only: learns from labels alone" in text
    assert text.count("strategy") == 1, "one table holds all columns"
    assert "95 % intervals over the seeds, for these galaxies" in " ".join(text.split())
    part = hunt_report(
        load("demo_hunt", ["hunt.oracle.part={index: 1, parts: 2}"]), HuntReport(folder, NO_MANIFEST, summary)
    )
    assert "for these galaxies of hunt.oracle.part 1 of 2" in " ".join(part.split())


def test_every_baseline_has_its_place_and_its_explanation() -> None:
    assert set(get_args(ShippedBaseline)) <= set(SUBJECTS)
