"""Test the figures of a detector against hand-made detections."""

from __future__ import annotations

from typing import Any

import pytest

from raydistill.morphology.structure import Box
from raydistill.stages.detect.evaluation import Evaluated, figures_of

CENTRE, SIDEWAYS, NOWHERE = [54.0, 54.0, 74.0, 74.0], [10.0, 10.0, 30.0, 30.0], [90.0, 90.0, 100.0, 100.0]


def source(box: list[float], category: int = 0) -> dict[str, Any]:
    left, top, right, bottom = box
    return {"bbox": [left, top, right - left, bottom - top], "area": 100, "category_id": category}


def found(
    boxes: list[list[float]], scores: list[float], categories: list[int], photutils: list[list[float]]
) -> dict[str, Any]:
    return {
        "boxes": boxes,
        "scores": scores,
        "categories": categories,
        "annotations": [source(box) for box in photutils],
    }


def figures(class_names: tuple[str, ...] | None = ("round", "spiral")) -> dict[tuple[str, str, str], float]:
    truth = [{"annotations": [source(CENTRE, 1), source(SIDEWAYS, 2)]}] * 3
    fields = [found([CENTRE, SIDEWAYS, NOWHERE], [0.9, 0.8, 0.3], [0, 0, 1], [CENTRE])] * 3
    frames = [
        found([CENTRE, NOWHERE], [0.9, 0.85], [1, 0], [CENTRE, SIDEWAYS]),
        found([SIDEWAYS, CENTRE], [0.9, 0.3], [1, 0], [CENTRE]),
    ]
    evaluated = {
        "validation": Evaluated(fields, truth),
        "test": Evaluated(fields, truth),
        "frames": Evaluated(frames, None, [1, 0]),
    }
    metrics = figures_of(evaluated, Box(*CENTRE), 128, 0, class_names)
    assert metrics["threshold"] == 0.8, "chosen on validation fields"
    return {(figure["images"], figure["method"], figure["metric"]): figure["value"] for figure in metrics["figures"]}


def test_figures_are_those_of_the_hand_made_detections() -> None:
    values = figures()
    assert values["fields", "detector", "average_precision"] == 1
    assert values["fields", "detector", "precision"] == 1
    assert values["fields", "detector", "recall"] == 1
    assert values["fields", "photutils", "recall"] == 0.5
    assert values["fields", "detector", "class_accuracy"] == 0.5
    assert values["frames", "detector", "precision"] == pytest.approx(1 / 3, abs=1e-4)
    assert values["frames", "detector", "recall"] == pytest.approx(1 / 3, abs=1e-4)
    assert values["frames", "detector", "detections_per_frame"] == 1.5
    assert values["frames", "photutils", "detections_per_frame"] == 1.5
    assert values["frames", "detector", "central_found"] == 0.5
    assert values["frames", "photutils", "central_found"] == 1
    assert values["frames", "fixed box", "central_found"] == 1
    assert values["frames", "fixed box", "precision"] == 1
    assert values["frames", "detector", "class_accuracy"] == 1


def test_frames_with_other_classes_have_no_class_accuracy() -> None:
    assert ("frames", "detector", "class_accuracy") not in figures(None)
