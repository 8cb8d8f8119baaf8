"""Warnings of classes that are too small to distil or to evaluate."""

from __future__ import annotations

import pytest

from raydistill.config import Distill
from raydistill.pipeline.checks import FEW_TEST, MAX_STANDARD_ERROR, warn_of_few_test, warn_of_few_training


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_limit_is_that_of_the_standard_error() -> None:
    assert 0.5 / FEW_TEST**0.5 <= MAX_STANDARD_ERROR < 0.5 / (FEW_TEST - 1) ** 0.5


def test_classes_with_few_test_galaxies_are_named(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_few_test({"a": 12, "b": 11, "c": 0, "d": 400})
    assert messages(caplog) == [
        "curate: too few test galaxies to evaluate a class: c (0), b (11); with fewer than 12, the standard error of its "
        "accuracy may exceed 0.15 (.5/√n); add galaxies, merge classes, or enlarge the test part of curate.split"
    ]
    caplog.clear()
    warn_of_few_test({"a": 12, "d": 400})
    assert not caplog.records


@pytest.mark.parametrize("stage", ["curate", "distill"])
def test_classes_with_fewer_galaxies_than_images_are_named(caplog: pytest.LogCaptureFixture, stage: str) -> None:
    warn_of_few_training({"a": 10, "b": 9, "c": 1, "d": 0}, Distill(images_per_class=10), stage)
    assert messages(caplog) == [
        f"{stage}: fewer training galaxies than distilled images: c (1), b (9); initial images and baselines "
        "repeat them; add galaxies, merge classes, or lower distill.images_per_class"
    ]
    caplog.clear()
    warn_of_few_training({"a": 1}, Distill(images_per_class=1), stage)
    assert not caplog.records


def test_classes_that_share_by_frequency_are_named(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_few_training({"a": 1, "b": 12}, Distill(images_per_class=10, allocation="frequency"), "curate")
    (text,) = messages(caplog)
    assert "b (12)" in text


def test_long_lists_are_cut(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_few_training({f"c{n:03d}": 1 + n % 3 for n in range(150)}, Distill(images_per_class=5), "curate")
    (text,) = messages(caplog)
    assert ": c000 (1), c003 (1)," in text
    assert "and 140 more; initial" in text
