"""Test the measures against figures computed by hand and their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from raydistill.stages.detect.measures import (
    Matches,
    average_precision,
    best_threshold,
    central,
    match,
    match_categories,
    mean_average_precision,
    overlaps,
    precision_recall,
)
from raydistill.statistics.resampling import bootstrap_interval

BOX = [0.0, 0.0, 10.0, 10.0]
FAR = [50.0, 50.0, 60.0, 60.0]


def matched(scores: list[float], truth: list[int], truths: int) -> Matches:
    return Matches(np.arange(len(scores)), np.array(scores), np.array(truth), truths)


def test_overlap_is_intersection_over_union() -> None:
    shifted, inside = [5.0, 0.0, 15.0, 10.0], [0.0, 0.0, 5.0, 5.0]
    result = overlaps(np.array([BOX]), np.array([BOX, shifted, inside, FAR]))
    np.testing.assert_allclose(result, [[1, 50 / 150, 25 / 100, 0]])


def test_a_true_box_is_found_once_and_by_the_best_score() -> None:
    nearly = [1.0, 0.0, 10.0, 10.0]
    result = match(np.array([nearly, BOX, FAR]), np.array([0.9, 0.8, 0.7]), np.array([BOX]))
    assert result.order_D.tolist() == [0, 1, 2]
    assert result.truth_D.tolist() == [0, -1, -1]
    assert result.truths == 1


def test_each_detection_takes_the_free_box_that_it_overlaps_most() -> None:
    truth = np.array([BOX, [2.0, 0.0, 12.0, 10.0]])
    result = match(np.array([[1.9, 0.0, 11.9, 10.0], BOX]), np.array([0.5, 0.4]), truth)
    assert result.truth_D.tolist() == [1, 0]


def test_average_precision_is_that_of_a_hand_made_case() -> None:
    """Hits at ranks 1 and 3 give an average precision of (51 * 1 + 50 * 2/3) / 101.

    The precision is 1 up to recall 1/2, and 2/3 up to recall 1.
    """
    images = [matched([0.9, 0.5], [0, -1], 1), matched([0.4], [0], 1)]
    assert average_precision(images) == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert average_precision([matched([0.9], [0], 2)]) == pytest.approx(51 / 101)
    assert average_precision([matched([], [], 2)]) == 0
    assert np.isnan(average_precision([matched([0.5], [-1], 0)]))


def test_average_precision_is_the_area_below_the_curve() -> None:
    """It is read at 101 recalls, so the area may differ by their distance."""
    rng = np.random.default_rng(0)
    images = [matched(rng.random(20).tolist(), rng.integers(-1, 1, 20).tolist(), 30) for _ in range(10)]
    scores, hits = (
        np.concatenate([image.scores_D for image in images]),
        np.concatenate([image.truth_D for image in images]) >= 0,
    )
    order = np.argsort(-scores)
    precision = np.cumsum(hits[order]) / np.arange(1, len(hits) + 1)
    best = np.array([precision[row:].max() for row in range(len(hits))])
    area = float((best * hits[order]).sum() / 300)
    assert average_precision(images) == pytest.approx(area, abs=0.01)


def test_the_threshold_gives_the_best_precision_and_recall() -> None:
    images = [matched([0.9, 0.6, 0.3], [0, 1, -1], 2), matched([0.5, 0.2], [-1, -1], 0)]
    assert best_threshold(images) == 0.6
    assert precision_recall(images, 0.6) == (1.0, 1.0)
    assert precision_recall(images, 0.25) == (2 / 4, 1.0)
    assert precision_recall(images, 0.95) == (0.0, 0.0)
    assert best_threshold([matched([], [], 3)]) == 1.0


def test_a_central_box_is_centred_and_not_the_whole_frame() -> None:
    boxes = [[50, 50, 78, 78], [62, 50, 90, 78], [0, 0, 128, 128], [0, 0, 30, 30]]
    assert central(np.array(boxes), 128).tolist() == [True, False, False, False]
    assert central(np.zeros((0, 4)), 128).shape == (0,)


def test_the_interval_of_a_mean_is_that_of_theory() -> None:
    values = np.random.default_rng(1).normal(0, 1, 400).tolist()
    result = bootstrap_interval(values, lambda some: float(np.mean(some)), seed=0)
    assert result.value == pytest.approx(np.mean(values))
    assert result.high - result.low == pytest.approx(2 * 1.96 / 20, rel=0.15)
    assert result == bootstrap_interval(values, lambda some: float(np.mean(some)), seed=0)


def test_mean_average_precision_is_that_of_categories_and_overlaps() -> None:
    truth = [{"bbox": [0, 0, 10, 10], "category_id": 1}, {"bbox": [20, 20, 10, 10], "category_id": 2}]
    # Category 0 is exact; that of 1 overlaps .72: hits at .5 to .7. Category 2 has no truth, and one detection.
    found = {
        "boxes": [[0, 0, 10, 10], [20, 20, 30, 27.2], [40, 40, 50, 50]],
        "scores": [0.9, 0.8, 0.7],
        "categories": [0, 1, 2],
    }
    image = match_categories(found, truth, 3)
    assert mean_average_precision([image], slice(0, 1)) == 1
    assert mean_average_precision([image]) == pytest.approx((1 + 0.5) / 2)
    confused = match_categories(found | {"categories": [1, 0, 2]}, truth, 3)
    assert mean_average_precision([confused]) == 0
    assert np.isnan(mean_average_precision([match_categories(found, [], 3)]))
