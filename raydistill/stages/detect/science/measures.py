"""Measure average precision at overlap 0.5, and detection of central galaxies.

Shape suffixes: D detections and T true boxes of an image. A box has corners left, top, right,
bottom [px]. All functions ignore classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from raydistill.morphology.segmentation import Floats

OVERLAP = 0.5  # least intersection over union of a hit
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
    areas = [np.prod(one[..., 2:] - one[..., :2], axis=-1) for one in (a, b)]
    return np.asarray(common / np.maximum(areas[0] + areas[1] - common, 1e-12))


def match(boxes_D4: Floats, scores_D: Floats, truths_T4: Floats) -> Matches:
    """Match detections by falling score, each with the free true box it overlaps most."""
    order_D = np.argsort(-np.asarray(scores_D), kind="stable")
    overlap_DT = overlaps(np.asarray(boxes_D4).reshape(-1, 4), np.asarray(truths_T4).reshape(-1, 4))
    truth_D = np.full(len(order_D), -1)
    for row, index in enumerate(order_D if overlap_DT.shape[1] else []):
        best = int(overlap_DT[index].argmax())
        if overlap_DT[index, best] >= OVERLAP:
            truth_D[row] = best
            overlap_DT[:, best] = 0
    return Matches(order_D, np.asarray(scores_D, np.float64)[order_D], truth_D, overlap_DT.shape[1])


def _ranked(images: Sequence[Matches]) -> tuple[Floats, Floats]:
    """Return all detection scores, falling, and the number of hits up to each."""
    scores, truth = np.concatenate([one.scores_D for one in images]), np.concatenate([one.truth_D for one in images])
    order = np.argsort(-scores, kind="stable")
    return scores[order], np.cumsum(truth[order] >= 0)


def average_precision(images: Sequence[Matches]) -> float:
    """Return the mean best precision at or above each of 101 recalls, as in COCO.

    NaN if no image has a true object.
    """
    truths, (_, found) = sum(one.truths for one in images), _ranked(images)
    if not truths:
        return float("nan")
    precision, recall = found / np.arange(1, len(found) + 1), found / truths
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
    return float(best[np.searchsorted(recall, RECALLS - 1e-12)].mean())


def precision_recall(images: Sequence[Matches], threshold: float) -> tuple[float, float]:
    """Return precision and recall of the detections with at least this score."""
    kept = [one.truth_D[one.scores_D >= threshold] >= 0 for one in images]
    found, all_, truths = sum(one.sum() for one in kept), sum(map(len, kept)), sum(one.truths for one in images)
    return float(found / all_) if all_ else 0.0, float(found / truths) if truths else 0.0


def best_threshold(images: Sequence[Matches]) -> float:
    """Return the score with the largest harmonic mean of precision and recall."""
    scores, found = _ranked(images)
    if not len(scores):
        return 1.0
    f1 = 2 * found / (np.arange(1, len(found) + 1) + sum(one.truths for one in images))
    return float(scores[f1.argmax()])


def central(boxes_D4: Floats, side: float) -> np.ndarray:
    """Return which boxes are of the galaxy at the centre of a frame, bool `[D]`.

    Such a box is centred within 1/16 of the frame's side, and at most 3/4 wide and high.
    """
    boxes = np.asarray(boxes_D4, np.float64).reshape(-1, 4)
    offset = np.abs((boxes[:, :2] + boxes[:, 2:]) / 2 - side / 2).max(axis=1)
    return np.asarray((offset <= CENTRED * side) & ((boxes[:, 2:] - boxes[:, :2]).max(axis=1) <= WIDEST * side))
