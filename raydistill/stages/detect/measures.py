"""Measure average precision, as COCO does, and detection of central galaxies.

Shape suffixes: D detections and T true boxes of an image. A box has corners left, top, right,
bottom [px].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from raydistill.morphology.structure import Floats
from raydistill.stages.detect.scenes.fields import boxes_of

OVERLAP = 0.5  # least intersection over union of a hit
OVERLAPS = np.linspace(0.5, 0.95, 10)  # those of COCO's mean average precision
RECALLS = np.linspace(0, 1, 101)  # at which COCO reads the precision
CENTRED = 1 / 16  # of the side: greatest distance of a central detection from the centre of the frame
WIDEST = 0.75  # of the side: greatest width and height of a central detection


class Matches(NamedTuple):
    """Detections of one image by falling score.

    Attributes
    ----------
    order_D, scores_D
        Rows of the detections, int64 `[D]`, and their scores.
    truth_D
        The true box of each, -1 for none.
    truths
        Number of true boxes.
    """

    order_D: npt.NDArray[np.int64]
    scores_D: Floats
    truth_D: npt.NDArray[np.int64]
    truths: int


def overlaps(boxes_D4: Floats, truths_T4: Floats) -> Floats:
    """Return the intersection over union of each pair, float64 `[D, T]`."""
    a, b = np.asarray(boxes_D4, np.float64)[:, None], np.asarray(truths_T4, np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = np.prod(np.maximum(sides, 0), axis=-1)
    areas = [np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1) for boxes in (a, b)]
    return np.asarray(common / np.maximum(areas[0] + areas[1] - common, 1e-12))


def match(boxes_D4: Floats, scores_D: Floats, truths_T4: Floats) -> Matches:
    """Match detections by falling score, each with the free true box it overlaps most."""
    order_D = np.argsort(-np.asarray(scores_D), kind="stable")
    overlap_DT = overlaps(np.asarray(boxes_D4).reshape(-1, 4), np.asarray(truths_T4).reshape(-1, 4))[order_D]
    truth_D = _assign(overlap_DT, OVERLAP)
    return Matches(order_D, np.asarray(scores_D, np.float64)[order_D], truth_D, overlap_DT.shape[1])


def _assign(overlap_DT: Floats, least: float) -> npt.NDArray[np.int64]:
    """Return the true box of each detection, in order; -1 for none."""
    free_DT, truth_D = overlap_DT.copy(), np.full(len(overlap_DT), -1)
    for row in range(len(free_DT) if free_DT.shape[1] else 0):
        best = int(free_DT[row].argmax())
        if free_DT[row, best] >= least:
            truth_D[row] = best
            free_DT[:, best] = 0
    return truth_D


class CategoryMatches(NamedTuple):
    """Detections of one category in one image by falling score.

    Attributes
    ----------
    scores_D, hits_OD
        Scores, and whether each hits a true box of the category at each of `OVERLAPS`.
    truths
        Number of true boxes.
    """

    scores_D: Floats
    hits_OD: npt.NDArray[np.bool_]
    truths: int


def match_categories(found: dict[str, Any], truth: Sequence[dict[str, Any]], count: int) -> list[CategoryMatches]:
    """Match a picture's detections with the true sources of their category.

    Parameters
    ----------
    found
        Lists `boxes`, `scores` and `categories` from 0, of the detections.
    truth
        Annotations with `bbox`, and `category_id` from 1.
    count
        Number of categories.
    """
    boxes_D4 = np.asarray(found["boxes"], np.float64).reshape(-1, 4)
    scores_D, category_D = np.asarray(found["scores"], np.float64), np.asarray(found["categories"], np.int64)
    truths_T4, category_T = boxes_of(truth), np.array([source["category_id"] - 1 for source in truth], np.int64)
    result = []
    for number in range(count):
        d, t = category_D == number, category_T == number
        order = np.argsort(-scores_D[d], kind="stable")
        overlap_DT = overlaps(boxes_D4[d][order], truths_T4[t])
        hits_OD = np.stack([_assign(overlap_DT, least) >= 0 for least in OVERLAPS])
        result.append(CategoryMatches(scores_D[d][order], hits_OD, int(t.sum())))
    return result


def mean_average_precision(images: Sequence[Sequence[CategoryMatches]], overlaps: slice = slice(None)) -> float:
    """Return the mean average precision over categories and overlaps.

    Of categories that have true sources: COCO's AP; at the first overlap alone its AP50. NaN
    without a true source.

    Parameters
    ----------
    images
        The matches of each category, for each image.
    overlaps
        Which of `OVERLAPS`.
    """
    values = []
    for category in zip(*images, strict=True):
        if truths := sum(image.truths for image in category):
            order = np.argsort(-np.concatenate([image.scores_D for image in category]), kind="stable")
            hits_OD = np.concatenate([image.hits_OD[overlaps] for image in category], axis=1)
            values += [_average_precision(hits_D, truths) for hits_D in np.cumsum(hits_OD[:, order], axis=1)]
    return float(np.mean(values)) if values else float("nan")


def _ranked(images: Sequence[Matches]) -> tuple[Floats, Floats]:
    """Return all detection scores, falling, and the number of hits up to each."""
    scores, truth = np.concatenate([m.scores_D for m in images]), np.concatenate([m.truth_D for m in images])
    order = np.argsort(-scores, kind="stable")
    return scores[order], np.cumsum(truth[order] >= 0)


def average_precision(images: Sequence[Matches]) -> float:
    """Return the mean best precision at or above each of 101 recalls, as in COCO.

    NaN if no image has a true object.
    """
    truths = sum(image.truths for image in images)
    return _average_precision(_ranked(images)[1], truths) if truths else float("nan")


def _average_precision(hits: npt.NDArray[Any], truths: int) -> float:
    """Return the average precision from the hits up to each detection."""
    precision, recall = hits / np.arange(1, len(hits) + 1), hits / truths
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
    return float(best[np.searchsorted(recall, RECALLS - 1e-12)].mean())


def precision_recall(images: Sequence[Matches], threshold: float) -> tuple[float, float]:
    """Return precision and recall of the detections with at least this score."""
    kept = [image.truth_D[image.scores_D >= threshold] >= 0 for image in images]
    hits, all_, truths = sum(hit.sum() for hit in kept), sum(map(len, kept)), sum(image.truths for image in images)
    return float(hits / all_) if all_ else 0.0, float(hits / truths) if truths else 0.0


def best_threshold(images: Sequence[Matches]) -> float:
    """Return the score with the largest harmonic mean of precision and recall."""
    scores, hits = _ranked(images)
    if not len(scores):
        return 1.0
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + sum(image.truths for image in images))
    return float(scores[f1.argmax()])


def central(boxes_D4: Floats, side: float) -> np.ndarray:
    """Return which boxes are of the galaxy at the centre of a frame, bool `[D]`.

    Such a box is centred within 1/16 of the frame's side, and at most 3/4 wide and high.
    """
    boxes = np.asarray(boxes_D4, np.float64).reshape(-1, 4)
    offset = np.abs((boxes[:, :2] + boxes[:, 2:]) / 2 - side / 2).max(axis=1)
    return np.asarray((offset <= CENTRED * side) & ((boxes[:, 2:] - boxes[:, :2]).max(axis=1) <= WIDEST * side))
